"""`uploads.jobs`: jobs are found, waited for, cancelled and run again, by their ids."""

from __future__ import annotations

import threading
from typing import Any

import anyio
import anyio.to_thread
import pytest

from starlette_upload_keepalive import (
    Job,
    JobContext,
    JobNotFound,
    JobState,
    NotRunning,
    Retry,
    Upload,
    UploadClosed,
    Uploads,
)
from starlette_upload_keepalive.events import JobEvent
from tests.clock import Clock, anyio_backend, clock
from tests.stored import make_upload
from tests.timed import at_work, events, submitting, until, uploads

__all__ = ["anyio_backend", "clock", "events", "uploads"]

pytestmark = pytest.mark.anyio

PATIENCE = 20  # seconds, which only a failure takes


async def sleep(upload: Upload) -> None:
    await anyio.sleep_forever()


async def fail(upload: Upload) -> None:
    raise OSError


async def succeed(upload: Upload) -> str:
    return (await upload.read()).decode()


async def test_find_and_list(uploads: Uploads, clock: Clock) -> None:
    jobs = uploads.jobs
    async with at_work(uploads) as upload:
        submitted: list[Job[Any]] = [
            uploads.handler()(function).submit_now(upload) for function in (succeed, fail, sleep)
        ]
        submitted.append(uploads.handler(name="again")(succeed).submit_now(upload))
        await clock.settle()

        assert len(jobs) == 4
        assert list(jobs) == submitted
        assert jobs.list() == submitted
        assert jobs.list(state="succeeded") == [submitted[0], submitted[3]]
        assert jobs.list(state=JobState.FAILED) == [submitted[1]]
        assert jobs.list(handler="sleep") == [submitted[2]]
        assert jobs.list(state="succeeded", handler="again") == [submitted[3]]
        assert jobs.list(handler="nobody") == []
        assert jobs.get(submitted[1].id) is submitted[1]
        assert jobs.get("nothing") is None
        with pytest.raises(ValueError, match="'finished' is not a valid JobState"):
            jobs.list(state="finished")
        assert jobs.cancel(submitted[2].id)


async def test_unknown_job(uploads: Uploads) -> None:
    told = (
        "^No job 'nothing' is known here. Those that are done are forgotten after a while: "
        r"Uploads\(job_history=...\).$"
    )
    with pytest.raises(JobNotFound, match=told):
        await uploads.jobs.wait("nothing")
    with pytest.raises(JobNotFound, match=told):
        uploads.jobs.cancel("nothing")
    with pytest.raises(JobNotFound, match=told):
        uploads.jobs.retry("nothing")


async def test_wait(uploads: Uploads, clock: Clock) -> None:
    async with submitting(uploads) as submit:
        job = submit(succeed)
        assert await uploads.jobs.wait(job.id) is job
        assert job.result == "data"


@pytest.mark.parametrize("threaded", [False, True], ids=["on the loop", "in a thread"])
async def test_cancel_what_waits(uploads: Uploads, clock: Clock, threaded: bool) -> None:
    async with at_work(uploads) as upload:
        handler = uploads.handler(max_concurrency=1)(sleep)
        first, second, third = [handler.submit_now(upload) for _ in range(3)]
        await clock.settle()
        cancelled = await cancel(uploads, second, threaded)
        assert cancelled
        assert (second.state, second.attempt) == (JobState.CANCELLED, 0)
        assert second.finished_at is not None
        assert not await cancel(uploads, second, threaded)
        await cancel(uploads, first, threaded)
        await clock.settle()
        assert (first.state, third.state) == (JobState.CANCELLED, JobState.RUNNING)
        await cancel(uploads, third, threaded)


async def cancel(uploads: Uploads, job: Job[Any], threaded: bool) -> bool:
    """Cancel a job from here or from a thread of the test's own."""
    if threaded:
        return await anyio.to_thread.run_sync(uploads.jobs.cancel, job.id)
    return uploads.jobs.cancel(job.id)


async def test_cancel_what_is_delayed(uploads: Uploads, clock: Clock) -> None:
    async with submitting(uploads, retry=Retry()) as submit:
        job = submit(fail)
        await clock.settle()
        assert job.state is JobState.DELAYED
        assert uploads.jobs.cancel(job.id)
        assert job.delayed_until is None
        await clock.advance(1000)
        assert (job.state, job.attempt) == (JobState.CANCELLED, 1)


async def test_cancel_what_runs_on_the_loop(uploads: Uploads, clock: Clock) -> None:
    cleaned = list[bytes]()

    async def handler(upload: Upload) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            cleaned.append(upload.file.read())

    async with submitting(uploads, retry=Retry()) as submit:
        job = submit(handler)
        await clock.settle()
        assert uploads.jobs.cancel(job.id)
        await clock.settle()
        assert (job.state, job.attempt) == (JobState.CANCELLED, 1)
    assert cleaned == [b"data"]


