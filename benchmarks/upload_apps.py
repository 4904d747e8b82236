"""The apps that are sent large files, and what they tell: how many bytes there were.

A server imports them: ``uvicorn benchmarks.upload_apps:this_package``.
"""

from __future__ import annotations

import hashlib

from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from starlette_upload_keepalive import UploadKeepAliveMiddleware

from .forms import MIB


async def _size(request: Request) -> JSONResponse:
    """Store the file, and tell its size."""
    async with request.form() as form:
        return JSONResponse(_file(form["file"]).size)


async def _digest(request: Request) -> JSONResponse:
    """Store the file, read it, and tell its SHA-256."""
    digest = hashlib.sha256()
    async with request.form() as form:
        while chunk := await _file(form["file"]).read(MIB):
            digest.update(chunk)
    return JSONResponse(digest.hexdigest())


def _file(value: UploadFile | str) -> UploadFile:
    if isinstance(value, str):
        raise TypeError("The part is no file.")
    return value


async def _body_size(request: Request) -> JSONResponse:
    """Read the body, keep nothing of it, and tell its size."""
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
    return JSONResponse(size)


routes = [
    Route("/", _size, methods=["POST"]),
    Route("/digest", _digest, methods=["POST"]),
]
stock = Starlette(routes=routes)
this_package = Starlette(routes=routes, middleware=[Middleware(UploadKeepAliveMiddleware)])
body_only = Starlette(routes=[Route("/", _body_size, methods=["POST"])])
