"""A job that has failed is run again as if for the first time, as long as a runner is there."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from starlette_upload_keepalive import Job, JobContext, JobState, NotRunning, Retry, Upload, Uploads
from starlette_upload_keepalive.events import JobCancelled, JobEvent
from tests.asgi import http_scope, send_request
from tests.clock import Clock, anyio_backend, clock
from tests.sites import BODY, answering, starlette
from tests.timed import at_work, events, submitting

__all__ = ["anyio_backend", "clock", "events"]

pytestmark = pytest.mark.anyio


async def fail(upload: Upload) -> None:
    raise OSError


async def test_it_has_all_its_attempts_again(clock: Clock) -> None:
    uploads = Uploads(keep_failed=1, hooks=[])
    retry = Retry(attempts=3, wait_initial=10, wait_factor=1, wait_jitter=0)
    async with submitting(uploads, retry=retry) as submit:
        job = submit(fail)
        await clock.advance(10)
        await clock.advance(10)
        assert (job.state, job.attempt) == (JobState.FAILED, 3)
        assert uploads.jobs.retry(job.id)
        assert (job.error, job.finished_at) == (None, None)
        await clock.settle()
        assert (job.state, job.attempt) == (JobState.DELAYED, 4)
        await clock.advance(10)
        await clock.advance(10)
        assert (job.state, job.attempt) == (JobState.FAILED, 6)


async def test_who_waits_for_it_waits_anew(clock: Clock) -> None:
    uploads = Uploads(keep_failed=1, hooks=[])
    waited = list[float]()

    async def handler(upload: Upload, job: JobContext) -> None:
        await anyio.sleep(10)
        if job.attempt == 1:
            raise OSError

    async def wait() -> None:
        began = anyio.current_time()
        assert (await job.wait()).done
        waited.append(anyio.current_time() - began)

    async with submitting(uploads) as submit, anyio.create_task_group() as tasks:
        job = submit(handler)
        tasks.start_soon(wait)
        await clock.advance(10)
        assert uploads.jobs.retry(job.id)
        tasks.start_soon(wait)
        await clock.advance(5)
        assert waited == [10]
        await clock.advance(5)
        assert waited == [10, 10]


async def test_while_the_rest_is_cancelled_it_is_lost(clock: Clock, events: list[JobEvent]) -> None:
    uploads = Uploads(keep_failed=1, grace_period=0, hooks=[events.append])

    @uploads.handler()
    async def stubborn(upload: Upload) -> None:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(10)

    failing: Any = uploads.handler()(fail)
    async with at_work(uploads) as upload:
        job = failing.submit_now(upload)
        stubborn.submit_now(upload)
        await clock.settle()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(uploads.drain)
            await clock.settle()
            assert uploads.jobs.retry(job.id)
            assert job.state is JobState.CANCELLED
            assert not job._has_uploads
            assert isinstance(events[-1], JobCancelled)
            assert events[-1].reason == "shutdown"
            await clock.advance(10)


async def test_once_the_runner_has_closed_it_is_not(clock: Clock) -> None:
    uploads = Uploads(keep_failed=1, hooks=[])
    refused = list[bool]()

    async def last(upload: Upload) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                while runner.is_open:
                    await checkpoint()
                with pytest.raises(NotRunning, match="No runner is there"):
                    uploads.jobs.retry(next(iter(uploads.jobs)).id)
                refused.append(uploads.jobs.cancel(own.id))

    with anyio.CancelScope() as scope:
        async with submitting(uploads) as submit:
            submit(fail)
            own = submit(last)
            assert uploads._runner is not None
            runner = uploads._runner
            await clock.settle()
            scope.cancel()
            await anyio.sleep_forever()
    assert refused == [False]
    (failed, _) = uploads.jobs
    assert failed.state is JobState.FAILED


async def test_running_ends_with_an_error_and_may_begin_again(clock: Clock) -> None:
    uploads = Uploads(keep_failed=1, hooks=[])
    handler: Any = uploads.handler()(fail)

    async def run() -> None:
        async with at_work(uploads) as upload:
            job = handler.submit_now(upload)
            await clock.settle()
            assert job.state is JobState.FAILED
            assert uploads.stats().open_uploads == 1
            raise LookupError

    for _ in range(2):
        with pytest.raises(LookupError):
            await run()
        assert uploads.stats().open_uploads == 0


async def test_without_a_lifespan_nothing_is_tried_again(clock: Clock) -> None:
    """The client would have to wait for it."""
    uploads = Uploads(hooks=[])
    uploads.handler("photo", retry=Retry(attempts=3, wait_initial=3600))(fail)
    await send_request(starlette(answering, uploads), BODY, http_scope("/200"))
    (job,) = uploads.jobs
    assert (job.state, job.attempt) == (JobState.FAILED, 1)


@pytest.mark.parametrize("how", ["cancelled", "drained"])
async def test_retried_by_a_callback_that_outlives_the_runner_it_is_lost(
    clock: Clock, events: list[JobEvent], how: str
) -> None:
    uploads = Uploads(keep_failed=1, grace_period=0, hooks=[events.append])

    async def again(job: Job[Any], error: BaseException) -> None:
        assert uploads.jobs.retry(job.id)
        await anyio.sleep(10)

    with anyio.CancelScope() as scope:
        async with submitting(uploads, on_error=again) as submit:
            submit(fail)
            await clock.settle()
            if how == "cancelled":
                scope.cancel()
    (job,) = uploads.jobs
    assert job.state is JobState.CANCELLED
    assert uploads.stats().open_uploads == 0
    assert isinstance(events[-1], JobCancelled)


async def test_nothing_more_begins_while_the_runner_is_cancelled(
    clock: Clock, events: list[JobEvent]
) -> None:
    uploads = Uploads(hooks=[events.append])

    async def handler(upload: Upload) -> None:
        await anyio.sleep_forever()

    with anyio.CancelScope() as scope:
        async with at_work(uploads) as upload:
            submitted = uploads.handler(max_concurrency=1)(handler)
            delayed = uploads.handler(retry=Retry(wait_initial=100))(fail)
            for _ in range(3):
                submitted.submit_now(upload)
            delayed.submit_now(upload)
            await clock.settle()
            scope.cancel()
    jobs = list(uploads.jobs)
    assert [job.state for job in jobs] == [JobState.CANCELLED] * 4
    assert [job.attempt for job in jobs] == [1, 0, 0, 1]
