"""At shutdown jobs get a grace period; what it can't wait for is lost, and told."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from starlette_upload_keepalive import (
    Job,
    JobContext,
    JobState,
    NotAccepted,
    NotRunning,
    Upload,
    Uploads,
)
from tests.running import PATIENCE, Gate, at_work, both_kinds, closed_event, lost

pytestmark = pytest.mark.anyio


@both_kinds
async def test_jobs_may_finish_at_shutdown(
    uploads: Uploads, upload: Upload, caplog: pytest.LogCaptureFixture, run_in: str
) -> None:
    """P8: within the grace period all jobs finish, those that wait included."""
    gate = Gate(uploads, run_in)

    async def open_when_draining() -> None:
        await anyio.wait_all_tasks_blocked()
        gate.open()

    jobs: list[Job[Any]] = []
    async with anyio.create_task_group() as tasks, at_work(uploads):
        jobs += [gate.handler.submit(upload, number) for number in range(12)]
        await gate.starts(8)
        tasks.start_soon(open_when_draining)

    assert [job.state for job in jobs] == [JobState.SUCCEEDED] * 12
    assert not lost(caplog)


async def test_shutdown_without_grace(
    upload: Upload, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P8, P2: coroutines are cancelled; a thread is asked, and keeps its file until it ends."""
    uploads = Uploads(grace_period=0, handler_threads=1, handler_tasks=1)
    on_loop, proceed, started = Gate(uploads, "loop"), threading.Event(), threading.Event()
    seen: list[Any] = []

    @uploads.handler()
    def in_thread(upload: Upload, job: JobContext) -> None:
        seen.append(job.cancelled)
        started.set()
        proceed.wait(PATIENCE)
        seen.extend([job.cancelled, upload.file.read()])

    async with at_work(uploads):
        jobs: list[Job[Any]] = [on_loop.handler.submit(upload, number) for number in range(2)]
        jobs += [in_thread.submit(upload) for _ in range(2)]
        closed = closed_event(jobs[2], monkeypatch)
        await on_loop.starts(1)
        await anyio.to_thread.run_sync(started.wait, PATIENCE)

    assert [job.state for job in jobs] == [JobState.CANCELLED] * 4
    assert [job.started_at is None for job in jobs] == [False, True, False, True]
    assert all(job.finished_at for job in jobs)
    assert upload._view.blob.owners == [f"attempt 1 of the job {jobs[2].id}", "the test"]
    assert sorted(lost(caplog)) == sorted(
        f"Job {job.id} of handler {job.handler} is lost, the app was shut down first"
        f"{' (its thread goes on until it returns)' if job is jobs[2] else ''}: "
        "field 'photo', files ['a.png']."
        for job in jobs
    )

    proceed.set()
    assert closed.wait(PATIENCE)
    assert seen == [False, True, b"data"]
    assert [job.state for job in jobs] == [JobState.CANCELLED] * 4
    assert upload._view.blob.owners == ["the test"]
    assert uploads.stats().jobs[JobState.CANCELLED] == 4


async def test_handler_that_finishes_although_it_is_cancelled(
    upload: Upload, caplog: pytest.LogCaptureFixture
) -> None:
    uploads = Uploads(grace_period=0)
    children: list[Job[Any]] = []

    @uploads.handler()
    def child(upload: Upload) -> None:
        pytest.fail("not reached")  # pragma: no cover

    @uploads.handler()
    async def stubborn(upload: Upload, job: JobContext) -> bool:
        children.append(child.submit(upload))
        with suppress(anyio.get_cancelled_exc_class()):
            await anyio.sleep_forever()
        return job.cancelled

    @uploads.handler()
    async def clumsy(upload: Upload) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            raise ValueError("while cleaning up")

    async with at_work(uploads):
        jobs: list[Job[Any]] = [stubborn.submit(upload), clumsy.submit(upload)]
        await anyio.lowlevel.checkpoint()

    assert (jobs[0].state, jobs[0].result) == (JobState.SUCCEEDED, True)
    assert (jobs[1].state, jobs[1].error) == (JobState.FAILED, "ValueError: while cleaning up")
    assert [job.state for job in children] == [JobState.CANCELLED]
    assert len(lost(caplog)) == 1
    assert upload._view.blob.owners == ["the test"]


async def test_nothing_is_taken_while_the_rest_is_cancelled(
    upload: Upload, caplog: pytest.LogCaptureFixture
) -> None:
    """P8: what a handler submits while it is cancelled can't prolong the shutdown."""
    uploads = Uploads(grace_period=0)
    gate = Gate(uploads, "loop")
    raised: list[NotRunning] = []

    @uploads.handler()
    async def submit_when_cancelled(upload: Upload) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            try:
                gate.handler.submit_now(upload, 1)
            except NotRunning as error:
                raised.append(error)

    async with at_work(uploads):
        job = submit_when_cancelled.submit(upload)
        await anyio.wait_all_tasks_blocked()
        await uploads.drain()
        assert job.state is JobState.CANCELLED
        assert len(raised) == 1
        assert len(lost(caplog)) == 1

        # Drained, but still running.
        gate.open()
        assert (await gate.handler.submit(upload, 1).wait()).result == 1


async def test_two_drains_at_once(uploads: Uploads, upload: Upload) -> None:
    gate = Gate(uploads, "loop")

    async with at_work(uploads), anyio.create_task_group() as tasks:
        gate.handler.submit(upload, 1)
        tasks.start_soon(uploads.drain)
        tasks.start_soon(uploads.drain)
        await anyio.wait_all_tasks_blocked()
        gate.open()


async def test_cancelled_drain_lets_the_jobs_go_on(uploads: Uploads, upload: Upload) -> None:
    gate = Gate(uploads, "loop")

    async with at_work(uploads):
        job = gate.handler.submit(upload, 1)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await uploads.drain()
        assert scope.cancelled_caught
        gate.open()
        assert (await job.wait()).result == 1


async def test_thread_of_a_lost_job_can_start_nothing_more(
    upload: Upload, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploads = Uploads(grace_period=0)
    started, proceed = threading.Event(), threading.Event()
    raised: list[bool] = []

    @uploads.handler()
    def child(upload: Upload) -> None:
        pytest.fail("not reached")  # pragma: no cover

    @uploads.handler()
    def parent(upload: Upload) -> None:
        children.append(child.submit(upload))
        started.set()
        proceed.wait(PATIENCE)
        with pytest.raises(NotAccepted):
            child.submit(upload)
        with pytest.raises(NotRunning):
            child.submit_now(upload)
        raised.append(True)

    children: list[Job[Any]] = []
    async with at_work(uploads):
        job = parent.submit(upload)
        closed = closed_event(job, monkeypatch)
        await anyio.to_thread.run_sync(started.wait, PATIENCE)

    proceed.set()
    assert closed.wait(PATIENCE)
    assert raised == [True]
    assert [child.state for child in children] == [JobState.DISCARDED]
    assert upload._view.blob.owners == ["the test"]
