"""Uploads that are still open are named, each with its owner."""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator

import anyio
import anyio.to_thread
import pytest
from starlette.requests import Request
from starlette.responses import Response

from starlette_upload_keepalive import Retry, Upload, Uploads, detach
from starlette_upload_keepalive.testing import assert_all_closed, finish_jobs
from tests.finishing import DAY, app_of, post
from tests.running import at_work
from tests.servers import eventually

pytestmark = pytest.mark.anyio


@pytest.fixture
def uploads() -> Uploads:
    return Uploads(grace_period=0)


async def stored(uploads: Uploads, data: bytes = b"data") -> Upload:
    """Make an upload that lies where those of requests do."""

    async def stream() -> AsyncGenerator[bytes, None]:
        yield data

    return await Upload.from_stream(stream(), storage=uploads.storage)


def told(uploads: Uploads) -> str:
    """Return what is said of the uploads that are open."""
    with pytest.raises(AssertionError) as raised:
        assert_all_closed(uploads)
    return str(raised.value)


async def test_all_closed(uploads: Uploads) -> None:
    with await stored(uploads):
        assert told(uploads) == (
            "1 upload is open:\n"
            "- 4 bytes in memory, owned by the code that made it (which has to close it)"
        )
    assert_all_closed(uploads)


async def test_each_open_upload_is_told_of() -> None:
    uploads = Uploads(memory_max_size=4)
    with (
        await stored(uploads),
        await stored(uploads, b"x" * 5000) as large,
        detach(large),
    ):
        title, *lines = told(uploads).split("\n- ")
    assert title == "2 uploads are open:"
    line = test_each_open_upload_is_told_of.__code__.co_firstlineno + 5
    assert sorted(lines)[1] == (
        f"5,000 bytes on disk, owned by the code that called detach() in {__file__}, line {line} "
        "(which has to close it); the code that made it (which has to close it)"
    )


async def test_request_owns_an_upload(uploads: Uploads) -> None:
    seen = list[str]()

    async def endpoint(request: Request) -> Response:
        await request.form()
        seen.append(told(uploads))
        return Response()

    await post(app_of(uploads, endpoint))
    assert "owned by the request POST /photos (finish_jobs() waits for it)" in seen[0]
    assert_all_closed(uploads)


async def test_job_owns_an_upload() -> None:
    uploads = Uploads(keep_failed=1)

    @uploads.handler(retry=Retry(attempts=2, wait_initial=DAY, wait_max=DAY))
    async def handler(upload: Upload) -> None:
        raise ValueError

    async with at_work(uploads):
        with await stored(uploads) as upload:
            job = handler.submit(upload)
        await anyio.wait_all_tasks_blocked()
        owner = f"owned by the job {job.id} of handler, "
        assert f"{owner}delayed (finish_jobs() waits for it)" in told(uploads)
        await finish_jobs(uploads)
        kept = f"{owner}failed (keep_failed keeps it until the app is shut down)"
        assert kept in told(uploads)
    assert_all_closed(uploads)


async def test_thread_that_was_left_behind_owns_an_upload(uploads: Uploads) -> None:
    started, go_on = threading.Event(), threading.Event()

    @uploads.handler()
    def handler(upload: Upload) -> None:
        started.set()
        go_on.wait(10)

    async with at_work(uploads):
        with await stored(uploads) as upload:
            job = handler.submit(upload)
        await anyio.to_thread.run_sync(started.wait, 10)
        owner = f"owned by attempt 1 of the job {job.id} of handler, "
    assert f"{owner}cancelled (its thread goes on)" in told(uploads)
    go_on.set()
    await anyio.to_thread.run_sync(eventually, lambda: not uploads.storage.blobs)
    assert_all_closed(uploads)
