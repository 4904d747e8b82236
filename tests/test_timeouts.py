"""A handler that takes too long is cancelled on the event loop, and asked in a thread."""

from __future__ import annotations

import threading
from typing import Any, BinaryIO

import anyio
import pytest

from starlette_upload_keepalive import JobContext, JobState, Retry, Upload, Uploads
from starlette_upload_keepalive.events import JobEvent, JobOverran
from tests.clock import Clock, anyio_backend, clock
from tests.timed import at_work, events, submitting, until, uploads

__all__ = ["anyio_backend", "clock", "events", "uploads"]

pytestmark = pytest.mark.anyio

TOOK_LONGER = "HandlerTimeout: The handler handler took longer than its timeout of 30 s."
PATIENCE = 20  # seconds, which only a failure takes


async def test_coroutine_is_cancelled(uploads: Uploads, clock: Clock) -> None:
    files = list[BinaryIO]()

    async def handler(upload: Upload) -> None:
        files.append(upload.file)
        await anyio.sleep_forever()

    async with submitting(uploads, timeout=30) as submit:
        job = submit(handler)
        await clock.advance(29.9)
        assert job.state is JobState.RUNNING
        await clock.advance(0.1)
        assert (job.state, job.error) == (JobState.FAILED, TOOK_LONGER)
        assert files[0].closed


async def test_coroutine_may_clean_up(uploads: Uploads, clock: Clock) -> None:
    """What it awaits then is cancelled too, unless it is shielded, as in all of anyio."""
    cleaned = list[str]()

    async def handler(upload: Upload) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(5)
                cleaned.append((await upload.read()).decode())

    async with submitting(uploads, timeout=30) as submit:
        job = submit(handler)
        await clock.advance(30)
        assert job.state is JobState.RUNNING
        await clock.advance(5)
        assert (job.state, job.error) == (JobState.FAILED, TOOK_LONGER)
    assert cleaned == ["data"]


async def test_coroutine_that_finishes_all_the_same_has_finished(
    uploads: Uploads, clock: Clock
) -> None:
    async def handler(upload: Upload) -> str:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(40)
        return "late"

    async with submitting(uploads, timeout=30) as submit:
        job = submit(handler)
        await clock.advance(40)
        assert (job.state, job.result) == (JobState.SUCCEEDED, "late")


async def test_a_timeout_is_tried_again_with_its_whole_time(uploads: Uploads, clock: Clock) -> None:
    async def handler(upload: Upload, job: JobContext) -> int:
        await anyio.sleep(31 if job.attempt == 1 else 29)
        return job.attempt

    retry = Retry(retry_on=TimeoutError, wait_initial=1, wait_jitter=0)
    async with submitting(uploads, timeout=30, retry=retry) as submit:
        job = submit(handler)
        await clock.advance(30)
        assert (job.state, job.error) == (JobState.DELAYED, TOOK_LONGER)
        await clock.advance(1)
        await clock.advance(29)
        assert (job.state, job.result) == (JobState.SUCCEEDED, 2)


async def test_a_timeout_of_the_handlers_own_is_its_failure(uploads: Uploads, clock: Clock) -> None:
    async def handler(upload: Upload) -> None:
        with anyio.fail_after(3):
            await anyio.sleep_forever()

    async with submitting(uploads, timeout=30) as submit:
        job = submit(handler)
        await clock.advance(3)
        assert (job.state, job.error) == (JobState.FAILED, "TimeoutError")


class Slow:
    """A handler in a thread that goes on until it is let, or until it sees that it should not."""

    def __init__(self, *, looks: bool) -> None:
        self.looks = looks
        self.go_on = threading.Event()
        self.files = list[BinaryIO]()

    def __call__(self, upload: Upload, job: JobContext) -> str:
        self.files.append(upload.file)
        if not self.go_on.wait(PATIENCE):
            raise AssertionError
        if self.looks and job.cancelled:
            raise InterruptedError("I have seen it")
        return "late"


