"""P2: a request that ends anywhere, in whatever way, leaves every file closed.

The tests hold on to each upload and each file, so that the garbage collector
can't do the work.
"""

from __future__ import annotations

import asyncio
import tempfile
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import anyio
import pytest
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.types import ASGIApp

from starlette_upload_keepalive import JobState, Upload, UploadKeepAliveMiddleware, Uploads
from starlette_upload_keepalive.files import saving
from starlette_upload_keepalive.files.blob import Blob
from starlette_upload_keepalive.files.private_file import PrivateFile
from tests.asgi import DISCONNECT, Answer, behind_base_http_middleware, send_request
from tests.cancelling import (
    DATA,
    MESSAGES,
    ON_EACH_LOOP,
    Cancellable,
    Kept,
    Kind,
    make_app,
    nothing_open,
    pass_on,
)
from tests.leak_checks import open_descriptors

pytestmark = pytest.mark.anyio


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Kept:
    return Kept(monkeypatch)


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
        (save, (saving, "take_owner")),
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
