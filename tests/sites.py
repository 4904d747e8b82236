"""Apps with the middleware around them, and a handler that reads, for tests of handlers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from anyio.lowlevel import checkpoint
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from starlette_upload_keepalive import Upload, UploadKeepAliveMiddleware, Uploads
from tests.asgi import Answer, file_part, multipart, send_request

Endpoint = Callable[..., Any]
BODY = multipart(file_part(b"data"))


def kept_alive(app: ASGIApp, uploads: Uploads | None = None) -> ASGIApp:
    return UploadKeepAliveMiddleware(app, uploads)


def starlette(endpoint: Endpoint, uploads: Uploads, path: str = "/{rest:path}") -> ASGIApp:
    return kept_alive(Starlette(routes=[Route(path, endpoint, methods=["POST"])]), uploads)


def outcomes(uploads: Uploads) -> list[tuple[str, str, Any]]:
    return [(job.handler, job.state.value, job.result) for job in uploads.jobs]


async def reading(upload: Upload) -> str:
    await checkpoint()  # where a cancelled one would end
    return (await upload.read()).decode()


async def answering(request: Request) -> Response:
    """Answer what the path says."""
    await request.form()
    return Response(status_code=int(request.path_params["rest"]))


class LostClient(Exception):
    pass


async def fastapi_request(app: FastAPI, uploads: Uploads, body: bytes = BODY) -> Answer:
    return await send_request(kept_alive(app, uploads), body)
