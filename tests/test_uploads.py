"""One `Uploads` serves an app: its options, and where it may run."""

from __future__ import annotations

import tempfile
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
import pytest

from starlette_upload_keepalive import JobState, NotRunning, Upload, Uploads
from tests.asgi import file_part, http_scope, lifespan, multipart, send_request
from tests.running import at_work
from tests.sites import LostClient, answering, outcomes, reading, starlette

pytestmark = pytest.mark.anyio


# Configuration


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"handler_threads": 0}, "handler_threads must be 1 or more, not 0."),
        ({"handler_tasks": 0}, "handler_tasks must be 1 or more, not 0."),
        ({"grace_period": -1}, "grace_period must be 0 seconds or more, not -1."),
        ({"grace_period": float("inf")}, "grace_period must be 0 seconds or more, not inf."),
        ({"grace_period": float("nan")}, "grace_period must be 0 seconds or more, not nan."),
        ({"job_history": -1}, "job_history must be 0 jobs or more, not -1."),
        ({"io_threads": 0}, "io_threads must be 1 or more, not 0."),
    ],
)
def test_option_out_of_range(option: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the message is compared
        Uploads(**option)
    assert str(caught.value) == message


# Running


async def test_running_is_shared(uploads: Uploads) -> None:
    handler = uploads.handler()(reading)
    with Upload.from_bytes(b"data") as upload:
        async with at_work(uploads):
            with pytest.raises(LostClient):
                async with uploads.running():
                    raise LostClient
            job = handler.submit(upload)  # the inner block's end was not the end
        assert job.state is JobState.SUCCEEDED

        with pytest.raises(NotRunning):
            handler.submit(upload)
        async with at_work(uploads):
            job = handler.submit(upload)
    assert job.state is JobState.SUCCEEDED


async def test_running_in_two_event_loops(uploads: Uploads) -> None:
    async def enter() -> None:
        async with uploads.running():
            pytest.fail("not reached")  # pragma: no cover

    def enter_in_thread() -> None:
        with pytest.raises(RuntimeError, match="run in another event loop: make one per app"):
            anyio.run(enter)

    async with at_work(uploads):
        await anyio.to_thread.run_sync(enter_in_thread)


async def test_drain_without_a_runner(uploads: Uploads) -> None:
    await uploads.drain()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_same_uploads_on_asyncio_and_on_trio(uploads: Uploads) -> None:
    """The same app is started twice in many a test suite."""

    @uploads.handler("photo")
    def in_thread(photo: Upload) -> int:
        return len(photo.file.read())

    @uploads.handler("photo")
    async def on_loop(photo: Upload) -> int:
        return len(await photo.read())

    app = starlette(answering, uploads)
    body = multipart(file_part(b"x" * 2_000_000))

    async def serve() -> None:
        async with lifespan(app):
            await send_request(app, body, http_scope("/200"))

    for backend in ("trio", "asyncio", "trio"):
        await anyio.to_thread.run_sync(partial(anyio.run, serve, backend=backend))

    each = [("in_thread", "succeeded", 2_000_000), ("on_loop", "succeeded", 2_000_000)]
    assert outcomes(uploads) == each * 3
    assert uploads.stats().open_uploads == 0


def test_the_default_directory_is_found_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Divergence 3: found with the first large upload, it may find no descriptor left: a 500."""
    monkeypatch.setattr(tempfile, "tempdir", None)
    Uploads()
    assert tempfile.tempdir is not None


async def test_without_a_default_directory_small_files_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def nowhere() -> str:
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", nowhere)
    uploads = Uploads()
    body = multipart(file_part(b"abc"))
    answer = await send_request(starlette(answering, uploads), body, http_scope("/202"))
    assert answer.status == 202
