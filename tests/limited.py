"""An app with limits, and how much of a body it has received for its answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message

from starlette_upload_keepalive import Upload, UploadKeepAliveMiddleware, Uploads
from starlette_upload_keepalive.quantities import KIB
from tests.asgi import Answer, http_scope, in_messages


async def form_sizes(request: Request) -> JSONResponse:
    form = await request.form()
    sizes = [value.size for _, value in form.multi_items() if isinstance(value, Upload)]
    return JSONResponse(sizes)


def app_with(uploads: Uploads, path: str = "/") -> Starlette:
    app = Starlette(routes=[Route(path, form_sizes, methods=["POST"])])
    app.add_middleware(UploadKeepAliveMiddleware, uploads=uploads)
    return app


@dataclass
class Sent:
    """An answer, and how much of the body was received for it."""

    answer: Answer
    received: int


async def send(app: ASGIApp, body: bytes, *, length: int | None = None, path: str = "/") -> Sent:
    scope = http_scope(path)
    if length is not None:
        scope["headers"].append((b"content-length", str(length).encode()))
    messages = in_messages(body, 16 * KIB)
    waiting = iter(messages)
    received = 0

    async def receive() -> Message:
        nonlocal received
        message = next(waiting)
        received += len(message["body"])
        return message

    answer = Answer()

    async def send(message: Message) -> None:
        answer.messages.append(message)

    await app(scope, receive, send)
    return Sent(answer, received)


def refusals(caplog: pytest.LogCaptureFixture) -> Sequence[tuple[str, str]]:
    return [(record.levelname, record.getMessage()) for record in caplog.records]