async def overrun(
    uploads: Uploads, clock: Clock, handler: Slow, events: list[JobEvent], **options: Any
) -> Any:
    """Run it beyond its timeout, and then to its end."""
    async with submitting(uploads, name="handler", timeout=30, **options) as submit:
        job = submit(handler)
        await until(clock, lambda: bool(handler.files))
        await clock.advance(29)
        assert not [event for event in events if isinstance(event, JobOverran)]
        await clock.advance(1)
        (told,) = [event for event in events if isinstance(event, JobOverran)]
        assert (told.job_id, told.timeout_seconds) == (job.id, 30)
        await clock.advance(1000)
        assert job.state is JobState.RUNNING
        assert not handler.files[0].closed
        assert uploads.stats().busy_threads == 1
        handler.go_on.set()
        await until(clock, lambda: handler.files[0].closed)
        await clock.advance(10)  # for another attempt
        await until(clock, lambda: job.done)
    return job


async def test_thread_is_asked_and_keeps_its_file(
    uploads: Uploads, clock: Clock, events: list[JobEvent]
) -> None:
    job = await overrun(uploads, clock, Slow(looks=True), events)
    assert (job.state, job.error) == (JobState.FAILED, TOOK_LONGER)


async def test_thread_that_never_looks_has_finished_late(
    uploads: Uploads, clock: Clock, events: list[JobEvent]
) -> None:
    job = await overrun(uploads, clock, Slow(looks=False), events)
    assert (job.state, job.result) == (JobState.SUCCEEDED, "late")


async def test_thread_that_was_asked_is_tried_again_unasked(
    uploads: Uploads, clock: Clock, events: list[JobEvent]
) -> None:
    retry = Retry(attempts=2, wait_initial=10, wait_jitter=0)
    job = await overrun(uploads, clock, Slow(looks=True), events, retry=retry)
    assert (job.state, job.attempt, job.result) == (JobState.SUCCEEDED, 2, "late")


async def test_time_that_it_waits_for_its_turn_does_not_count(
    uploads: Uploads, clock: Clock
) -> None:
    async def handler(upload: Upload) -> None:
        await anyio.sleep(20)

    submitted: Any = uploads.handler(timeout=30, max_concurrency=1)(handler)
    async with at_work(uploads) as upload:
        jobs = [submitted.submit_now(upload) for _ in range(3)]
        for _ in range(3):
            await clock.advance(20)
        assert [job.state for job in jobs] == [JobState.SUCCEEDED] * 3


async def test_thread_that_ends_in_time_is_not_asked_later(
    uploads: Uploads, clock: Clock, events: list[JobEvent]
) -> None:
    """Nor is its next attempt, which has its whole time."""
    slow = Slow(looks=True)
    slow.go_on.set()

    def handler(upload: Upload, job: JobContext) -> str:
        if job.attempt == 1:
            raise OSError
        return slow(upload, job)

    async with submitting(uploads, timeout=30, retry=Retry(wait_initial=1)) as submit:
        job = submit(handler)
        await until(clock, lambda: job.state is JobState.DELAYED)
        slow.go_on.clear()
        await clock.advance(1)
        await until(clock, lambda: bool(slow.files))
        await clock.advance(29.5)
        slow.go_on.set()
        await until(clock, lambda: job.done)
        assert (job.state, job.result) == (JobState.SUCCEEDED, "late")
        await clock.advance(30)
    assert not [event for event in events if isinstance(event, JobOverran)]


async def test_only_threads_overrun(uploads: Uploads, clock: Clock, events: list[JobEvent]) -> None:
    """A coroutine was cancelled: that it takes its time to clean up is its own affair."""

    async def handler(upload: Upload) -> None:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(40)

    async with submitting(uploads, timeout=30) as submit:
        job = submit(handler)
        await clock.advance(40)
        assert job.state is JobState.SUCCEEDED
    assert not [event for event in events if isinstance(event, JobOverran)]
