"""At shutdown, a delayed job has its next attempt at once, rather than be lost."""

from __future__ import annotations

import anyio
import pytest

from starlette_upload_keepalive import (
    Job,
    JobContext,
    JobState,
    Retry,
    RetryLater,
    Upload,
    Uploads,
)
from starlette_upload_keepalive.events import JobCancelled, JobEvent
from tests.clock import Clock, anyio_backend, clock
from tests.timed import at_work, events, submitting, until

__all__ = ["anyio_backend", "clock", "events"]

pytestmark = pytest.mark.anyio


@pytest.fixture
def uploads(events: list[JobEvent]) -> Uploads:
    return Uploads(grace_period=30, hooks=[events.append])


async def shut_down(uploads: Uploads, clock: Clock, *waits: float) -> float:
    """Let the time pass that a drain is to take, and return what it took."""
    began = anyio.current_time()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(uploads.drain)
        for seconds in waits:
            await clock.advance(seconds)
    return anyio.current_time() - began


async def test_delayed_one_has_its_attempt_at_once(uploads: Uploads, clock: Clock) -> None:
    async def handler(upload: Upload, job: JobContext) -> int:
        if job.attempt == 1:
            raise OSError
        return job.attempt

    async with submitting(uploads, retry=Retry(wait_initial=3600)) as submit:
        job = submit(handler)
        await clock.settle()
        assert await shut_down(uploads, clock) == 0
        assert (job.state, job.result) == (JobState.SUCCEEDED, 2)


async def test_delay_within_the_grace_period_is_waited_for(uploads: Uploads, clock: Clock) -> None:
    async def handler(upload: Upload, job: JobContext) -> int:
        if job.attempt <= 3:
            raise RetryLater(10)
        return job.attempt

    async with submitting(uploads) as submit:
        job = submit(handler)
        await clock.settle()
        assert await shut_down(uploads, clock, 9, 1, 10) == 20
        assert (job.state, job.result) == (JobState.SUCCEEDED, 4)


async def test_delay_beyond_the_grace_period_is_a_loss(
    uploads: Uploads, clock: Clock, events: list[JobEvent]
) -> None:
    """Told at once: nobody waits for what will not come."""

    async def handler(upload: Upload) -> None:
        raise OSError

    retry = Retry(attempts=9, wait_initial=20, wait_factor=1, wait_jitter=0)
    async with submitting(uploads, retry=retry) as submit:
        job = submit(handler)
        await clock.settle()
        assert await shut_down(uploads, clock, 20) == 20
        assert (job.state, job.attempt) == (JobState.CANCELLED, 3)
        (lost,) = [event for event in events if isinstance(event, JobCancelled)]
        assert lost.reason == "shutdown"
        assert not job._has_uploads


async def test_after_a_drain_delays_are_as_before(uploads: Uploads, clock: Clock) -> None:
    async def handler(upload: Upload, job: JobContext) -> int:
        if job.attempt == 1:
            raise RetryLater(3600)
        return job.attempt

    async with submitting(uploads) as submit:
        await shut_down(uploads, clock)
        job = submit(handler)
        await clock.advance(3599)
        assert job.attempt == 1
        await clock.advance(1)
        assert job.result == 2


async def test_what_does_not_end_in_time_is_cancelled(uploads: Uploads, clock: Clock) -> None:
    @uploads.handler(max_concurrency=1)
    async def handler(upload: Upload, seconds: float) -> None:
        await anyio.sleep(seconds)

    async with at_work(uploads) as upload:
        jobs: list[Job[None]] = [handler.submit_now(upload, each) for each in (29, 5, 0)]
        await clock.settle()
        assert await shut_down(uploads, clock, 29, 1) == 30
        assert jobs[0].state is JobState.SUCCEEDED or jobs[1].state is JobState.SUCCEEDED
        assert {job.state for job in jobs} == {JobState.SUCCEEDED, JobState.CANCELLED}


async def test_delayed_ones_are_lost_when_the_block_is_cancelled(
    uploads: Uploads, clock: Clock
) -> None:
    async def handler(upload: Upload) -> None:
        raise RetryLater(10)

    with anyio.CancelScope() as scope:
        async with submitting(uploads) as submit:
            submit(handler)
            await clock.settle()
            scope.cancel()
    (job,) = uploads.jobs
    assert job.state is JobState.CANCELLED
    assert uploads.stats().open_uploads == 0


async def test_after_a_cancelled_drain_delays_are_as_before(uploads: Uploads, clock: Clock) -> None:
    @uploads.handler()
    async def handler(upload: Upload, seconds: float, delay: float) -> None:
        await anyio.sleep(seconds)
        raise RetryLater(delay)

    async with at_work(uploads) as upload:
        first = handler.submit_now(upload, 20, 20)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(uploads.drain)
            await clock.settle()
            tasks.cancel_scope.cancel()
        job = handler.submit_now(upload, 0, 3600)
        await clock.settle()
        assert job.state is JobState.DELAYED
        for each in (first, job):
            uploads.jobs.cancel(each.id)


async def test_delay_of_a_thread_beyond_the_grace_period_leaves_no_thread_at_work(
    uploads: Uploads, clock: Clock, events: list[JobEvent]
) -> None:
    def handler(upload: Upload) -> None:
        raise RetryLater(31)

    async with submitting(uploads) as submit:
        job = submit(handler)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(uploads.drain)
            await until(clock, lambda: job.done)
        (lost,) = [event for event in events if isinstance(event, JobCancelled)]
        assert (lost.reason, lost.thread_goes_on) == ("shutdown", False)
