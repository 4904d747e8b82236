"""What is told of a job that is cancelled, and what becomes of it, whenever that is."""

from __future__ import annotations

import threading
from typing import Any

import anyio
import pytest

from starlette_upload_keepalive import (
    Job,
    JobContext,
    JobState,
    NotRunning,
    Retry,
    RetryLater,
    Upload,
    Uploads,
)
from starlette_upload_keepalive.events import JobCancelled, JobEvent, JobStarted
from starlette_upload_keepalive.jobs.history import JobHistory
from starlette_upload_keepalive.jobs.known_jobs import Jobs
from tests.clock import Clock, anyio_backend, clock
from tests.timed import at_work, events, submitting, until, uploads
from tests.works import made_of_nothing

__all__ = ["anyio_backend", "clock", "events", "uploads"]

pytestmark = pytest.mark.anyio

PATIENCE = 20  # seconds, which only a failure takes


def cancellations(events: list[JobEvent]) -> list[tuple[str, str, bool]]:
    """Return whose, why, and whether a thread goes on."""
    return [
        (event.job_id, event.reason, event.thread_goes_on)
        for event in events
        if isinstance(event, JobCancelled)
    ]


async def sleep(upload: Upload) -> None:
    await anyio.sleep_forever()


async def later(upload: Upload) -> None:
    raise RetryLater(10)


class Stubborn:
    """A handler in a thread that goes on until it is let, and says what it was told then."""

    def __init__(self) -> None:
        self.started, self.go_on = threading.Event(), threading.Event()
        self.seen = list[bool]()
        self.returned = threading.Event()

    def __call__(self, upload: Upload, job: JobContext) -> None:
        self.started.set()
        assert self.go_on.wait(PATIENCE)
        self.seen.append(job.cancelled)
        self.returned.set()


# Asked


async def test_asked_while_it_waits_is_delayed_or_runs(
    uploads: Uploads, clock: Clock, events: list[JobEvent]
) -> None:
    sleeping = uploads.handler(max_concurrency=1)(sleep)
    async with at_work(uploads) as upload:
        jobs: list[Job[Any]] = [
            sleeping.submit_now(upload),
            sleeping.submit_now(upload),
            uploads.handler()(later).submit_now(upload),
        ]
        await clock.settle()
        assert [job.state.value for job in jobs] == ["running", "waiting", "delayed"]
        for job in reversed(jobs):
            assert uploads.jobs.cancel(job.id)
        await clock.settle()
        assert cancellations(events) == [(job.id, "asked", False) for job in reversed(jobs)]


async def test_asked_thread_that_looks_does_not_go_on(
    uploads: Uploads, clock: Clock, events: list[JobEvent]
) -> None:
    handler = Stubborn()
    async with submitting(uploads, name="stubborn") as submit:
        job = submit(handler)
        await until(clock, handler.started.is_set)
        assert uploads.jobs.cancel(job.id)
        handler.go_on.set()
        await until(clock, lambda: job.done)
        assert cancellations(events) == [(job.id, "asked", False)]


@pytest.mark.parametrize("run_in", ["thread", "loop"])
async def test_asked_before_its_first_step_it_never_begins(
    uploads: Uploads, clock: Clock, events: list[JobEvent], run_in: str
) -> None:
    """It has a thread, or a task, but that has not got to it."""
    calls = list[Upload]()

    async def on_loop(upload: Upload) -> None:
        calls.append(upload)

    async with submitting(uploads, name="note") as submit:
        job = submit(calls.append if run_in == "thread" else on_loop)
        assert uploads.jobs.cancel(job.id)
        await until(clock, lambda: job.done)
        assert (job.state, job.attempt) == (JobState.CANCELLED, 0)
        assert cancellations(events) == [(job.id, "asked", False)]
    assert not calls
    assert not [event for event in events if isinstance(event, JobStarted)]


@pytest.mark.parametrize("error", [OSError("cleaning up"), RetryLater(1)], ids=repr)
async def test_asked_it_is_not_tried_again_whatever_it_raises(
    uploads: Uploads, clock: Clock, error: Exception
) -> None:
    async def handler(upload: Upload) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            raise error

    async with submitting(uploads, retry=Retry(wait_initial=1)) as submit:
        job = submit(handler)
        await clock.settle()
        assert uploads.jobs.cancel(job.id)
        await clock.advance(100)
        assert (job.state, job.attempt) == (JobState.CANCELLED, 1)


async def test_asked_of_one_that_was_done_meanwhile(
    uploads: Uploads, clock: Clock, events: list[JobEvent]
) -> None:
    """A thread that asks may come too late: the job is what it became."""

    async def handler(upload: Upload) -> str:
        return "fine"

    async with submitting(uploads) as submit:
        job = submit(handler)
        await clock.settle()
        assert job._runner is not None
        assert job._runner.cancel(job) is False
        assert (job.state, job.result) == (JobState.SUCCEEDED, "fine")
    assert not cancellations(events)


