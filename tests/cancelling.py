"""Requests that are cancelled at each of their checkpoints, and who keeps their files."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Generator
from pathlib import Path
from typing import Any, BinaryIO, Literal

import anyio
import pytest
from anyio.lowlevel import checkpoint
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware.base import RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from starlette_upload_keepalive import Upload, Uploads, detach
from starlette_upload_keepalive.forms import multipart
from starlette_upload_keepalive.quantities import MIB
from tests.asgi import Part, file_part, in_messages
from tests.asgi import multipart as encode
from tests.leak_checks import open_descriptors

DATA = os.urandom(3 * MIB)
BODY = encode(file_part(DATA), Part("a", b"1"), file_part(b"small", name="other"))
MESSAGES = in_messages(BODY, 512 * 1024)

Kind = Literal["scope", "native"]


class Cancelling:
    """Awaits a call, and has it cancelled at its k-th checkpoint."""

    def __init__(self, call: Awaitable[Any], at: int, cancel: Callable[[], object]) -> None:
        self.call = call
        self.at = at
        self.cancel = cancel
        self.passed = 0

    def __await__(self) -> Generator[Any, Any, Any]:
        steps = self.call.__await__()
        assert isinstance(steps, Generator)
        step: Callable[[Any], Any] = steps.send
        given: Any = None
        while True:
            try:
                yielded = step(given)
            except StopIteration as stop:
                return stop.value
            if self.passed == self.at:
                self.cancel()
            self.passed += 1
            try:
                step, given = steps.send, (yield yielded)
            except BaseException as error:  # noqa: BLE001
                step, given = steps.throw, error


class Cancellable:
    """Runs requests of an app, each to be cancelled at the k-th checkpoint of a layer of it."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.at = 0
        self._cancel: Callable[[], object] = lambda: None
        self._passed = 0

    def layer(self, app: ASGIApp) -> ASGIApp:
        """Wrap the layer whose checkpoints count."""

        async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
            call = Cancelling(app(scope, receive, send), self.at, self._cancel)
            try:
                await call
            finally:
                self._passed = call.passed

        return wrapped

    async def run(self, call: Callable[[], Awaitable[object]]) -> bool:
        """Run a request. Returns whether it was cancelled."""
        if self.kind == "native":
            task = asyncio.ensure_future(call())
            self._cancel = task.cancel
            await asyncio.wait([task])
            if not task.cancelled():
                task.result()
        else:
            with anyio.CancelScope() as scope:
                self._cancel = scope.cancel
                await call()
        return self._passed > self.at


class Kept:
    """All uploads and files that a request made, held on to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.uploads: list[Upload] = []
        self.files: list[BinaryIO] = []

        def keeping(*args: Any, **named: Any) -> Upload:
            self.uploads.append(Upload(*args, **named))
            return self.uploads[-1]

        monkeypatch.setattr(multipart, "Upload", keeping)

    async def all_closed(self) -> None:
        assert all(upload._view.closed for upload in self.uploads)
        assert all(file.closed for file in self.files)
        # A thread that was left behind by a native cancel lets go of the blob itself.
        with anyio.fail_after(10):
            while not all(upload._view.blob.closed for upload in self.uploads):
                await checkpoint()

    def forget(self) -> None:
        self.uploads.clear()
        self.files.clear()


ON_EACH_LOOP = pytest.mark.parametrize(
    ("anyio_backend", "kind"), [("asyncio", "scope"), ("asyncio", "native"), ("trio", "scope")]
)


def make_app(kept: Kept, tmp_path: Path, uploads: Uploads, *layers: Any) -> ASGIApp:
    async def background(photo: Upload) -> None:
        await photo.seek(0)
        await photo.read()

    async def endpoint(request: Request) -> Response:
        async with request.form() as form:
            photo = form["photo"]
            assert isinstance(photo, Upload)
            kept.files.append(photo.file)
            assert await photo.read() == DATA
            async with detach(photo) as own:
                kept.uploads.append(own)
                kept.files.append(own.file)
                await own.write(b"changed")
                kept.files.append(own.file)
            async with photo.as_path() as path:
                await checkpoint()
                assert path.stat().st_size == len(DATA)
            await photo.save(tmp_path / "saved", overwrite=True)
            async for _ in photo.chunks():
                pass
        return PlainTextResponse("ok", background=BackgroundTask(background, photo))

    app: ASGIApp = Starlette(routes=[Route("/", endpoint, methods=["POST"])])
    for layer in layers:
        app = layer(app)
    return app


async def pass_on(request: Request, call_next: RequestResponseEndpoint) -> Response:
    return await call_next(request)


async def nothing_open(uploads: Uploads, kept: Kept, before: set[tuple[int, str]]) -> None:
    await kept.all_closed()
    with anyio.fail_after(10):
        while uploads.stats().open_uploads or open_descriptors() != before:
            await checkpoint()
    assert uploads.stats().memory_bytes == 0
    kept.forget()
