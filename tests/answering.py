"""Apps that answer as they are told, and a handler that counts, for tests of the middleware."""

from __future__ import annotations

import logging

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from starlette_upload_keepalive import JobState, Upload, Uploads
from starlette_upload_keepalive.jobs.options import Start
from tests.asgi import file_part, multipart

BODY = multipart(file_part(b"abc"))


def begin(status: int) -> Message:
    return {"type": "http.response.start", "status": status, "headers": []}


def body(data: bytes = b"", *, more: bool = False) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": more}


def answering(*messages: Message, error: Exception | None = None) -> ASGIApp:
    """Make an app that parses its form, sends those messages, and then raises."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await Request(scope, receive).form()
        for message in messages:
            await send(message)
        if error is not None:
            raise error

    return app


async def plain_endpoint(request: Request) -> Response:
    await request.form()
    return PlainTextResponse("ok")


def counting(*, path: str | None = None, start: Start = "end") -> tuple[Uploads, list[bytes]]:
    """Make uploads with a handler of the field "photo", and the list of what it reads."""
    uploads = Uploads()
    seen: list[bytes] = []

    @uploads.handler("photo", path=path, start=start)
    async def read(photo: Upload) -> None:
        seen.append(await photo.read())

    return uploads, seen


def states(uploads: Uploads) -> list[JobState]:
    return [job.state for job in uploads.jobs]


def told(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.name == "starlette_upload_keepalive"]