async def test_asked_of_one_that_a_drain_waits_for(uploads: Uploads, clock: Clock) -> None:
    """Which ends then, instead of with the delay."""
    async with submitting(uploads) as submit:
        job = submit(later)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(uploads.drain)
            await clock.settle()
            assert job.state is JobState.DELAYED
            assert uploads.jobs.cancel(job.id)


def test_asked_without_a_runner() -> None:
    history, job = JobHistory(limit=10), made_of_nothing()
    history.add(job)
    jobs = Jobs(history, lambda: None)
    with pytest.raises(NotRunning, match="No runner is there to start the job"):
        jobs.cancel(job.id)
    job._discard("its request was not accepted")
    assert jobs.cancel(job.id) is False


# Lost


async def test_lost_while_it_waits_is_delayed_or_runs(
    uploads: Uploads, clock: Clock, events: list[JobEvent]
) -> None:
    sleeping = uploads.handler(max_concurrency=1)(sleep)
    with anyio.CancelScope() as scope:
        async with at_work(uploads) as upload:
            sleeping.submit_now(upload)
            sleeping.submit_now(upload)
            uploads.handler()(later).submit_now(upload)
            await clock.settle()
            scope.cancel()
            await anyio.sleep_forever()
    jobs = list(uploads.jobs)
    assert sorted(cancellations(events)) == sorted((job.id, "shutdown", False) for job in jobs)
    assert [job.state for job in jobs] == [JobState.CANCELLED] * 3


@pytest.mark.parametrize("how", ["drained", "cancelled"])
async def test_thread_that_was_left_behind_goes_on(
    clock: Clock, events: list[JobEvent], how: str
) -> None:
    uploads = Uploads(hooks=[events.append], grace_period=0)
    handler = Stubborn()
    with anyio.CancelScope() as scope:
        async with submitting(uploads, name="stubborn") as submit:
            submit(handler)
            await until(clock, handler.started.is_set)
            if how == "cancelled":
                scope.cancel()
    (job,) = uploads.jobs
    assert cancellations(events) == [(job.id, "shutdown", True)]
    handler.go_on.set()
    await until(clock, handler.returned.is_set)
    assert handler.seen == [True]
    await until(clock, lambda: uploads.stats().open_uploads == 0)


async def test_drain_waits_for_all_that_clean_up(clock: Clock, events: list[JobEvent]) -> None:
    uploads = Uploads(hooks=[events.append], grace_period=0)

    async def handler(upload: Upload, seconds: float) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(seconds)

    cleaning = uploads.handler()(handler)
    async with at_work(uploads) as upload:
        jobs = [cleaning.submit_now(upload, seconds) for seconds in (1, 5)]
        await clock.settle()
        began = anyio.current_time()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(uploads.drain)
            await clock.advance(1)
            assert [job.done for job in jobs] == [True, False]
            await clock.advance(4)
        assert anyio.current_time() - began == 5
        assert [job.state for job in jobs] == [JobState.CANCELLED] * 2


async def test_jobs_are_taken_again_after_a_drain_that_was_cancelled(clock: Clock) -> None:
    uploads = Uploads(hooks=[], grace_period=0)

    @uploads.handler()
    async def handler(upload: Upload, seconds: float) -> None:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(seconds)

    async with at_work(uploads) as upload:
        first = handler.submit_now(upload, 10)
        await clock.settle()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(uploads.drain)
            await clock.settle()
            with pytest.raises(NotRunning):
                handler.submit_now(upload, 0)
            tasks.cancel_scope.cancel()
        second = handler.submit_now(upload, 0)
        await clock.settle()
        assert second.state is JobState.SUCCEEDED
        await clock.advance(10)
        assert first.done


async def test_delay_that_a_later_drain_allows_ends_with_the_first(
    uploads: Uploads, clock: Clock, events: list[JobEvent]
) -> None:
    ended = list[float]()

    async def handler(upload: Upload) -> None:
        await anyio.sleep(15)
        raise RetryLater(20)

    async def drain() -> None:
        await uploads.drain()
        ended.append(anyio.current_time() - began)

    async with submitting(uploads) as submit:
        job = submit(handler)
        began = anyio.current_time()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(drain)  # until 30
            await clock.advance(10)
            tasks.start_soon(uploads.drain)  # until 40
            await clock.advance(5)
            assert job.state is JobState.DELAYED  # until 35
            await clock.advance(15)
            assert ended == [30]
            assert cancellations(events) == [(job.id, "shutdown", False)]
            tasks.cancel_scope.cancel()