@pytest.mark.parametrize(
    ("looks", "state"), [(True, JobState.CANCELLED), (False, JobState.SUCCEEDED)]
)
async def test_cancel_what_runs_in_a_thread(
    uploads: Uploads, clock: Clock, looks: bool, state: JobState
) -> None:
    """It is asked; what came of its work counts if it has not seen that."""
    started, go_on = threading.Event(), threading.Event()

    def handler(upload: Upload, job: JobContext) -> str:
        started.set()
        assert go_on.wait(PATIENCE)
        if looks and job.cancelled:
            raise InterruptedError
        return upload.file.read().decode()

    async with submitting(uploads, retry=Retry()) as submit:
        job = submit(handler)
        await until(clock, started.is_set)
        assert uploads.jobs.cancel(job.id)
        assert job.state is JobState.RUNNING
        go_on.set()
        await until(clock, lambda: job.done)
        assert (job.state, job.attempt) == (state, 1)
        assert job.result == (None if looks else "data")


async def test_cancel_itself_and_each_other(uploads: Uploads, clock: Clock) -> None:
    ids = list[str]()

    async def handler(upload: Upload, job: JobContext) -> None:
        for each in ids:
            uploads.jobs.cancel(each)
        await anyio.sleep_forever()

    async with at_work(uploads) as upload:
        submitted = uploads.handler()(handler)
        jobs = [submitted.submit_now(upload) for _ in range(5)]
        ids.extend(job.id for job in jobs)
        await clock.settle()
        assert [job.state for job in jobs] == [JobState.CANCELLED] * 5


async def test_hurry_what_is_delayed(uploads: Uploads, clock: Clock) -> None:
    async with submitting(uploads, retry=Retry(attempts=2, wait_initial=1000)) as submit:
        job = submit(fail)
        await clock.settle()
        assert uploads.jobs.retry(job.id)
        await clock.settle()
        assert (job.state, job.attempt) == (JobState.FAILED, 2)


async def test_no_retry_of_what_waits_or_runs(uploads: Uploads, clock: Clock) -> None:
    async with at_work(uploads) as upload:
        handler = uploads.handler(max_concurrency=1)(sleep)
        running, waiting = [handler.submit_now(upload) for _ in range(2)]
        await clock.settle()
        for job in (running, waiting):
            assert not uploads.jobs.retry(job.id)
            assert uploads.jobs.cancel(job.id)


@pytest.mark.parametrize("function", [succeed, fail])
async def test_no_retry_of_what_has_let_go_of_its_files(
    uploads: Uploads, clock: Clock, function: Any
) -> None:
    async with submitting(uploads) as submit:
        job = submit(function)
        await clock.settle()
        with pytest.raises(UploadClosed, match=r"has let go of its files. Uploads\(keep_failed="):
            uploads.jobs.retry(job.id)


@pytest.mark.parametrize("threaded", [False, True], ids=["on the loop", "in a thread"])
async def test_retry_what_has_failed(events: list[JobEvent], clock: Clock, threaded: bool) -> None:
    uploads = Uploads(keep_failed=1, hooks=[events.append])

    async def handler(upload: Upload, job: JobContext) -> str:
        if job.attempt <= 2:
            raise OSError
        return (await upload.read()).decode()

    async with submitting(uploads, retry=Retry(attempts=2, wait_initial=1)) as submit:
        job = submit(handler)
        await clock.advance(1)
        assert (job.state, job.attempt) == (JobState.FAILED, 2)
        assert uploads.stats().jobs[JobState.FAILED] == 1
        waiter = job.wait
        if threaded:
            assert await anyio.to_thread.run_sync(uploads.jobs.retry, job.id)
        else:
            assert uploads.jobs.retry(job.id)
        await waiter()
        assert (job.state, job.attempt, job.error) == (JobState.SUCCEEDED, 3, None)
        assert job.result == "data"
        assert uploads.stats().jobs[JobState.FAILED] == 0
        with pytest.raises(UploadClosed):
            uploads.jobs.retry(job.id)
    assert uploads.stats().open_uploads == 0


async def test_only_the_last_that_failed_keep_their_files(clock: Clock) -> None:
    uploads = Uploads(keep_failed=2, hooks=[])
    handler = uploads.handler()(fail)
    jobs = list[Job[Any]]()
    async with uploads.running():
        for _ in range(4):
            with make_upload(uploads.storage, b"data") as upload:
                jobs.append(handler.submit_now(upload))
            await clock.settle()
        assert uploads.stats().open_uploads == 2
        assert [job._has_uploads for job in jobs] == [False, False, True, True]
        assert uploads.jobs.retry(jobs[2].id)
        await clock.settle()
        assert uploads.stats().open_uploads == 2
    assert uploads.stats().open_uploads == 0
    assert [job.state for job in jobs] == [JobState.FAILED] * 4


async def test_one_that_is_forgotten_keeps_nothing(clock: Clock) -> None:
    uploads = Uploads(keep_failed=5, job_history=1, hooks=[])
    handler = uploads.handler()(fail)
    async with at_work(uploads) as upload:
        jobs = [handler.submit_now(upload) for _ in range(3)]
        await clock.settle()
        (remembered,) = uploads.jobs
        assert [job for job in jobs if job._has_uploads] == [remembered]


async def test_without_a_runner(clock: Clock) -> None:
    uploads = Uploads(keep_failed=1, hooks=[])
    async with submitting(uploads) as submit:
        job = submit(fail)
        await clock.settle()
    assert not uploads.jobs.cancel(job.id)
    with pytest.raises(NotRunning):
        uploads.jobs.retry(job.id)
