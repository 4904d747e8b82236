# ruff: noqa: PLC0415
# mypy: disable-error-code="import-not-found, import-untyped, attr-defined, misc"
# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false
"""Store the files of a form, in each library's way: what the workers of `peers` run.

``python -m benchmarks.stored NAME`` is such a worker. Only one of the libraries
may be installed where it runs, so each is imported by what uses it.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from functools import cache
from tempfile import SpooledTemporaryFile
from typing import IO, TYPE_CHECKING, Any

from .forms import BOUNDARY, CONTENT_TYPE, MIB, Form, Part, noise
from .measure import WrongResult
from .worker import serve

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

# It is given the files, or the uploads that have them.
Look = Callable[[Sequence[Any]], None]


# Frameworks: a request of theirs is asked for its form


async def starlette(form: Form, look: Look) -> None:
    """Ask a Starlette request."""
    from starlette.requests import Request

    async with Request(form.scope(), form.receive()).form() as fields:
        look(list(fields.values()))


async def this_package(form: Form, look: Look) -> None:
    """Ask a Starlette request, with our middleware around it."""
    from starlette.requests import Request

    from starlette_upload_keepalive import UploadKeepAliveMiddleware, Uploads

    uploads = _only(Uploads)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async with Request(scope, receive).form() as fields:
            look(list(fields.values()))

    await form.post(UploadKeepAliveMiddleware(app, uploads=uploads))
    uploads.storage.closer.drain()


async def litestar(form: Form, look: Look) -> None:
    """Ask a Litestar request, which wants an app and an endpoint to belong to."""
    from litestar import Request

    app, endpoint = _only(_litestar_app)
    scope: Any = {**form.scope(), "litestar_app": app, "route_handler": endpoint}
    files = list((await Request(scope, form.receive()).form()).values())
    look(files)
    for file in files:
        await file.close()


def _litestar_app() -> tuple[Any, Any]:
    from litestar import Litestar, post

    async def upload() -> None: ...

    app: Any = Litestar([post("/")(upload)], request_max_body_size=None)
    return app, app.routes[0].route_handler_map["POST"][0]


async def baize(form: Form, look: Look) -> None:
    """Ask a baize request."""
    from baize.asgi import Request

    request = Request(form.scope(), form.receive())
    look(list((await request.form).values()))
    await request.close()


async def django(form: Form, look: Look) -> None:
    """Ask a Django request, as its ASGI handler makes it: the body is stored before."""
    handler = _only(_django_handler)
    body = await handler.read_body(form.receive())
    request, _ = handler.create_request(form.scope(), body)
    look(list(request.FILES.values()))
    request.close()
    body.close()


def _django_handler() -> Any:
    from django.conf import settings
    from django.core.handlers.asgi import ASGIHandler

    settings.configure(ALLOWED_HOSTS=["*"])
    return ASGIHandler()


# Parsers alone: their users write each part to a temporary file, and the event loop waits


async def defnull(form: Form, look: Look) -> None:
    """Write what ``multipart`` parses."""
    from multipart import MultipartSegment, PushMultipartParser

    files: list[IO[bytes]] = []
    with PushMultipartParser(BOUNDARY, content_length=form.size) as parser:
        async for chunk in _chunks(form):
            for event in parser.parse(chunk):
                if isinstance(event, MultipartSegment):
                    files.append(_temporary_file())
                elif event:
                    files[-1].write(event)
    _look_and_close(files, look)


async def streaming_form_data(form: Form, look: Look) -> None:
    """Write what ``streaming-form-data`` parses, which wants to be told of the parts before."""
    from streaming_form_data import StreamingFormDataParser

    files: list[IO[bytes]] = []
    parser = StreamingFormDataParser(headers={"Content-Type": CONTENT_TYPE.decode()})
    target = _only(_target)
    for part in form.parts:
        files.append(_temporary_file())
        parser.register(part.name, target(files[-1]))
    async for chunk in _chunks(form):
        parser.data_received(chunk)
    _look_and_close(files, look)


def _target() -> Any:
    from streaming_form_data.targets import BaseTarget

    class Target(BaseTarget):
        def __init__(self, file: IO[bytes]) -> None:
            super().__init__()
            self.on_data_received = file.write

    return Target


def _temporary_file() -> IO[bytes]:
    return SpooledTemporaryFile(max_size=MIB)


def _look_and_close(files: Sequence[IO[bytes]], look: Look) -> None:
    for file in files:
        file.seek(0)
    look(files)
    for file in files:
        file.close()


async def _chunks(form: Form) -> AsyncGenerator[bytes, None]:
    receive, more = form.receive(), True
    while more:
        message = await receive()
        yield message["body"]
        more = message["more_body"]


@cache
def _only(make: Callable[[], Any]) -> Any:
    """Return the one that the process has."""
    return make()


# The worker

WAYS: dict[str, Callable[[Form, Look], Awaitable[None]]] = {
    way.__name__: way
    for way in (starlette, this_package, litestar, baize, django, defnull, streaming_form_data)
}


@cache
def _form(sizes: tuple[int, ...], message_size: int) -> Form:
    parts = [Part(f"file-{i}", noise(size), f"{i}.bin") for i, size in enumerate(sizes)]
    return Form.of(parts, message_size=message_size)


async def _time(name: str, form: Form, repeat: int) -> float:
    gc.collect()
    start = time.perf_counter()
    for _ in range(repeat):
        await WAYS[name](form, lambda files: None)
    return (time.perf_counter() - start) / repeat


async def check(name: str, form: Form) -> None:
    """Raise `WrongResult` unless each file is stored as it was sent."""
    found: list[bytes] = []

    def read(files: Sequence[Any]) -> None:
        found.extend(getattr(file, "file", file).read() for file in files)

    await WAYS[name](form, read)
    if found != [part.data for part in form.parts]:
        raise WrongResult(f"{name} has not stored what was sent.")


def main(name: str) -> None:
    """Answer how many seconds one run takes, or see that it is done right."""

    def answer(
        sizes: list[int], message_size: int, repeat: int = 1, is_check: bool = False
    ) -> float | None:
        form = _form(tuple(sizes), message_size)
        return asyncio.run(check(name, form) if is_check else _time(name, form, repeat))

    serve(answer)


if __name__ == "__main__":
    main(sys.argv[1])
