"""The fixtures for pytest finish jobs, and look for open uploads at the end of the test."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.to_thread
import pytest
from anyio.from_thread import start_blocking_portal

from starlette_upload_keepalive import Job, Retry, Upload, Uploads

pytest_plugins = ["starlette_upload_keepalive.pytest_plugin"]

FinishJobs = Callable[..., Awaitable[list[Job[Any]]]]
FinishJobsSync = Callable[..., list[Job[Any]]]


@pytest.fixture
def uploads() -> Uploads:
    """Make uploads with a handler that succeeds at its second attempt, tomorrow."""
    uploads = Uploads()

    @uploads.handler("photo", retry=Retry(wait_initial=1e5, wait_max=1e5))
    async def handler(upload: Upload) -> str:
        if attempts.pop():
            raise ValueError
        return (await upload.read()).decode()

    attempts = [False, True]
    return uploads


def submit(uploads: Uploads) -> None:
    with Upload.from_bytes(b"data") as upload:
        uploads._handlers["handler"].submit(upload)


@pytest.mark.anyio
async def test_async_fixture(uploads: Uploads, finish_upload_jobs: FinishJobs) -> None:
    async with uploads.running():
        submit(uploads)
        assert [job.result for job in await finish_upload_jobs(uploads)] == ["data"]


def test_sync_fixture(uploads: Uploads, finish_upload_jobs_sync: FinishJobsSync) -> None:
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(uploads.running()),
    ):
        submit(uploads)
        assert [job.result for job in finish_upload_jobs_sync(uploads)] == ["data"]


@pytest.mark.anyio
async def test_timeouts(
    uploads: Uploads, finish_upload_jobs: FinishJobs, finish_upload_jobs_sync: FinishJobsSync
) -> None:
    go_on = anyio.Event()

    @uploads.handler()
    async def stuck(upload: Upload) -> None:
        await go_on.wait()

    async with uploads.running():
        with Upload.from_bytes(b"data") as upload:
            stuck.submit(upload)
        with pytest.raises(TimeoutError, match="After 0 s"):
            await finish_upload_jobs(uploads, timeout=0)
        with pytest.raises(TimeoutError, match=r"After 0\.01 s"):
            await anyio.to_thread.run_sync(finish_upload_jobs_sync, uploads, 0.01)
        go_on.set()


@pytest.mark.parametrize("fixture", ["finish_upload_jobs", "finish_upload_jobs_sync"])
def test_open_upload_is_an_error_at_the_end(fixture: str, pytester: pytest.Pytester) -> None:
    """Of the uploads that it was called with: it knows no others."""
    pytester.makeconftest('pytest_plugins = ["starlette_upload_keepalive.pytest_plugin"]')
    pytester.makepyfile(f"""
        import anyio
        from starlette_upload_keepalive import Upload, Uploads

        async def open_upload(uploads):
            async def stream():
                yield b"data"

            return await Upload.from_stream(stream(), storage=uploads.storage)

        def finish(finish_jobs, uploads):
            if "sync" in "{fixture}":
                assert finish_jobs(uploads) == []
            else:
                assert anyio.run(finish_jobs, uploads) == []

        def test_leak({fixture}):
            finish({fixture}, uploads)
            global forgotten
            forgotten = anyio.run(open_upload, uploads)

        def test_closed({fixture}):
            with forgotten:
                pass
            finish({fixture}, uploads)

        uploads = Uploads()
    """)
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*1 upload is open:", "*- 4 bytes in memory, owned by the code*"])
