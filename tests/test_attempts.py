"""A handler that raises is tried again, at its time, and as if for the first time."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import timedelta
from typing import BinaryIO

import anyio
import pytest

from starlette_upload_keepalive import (
    Discard,
    JobContext,
    JobState,
    Retry,
    RetryLater,
    Upload,
    Uploads,
)
from tests.clock import Clock, anyio_backend, clock
from tests.timed import at_work, events, submitting, until, uploads

if sys.version_info < (3, 11):
    from exceptiongroup import ExceptionGroup

__all__ = ["anyio_backend", "clock", "events", "uploads"]

pytestmark = pytest.mark.anyio

RETRY = Retry(attempts=3, wait_initial=10, wait_factor=6, wait_jitter=0)


async def test_attempts_at_their_times(uploads: Uploads, clock: Clock) -> None:
    began = list[float]()

    async def handler(upload: Upload) -> None:
        began.append(anyio.current_time())
        raise OSError(f"attempt {len(began)}")

    async with submitting(uploads, retry=RETRY) as submit:
        job = submit(handler)
        await clock.settle()
        assert (job.state, job.attempt, job.error) == (JobState.DELAYED, 1, "OSError: attempt 1")
        assert job.delayed_until is not None
        assert job.started_at is not None
        assert job.delayed_until - job.started_at >= timedelta(seconds=10)
        await clock.advance(9.9)
        assert job.attempt == 1
        await clock.advance(0.1)
        assert (job.state, job.attempt) == (JobState.DELAYED, 2)
        await clock.advance(60)
        assert (job.state, job.attempt) == (JobState.FAILED, 3)
        assert job.error == "OSError: attempt 3"
        assert (await job.wait()).done
    assert [round(time - began[0], 3) for time in began] == [0, 10, 70]


@pytest.mark.parametrize("run_in", ["thread", "loop"])
async def test_each_attempt_has_the_file_from_its_first_byte(
    uploads: Uploads, clock: Clock, run_in: str
) -> None:
    """And not what the attempt before it wrote."""
    seen = list[tuple[int, bytes, bool]]()
    kept = list[BinaryIO]()

    def work(upload: Upload, job: JobContext) -> int:
        seen.append((job.attempt, upload.file.read(), all(each.closed for each in kept)))
        kept.append(upload.file)
        if job.attempt < 3:
            raise OSError
        return job.attempt

    async def work_on_loop(upload: Upload, job: JobContext) -> int:
        try:
            return work(upload, job)
        except OSError:
            await upload.write(b"broken")
            raise

    async with submitting(uploads, retry=RETRY) as submit:
        job = submit(work if run_in == "thread" else work_on_loop)
        while not job.done:
            await until(clock, lambda: job.done or job.state is JobState.DELAYED)
            await clock.advance(60)
        assert (job.state, job.result, job.error) == (JobState.SUCCEEDED, 3, None)
    assert seen == [(1, b"data", True), (2, b"data", True), (3, b"data", True)]


@pytest.mark.parametrize(
    ("error", "attempts"),
    [
        (OSError(), 3),
        (ExceptionGroup("several", [OSError(), ExceptionGroup("more", [OSError()])]), 3),
        (FileNotFoundError(), 1),
        (ValueError(), 1),
        (ExceptionGroup("several", [OSError(), ValueError()]), 1),
        (SystemExit(3), 1),
        (KeyboardInterrupt(), 1),
    ],
    ids=repr,
)
async def test_error_decides(
    uploads: Uploads, clock: Clock, error: BaseException, attempts: int
) -> None:
    async def handler(upload: Upload) -> None:
        raise error

    retry = Retry(wait_initial=1, retry_on=OSError, give_up_on=FileNotFoundError)
    async with submitting(uploads, retry=retry) as submit:
        job = submit(handler)
        await clock.advance(1)
        await clock.advance(2)
        assert (job.state, job.attempt) == (JobState.FAILED, attempts)


async def test_without_retry_there_is_one_attempt(uploads: Uploads, clock: Clock) -> None:
    async def handler(upload: Upload) -> None:
        raise OSError

    async with submitting(uploads) as submit:
        job = submit(handler)
        await clock.settle()
        assert (job.state, job.attempt) == (JobState.FAILED, 1)


def alone(verb: Exception) -> Exception:
    return verb


def grouped(verb: Exception) -> Exception:
    return ExceptionGroup("of one", [verb])


@pytest.mark.parametrize("wrap", [alone, grouped])
async def test_retry_later_uses_up_no_attempt(
    uploads: Uploads, clock: Clock, wrap: Callable[[Exception], Exception]
) -> None:
    async def handler(upload: Upload, job: JobContext) -> int:
        if job.attempt <= 5:
            raise wrap(RetryLater(100))
        if job.attempt <= 7:
            raise OSError
        return job.attempt

    async with submitting(uploads, retry=RETRY) as submit:
        job = submit(handler)
        for attempt in range(1, 6):
            await clock.settle()
            assert (job.state, job.attempt) == (JobState.DELAYED, attempt)
            await clock.advance(99)
            assert job.attempt == attempt
            await clock.advance(1)
        await clock.advance(10)
        await clock.advance(60)
        assert (job.state, job.result) == (JobState.SUCCEEDED, 8)


async def test_retry_later_needs_no_retry(uploads: Uploads, clock: Clock) -> None:
    def handler(upload: Upload, job: JobContext) -> int:
        if job.attempt == 1:
            raise RetryLater(0)
        return job.attempt

    async with submitting(uploads) as submit:
        job = submit(handler)
        await until(clock, lambda: job.done)
        assert (job.state, job.result) == (JobState.SUCCEEDED, 2)


async def test_discard(uploads: Uploads, clock: Clock) -> None:
    async def handler(upload: Upload) -> None:
        raise Discard("a duplicate")

    async with submitting(uploads, retry=RETRY) as submit:
        job = submit(handler)
        await clock.settle()
        assert (job.state, job.attempt) == (JobState.DISCARDED, 1)
        assert job.error == "a duplicate"


async def test_result_that_is_no_json_is_a_failure_like_any(uploads: Uploads, clock: Clock) -> None:
    async def handler(upload: Upload) -> object:
        return object()

    async with submitting(uploads, retry=Retry(attempts=2, wait_initial=1)) as submit:
        job = submit(handler)
        await clock.advance(1)
        assert (job.state, job.attempt) == (JobState.FAILED, 2)
        assert job.error is not None
        assert job.error.startswith("TypeError: ")


async def test_jitter_spreads_what_failed_together(uploads: Uploads, clock: Clock) -> None:
    """P10: a herd that was turned away does not come back as one."""
    times = list[float]()

    async def handler(upload: Upload, job: JobContext) -> None:
        if job.attempt == 2:
            times.append(round(anyio.current_time(), 6))
        raise OSError

    submitted = uploads.handler(retry=Retry(attempts=2, wait_initial=8, wait_jitter=0.5))(handler)
    async with at_work(uploads) as upload:
        began = anyio.current_time()
        for _ in range(50):
            submitted.submit_now(upload)
        await clock.advance(3.99)
        assert times == []
        for _ in range(80):
            await clock.advance(0.05)
        await clock.advance(0.1)
        assert len(times) == 50
        assert len(set(times)) > 10
        assert max(times) - began <= 8.1


async def test_ten_thousand_delayed_jobs_wait_in_one_task(uploads: Uploads, clock: Clock) -> None:
    count = 10_000

    async def handler(upload: Upload, job: JobContext) -> None:
        if job.attempt == 1:
            raise RetryLater(3600)

    submitted = uploads.handler()(handler)
    async with at_work(uploads) as upload:
        jobs = [submitted.submit_now(upload) for _ in range(count)]
        await clock.settle()
        assert uploads.stats().jobs[JobState.DELAYED] == count
        assert uploads.stats().busy_tasks == 0
        assert len(anyio.get_running_tasks()) < 10
        await clock.advance(3600)
        assert all(job.state is JobState.SUCCEEDED for job in jobs)


async def test_a_hurried_one_forgets_the_time_that_it_was_to_wait(
    uploads: Uploads, clock: Clock
) -> None:
    async def handler(upload: Upload) -> None:
        raise OSError

    async with submitting(uploads, retry=RETRY) as submit:
        job = submit(handler)
        await clock.advance(5)
        assert uploads.jobs.retry(job.id)
        await clock.settle()
        assert (job.state, job.attempt) == (JobState.DELAYED, 2)
        await clock.advance(59)
        assert job.attempt == 2
        await clock.advance(1)
        assert job.attempt == 3


async def test_nothing_is_due_while_an_attempt_waits_or_runs(
    uploads: Uploads, clock: Clock
) -> None:
    due = list[object]()

    async def handler(upload: Upload, job: JobContext) -> None:
        due.append(uploads.jobs.list()[0].delayed_until)
        if job.attempt == 1:
            raise OSError

    async with submitting(uploads, retry=RETRY) as submit:
        job = submit(handler)
        await clock.settle()
        assert job.delayed_until is not None
        await clock.advance(10)
        assert job.state is JobState.SUCCEEDED
    assert due == [None, None]
