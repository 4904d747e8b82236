"""P2: a request that ends anywhere, in whatever way, leaves every file closed.

The tests hold on to each upload and each file, so that the garbage collector
can't do the work.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import aclosing
from pathlib import Path
from typing import Any, BinaryIO, Literal

import anyio
import pytest
from anyio.lowlevel import checkpoint
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from starlette_upload_keepalive import (
    JobState,
    Upload,
    UploadKeepAliveMiddleware,
    Uploads,
    detach,
    multipart,
)
from starlette_upload_keepalive.blob import Blob
from starlette_upload_keepalive.private_file import PrivateFile
from starlette_upload_keepalive.storage import MIB
from tests.asgi import (
    DISCONNECT,
    Answer,
    Part,
    behind_base_http_middleware,
    file_part,
    in_messages,
    send_request,
)
from tests.asgi import multipart as encode
from tests.leak_checks import open_descriptors

pytestmark = pytest.mark.anyio

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


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Kept:
    return Kept(monkeypatch)


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


@behind_base_http_middleware
@pytest.mark.filterwarnings(  # Starlette leaves it to the garbage collector, which trio tells of
    "ignore:.*body_stream:pytest.PytestUnraisableExceptionWarning"
)
@ON_EACH_LOOP
@pytest.mark.parametrize("behind_another", [False, True], ids=["alone", "behind another"])
async def test_cancelled_at_any_checkpoint_it_leaves_nothing_open(
    kind: Kind, behind_another: bool, kept: Kept, tmp_path: Path
) -> None:
    """P2: in the parse, in the endpoint, in the answer, in a background task, in the close."""
    uploads = Uploads()
    requests = Cancellable(kind)

    def keep_alive(app: ASGIApp) -> ASGIApp:
        return UploadKeepAliveMiddleware(app, uploads)

    def another(app: ASGIApp) -> ASGIApp:
        return BaseHTTPMiddleware(app, dispatch=pass_on)

    inside = [requests.layer, another, keep_alive]
    app = make_app(
        kept, tmp_path, uploads, *(inside if behind_another else [keep_alive, requests.layer])
    )
    requests.at = -1
    await requests.run(lambda: send_request(app, MESSAGES))  # what is made once is there by now
    before = open_descriptors()
    requests.at = 0
    while await requests.run(lambda: send_request(app, MESSAGES)):
        await nothing_open(uploads, kept, before)
        requests.at += 1
    # Each message, three writes, and each call of the endpoint that waits for a thread.
    assert requests.at > len(MESSAGES) + 8


@ON_EACH_LOOP
async def test_cancelled_at_any_checkpoint_an_accepted_file_and_no_other_is_worked_on(
    kind: Kind, kept: Kept, tmp_path: Path
) -> None:
    """P4: what was answered with 200 is released, however the call ends then."""
    uploads = Uploads()
    sizes: list[int] = []
    known: set[str] = set()

    @uploads.handler("photo")
    async def work(photo: Upload) -> None:
        sizes.append(len(await photo.read()))

    requests = Cancellable(kind)
    app = make_app(kept, tmp_path, uploads)
    app = requests.layer(UploadKeepAliveMiddleware(app, uploads))
    outcomes: set[bool] = set()
    answer = Answer()
    async with uploads.running():
        while await requests.run(lambda: send_request(app, MESSAGES, answer=answer)):
            await uploads.drain()
            states = [job.state for job in uploads.jobs if job.id not in known]
            if answer.messages:
                assert states == [JobState.SUCCEEDED]
            if states == [JobState.SUCCEEDED]:  # or it was cancelled in the `send` that accepts
                assert sizes == [len(DATA)]
            else:
                assert states in ([], [JobState.DISCARDED])
                assert sizes == []
            outcomes.add(bool(sizes))
            await kept.all_closed()
            assert uploads.stats().open_uploads == 0
            kept.forget()
            known = {job.id for job in uploads.jobs}
            sizes.clear()
            answer.messages.clear()
            requests.at += 1
    assert outcomes == {True, False}


@pytest.mark.parametrize("count", range(len(MESSAGES) + 1))
async def test_a_client_that_leaves_after_any_message_leaves_nothing_open(
    count: int, kept: Kept, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """P2, P4, divergence 4."""
    uploads = Uploads()
    worked: list[str] = []

    @uploads.handler("photo")
    def work(photo: Upload) -> None:
        worked.append("photo")

    app = UploadKeepAliveMiddleware(make_app(kept, tmp_path, uploads), uploads)
    complete = count == len(MESSAGES)
    with caplog.at_level("INFO", "starlette_upload_keepalive"):
        async with uploads.running():
            answer = await send_request(app, [*MESSAGES[:count], DISCONNECT])
    assert answer.status == (200 if complete else 499)
    assert worked == (["photo"] if complete else [])
    aborted = "Upload aborted: the client left during POST /."
    assert [aborted] * (not complete) == [
        record.getMessage()
        for record in caplog.records
        if record.name == "starlette_upload_keepalive"
    ]
    await kept.all_closed()
    assert uploads.stats().open_uploads == 0


class Boom(Exception):
    pass


@pytest.mark.parametrize("error", [Boom, KeyboardInterrupt, SystemExit, GeneratorExit])
async def test_an_exception_in_the_endpoint_leaves_nothing_open(
    error: type[BaseException], kept: Kept
) -> None:
    uploads = Uploads()

    @uploads.handler("photo")
    def work(photo: Upload) -> None:
        raise AssertionError("it was not accepted")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        form = await Request(scope, receive).form()
        photo = form["photo"]
        assert isinstance(photo, Upload)
        kept.files.append(photo.file)
        await photo.write(b"x")
        kept.files.append(photo.file)
        raise error

    async with uploads.running():
        with pytest.raises(error):
            await send_request(UploadKeepAliveMiddleware(app, uploads), MESSAGES)
    await kept.all_closed()
    assert [job.state for job in uploads.jobs] == [JobState.DISCARDED]
    assert uploads.stats().open_uploads == 0


async def save(upload: Upload) -> None:
    await upload.save(Path(tempfile.gettempdir()).parent / "saved", overwrite=True)


async def write(upload: Upload) -> None:
    await upload.write(b"changed")


async def expose(upload: Upload) -> None:
    async with upload.as_path():
        pass


async def make(_: Upload) -> None:
    async def stream() -> AsyncGenerator[bytes, None]:
        yield DATA

    async with aclosing(stream()) as chunks:
        await (await Upload.from_stream(chunks)).close()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize(
    ("use", "held_up"),
    [
        (write, (PrivateFile, "write")),
        (write, (Blob, "open")),
        (save, (Blob, "open")),
        (expose, (Blob, "link")),
        (make, (PrivateFile, "create")),
        (make, (PrivateFile, "write")),
    ],
)
async def test_a_thread_left_behind_by_a_native_cancel_lets_go_by_itself(
    use: Callable[[Upload], Awaitable[None]],
    held_up: tuple[type, str],
    monkeypatch: pytest.MonkeyPatch,
    kept: Kept,
) -> None:
    """P2: anyio's shield does not stop a native cancel, so the thread goes on alone."""
    begun, go_on = threading.Event(), threading.Event()
    holder, name = held_up
    method = getattr(holder, name)

    def slowly(*args: Any) -> Any:
        result = method(*args)
        if threading.current_thread() is not threading.main_thread():
            begun.set()
            go_on.wait()
        return result

    async def app(scope: Any, receive: Any, send: Any) -> None:
        photo = (await Request(scope, receive).form())["photo"]
        assert isinstance(photo, Upload)
        monkeypatch.setattr(holder, name, slowly)
        await use(photo)

    uploads = Uploads()
    keep_alive = UploadKeepAliveMiddleware(app, uploads)
    before = open_descriptors()
    task = asyncio.ensure_future(send_request(keep_alive, MESSAGES))
    try:
        await anyio.to_thread.run_sync(begun.wait)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
    finally:
        go_on.set()
    await nothing_open(uploads, kept, before)
