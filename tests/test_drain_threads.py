"""Threads are asked to stop shortly before the grace period ends."""

from __future__ import annotations

import queue
from typing import Any

import anyio
import anyio.to_thread
import pytest

from starlette_upload_keepalive import Job, JobContext, JobState, Retry, Upload, Uploads
from starlette_upload_keepalive.events import JobCancelled, JobEvent, JobStarted
from tests.clock import Clock, anyio_backend, clock
from tests.timed import at_work, events, register, until

__all__ = ["anyio_backend", "clock", "events"]

pytestmark = pytest.mark.anyio

LOOK, RETURN = "look", "return"


class Worker:
    """A handler in a thread that does what the test tells it."""

    def __init__(self, uploads: Uploads, **options: Any) -> None:
        self._orders: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[bool] = queue.SimpleQueue()

        def work(upload: Upload, job: JobContext) -> str:
            while True:
                order = self._orders.get(timeout=20)
                if order == LOOK:
                    self._answers.put(job.cancelled)
                elif order == RETURN:
                    return "done"
                else:
                    raise OSError(order)

        self.handler = register(uploads, work, **options)

    def told(self, order: str) -> None:
        self._orders.put(order)

    async def is_asked(self) -> bool:
        """Have the handler look whether it is to stop."""
        self.told(LOOK)
        return await anyio.to_thread.run_sync(lambda: self._answers.get(timeout=20))


def reasons(events: list[JobEvent]) -> list[tuple[str, bool]]:
    lost = [event for event in events if isinstance(event, JobCancelled)]
    return [(event.reason, event.thread_goes_on) for event in lost]


async def begun(clock: Clock, job: Job[Any]) -> None:
    await until(clock, lambda: job.state is JobState.RUNNING)


@pytest.mark.parametrize(("grace_period", "asked"), [(300, 297), (30, 27), (10, 9)])
async def test_they_get_a_tenth_of_it_and_at_most_three_seconds(
    clock: Clock, events: list[JobEvent], grace_period: float, asked: float
) -> None:
    """P8: one that looks is let go of properly, before the process may end."""
    uploads = Uploads(grace_period=grace_period, hooks=[events.append])
    worker = Worker(uploads)
    async with at_work(uploads) as upload, anyio.create_task_group() as tasks:
        job = worker.handler.submit_now(upload)
        await begun(clock, job)
        tasks.start_soon(uploads.drain)
        await clock.advance(asked - 0.5)
        assert not await worker.is_asked()
        await clock.advance(0.5)
        assert await worker.is_asked()
        assert not job.done
        worker.told(RETURN)
        await until(clock, lambda: job.done)
        assert reasons(events) == [("shutdown", False)]
        assert not job._has_uploads


async def test_one_that_raises_because_it_is_asked_is_lost(
    clock: Clock, events: list[JobEvent]
) -> None:
    """P8: as one that returns; no other attempt follows."""
    uploads = Uploads(grace_period=30, hooks=[events.append])
    worker = Worker(uploads, retry=Retry(wait_initial=0.1))
    async with at_work(uploads) as upload, anyio.create_task_group() as tasks:
        job = worker.handler.submit_now(upload)
        await begun(clock, job)
        tasks.start_soon(uploads.drain)
        await clock.advance(27)
        assert await worker.is_asked()
        worker.told("stopped early")
        await until(clock, lambda: job.done)
        assert (job.state, job.attempt) == (JobState.CANCELLED, 1)
        assert reasons(events) == [("shutdown", False)]


async def test_one_that_does_not_look_may_finish(clock: Clock, events: list[JobEvent]) -> None:
    uploads = Uploads(grace_period=30, hooks=[events.append])
    worker = Worker(uploads)
    async with at_work(uploads) as upload, anyio.create_task_group() as tasks:
        job = worker.handler.submit_now(upload)
        await begun(clock, job)
        tasks.start_soon(uploads.drain)
        await clock.advance(29)
        worker.told(RETURN)
        await until(clock, lambda: job.done)
        assert (job.state, job.result) == (JobState.SUCCEEDED, "done")


@pytest.mark.parametrize(
    ("attempts", "state"), [(2, JobState.CANCELLED), (1, JobState.FAILED)], ids=str
)
async def test_one_that_does_not_look_and_raises(
    clock: Clock, events: list[JobEvent], attempts: int, state: JobState
) -> None:
    """P8: what would be tried again is lost, at once; it has not failed for good."""
    uploads = Uploads(grace_period=30, hooks=[events.append])
    worker = Worker(uploads, retry=Retry(attempts=attempts, wait_initial=0))
    async with at_work(uploads) as upload, anyio.create_task_group() as tasks:
        job = worker.handler.submit_now(upload)
        await begun(clock, job)
        tasks.start_soon(uploads.drain)
        await clock.advance(28)
        worker.told("disk is gone")
        await until(clock, lambda: job.done)
        assert (job.state, job.attempt, job.error) == (state, 1, "OSError: disk is gone")


async def test_none_begins_any_more(clock: Clock, events: list[JobEvent]) -> None:
    """P8: what takes the place of one that was asked would be cut off, too."""
    uploads = Uploads(grace_period=30, handler_threads=1, hooks=[events.append])
    worker = Worker(uploads)

    @uploads.handler()
    async def on_loop(upload: Upload) -> str:
        await anyio.sleep(29)
        return "in time"

    async with at_work(uploads) as upload, anyio.create_task_group() as tasks:
        jobs = [worker.handler.submit_now(upload) for _ in range(2)]
        await begun(clock, jobs[0])
        other = on_loop.submit_now(upload)
        tasks.start_soon(uploads.drain)
        await clock.advance(27)
        assert await worker.is_asked()
        worker.told(RETURN)
        await until(clock, lambda: all(job.done for job in jobs))
        assert reasons(events) == [("shutdown", False)] * 2
        assert sum(isinstance(event, JobStarted) for event in events) == 2
        await clock.advance(2)
        assert other.result == "in time"


async def test_after_a_drain_they_begin_as_before(clock: Clock, events: list[JobEvent]) -> None:
    uploads = Uploads(grace_period=30, hooks=[events.append])
    worker = Worker(uploads)
    async with at_work(uploads) as upload:
        await uploads.drain()
        job = worker.handler.submit_now(upload)
        await begun(clock, job)
        assert not await worker.is_asked()
        worker.told(RETURN)
        await until(clock, lambda: job.done)
        assert job.result == "done"
