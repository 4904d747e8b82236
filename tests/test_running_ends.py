"""However `running` ends, by an exception or a cancellation, nothing is left behind."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import anyio
import anyio.to_thread
import pytest

from starlette_upload_keepalive import Job, JobContext, JobState, NotRunning, Upload, Uploads
from tests.running import PATIENCE, Gate, at_work, closed_event, lost

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("error", [ValueError(), SystemExit(1), KeyboardInterrupt()])
async def test_exception_in_the_block_passes_unchanged(
    uploads: Uploads, upload: Upload, error: BaseException
) -> None:
    @uploads.handler()
    def handler(upload: Upload) -> None: ...

    jobs: list[Job[Any]] = []
    with pytest.raises(type(error)) as caught:  # noqa: PT012
        async with uploads.running():
            jobs.append(handler.submit(upload))
            raise error

    assert caught.value is error
    assert [job.state for job in jobs] == [JobState.SUCCEEDED]


async def test_cancelled_block(
    upload: Upload, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P8, P2: without a grace period, threads are asked all the same."""
    uploads = Uploads(handler_threads=1)
    on_loop, started, asked = Gate(uploads, "loop"), threading.Event(), threading.Event()

    @uploads.handler()
    def in_thread(upload: Upload, job: JobContext) -> None:
        started.set()
        asked.wait(PATIENCE)
        seen.append(job.cancelled)

    seen: list[bool] = []
    jobs: list[Job[Any]] = []
    closed: list[threading.Event] = []
    with anyio.CancelScope() as scope:
        async with at_work(uploads):
            jobs.append(on_loop.handler.submit(upload, 1))
            jobs += [in_thread.submit(upload) for _ in range(2)]
            closed.append(closed_event(jobs[1], monkeypatch))
            await on_loop.starts(1)
            await anyio.to_thread.run_sync(started.wait, PATIENCE)
            scope.cancel()
            await anyio.sleep_forever()

    assert scope.cancelled_caught
    assert [job.state for job in jobs] == [JobState.CANCELLED] * 3
    assert len(lost(caplog)) == 3
    asked.set()
    assert closed[0].wait(PATIENCE)
    assert seen == [True]
    assert upload._view.blob.owners == ["the test"]
    with pytest.raises(NotRunning):
        on_loop.handler.submit(upload, 1)


async def test_nothing_is_taken_once_the_block_is_cancelled(
    uploads: Uploads, upload: Upload
) -> None:
    raised: list[NotRunning] = []
    left = anyio.Event()

    @uploads.handler()
    def never(upload: Upload) -> None:
        pytest.fail("not reached")  # pragma: no cover

    @uploads.handler()
    async def submit_when_cancelled(upload: Upload) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await left.wait()
            try:
                never.submit_now(upload)
            except NotRunning as error:
                raised.append(error)

    with anyio.CancelScope() as scope:
        async with at_work(uploads):
            submit_when_cancelled.submit(upload)
            await anyio.wait_all_tasks_blocked()
            scope.cancel()
            try:
                await anyio.sleep_forever()
            finally:
                left.set()

    assert len(raised) == 1


async def test_failure_while_the_block_is_cancelled_stays_in_its_job(
    uploads: Uploads, upload: Upload
) -> None:
    """P6: also one that comes in a group with the cancellation."""

    @uploads.handler()
    async def clumsy(upload: Upload) -> None:
        async def child() -> None:
            try:
                await anyio.sleep_forever()
            finally:
                raise ValueError("while cleaning up")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(child)
            await anyio.sleep_forever()

    jobs: list[Job[Any]] = []
    with anyio.CancelScope() as scope:
        async with at_work(uploads):
            jobs.append(clumsy.submit(upload))
            await anyio.wait_all_tasks_blocked()
            scope.cancel()
            await anyio.sleep_forever()

    assert scope.cancelled_caught
    assert jobs[0].done
    assert upload._view.blob.owners == ["the test"]


# asyncio never begins a task that is cancelled before its first step, and says so.
@pytest.mark.filterwarnings(
    "ignore:coroutine '(Executor._run|_be_cancelled_with)' was never awaited"
)
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("begun", [False, True], ids=["before its first step", "at work"])
async def test_native_cancellation(
    uploads: Uploads, upload: Upload, caplog: pytest.LogCaptureFixture, begun: bool
) -> None:
    """P2: asyncio cancels all tasks when it ends, some before they have begun."""
    gate = Gate(uploads, "loop")
    jobs: list[Job[Any]] = []
    others = asyncio.all_tasks()

    async def app() -> None:
        async with uploads.running():
            jobs.append(gate.handler.submit(upload, 1))
            if begun:
                await gate.starts(1)
            for task in asyncio.all_tasks() - others:
                task.cancel()
            await anyio.sleep_forever()

    task = asyncio.create_task(app())
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(asyncio.shield(task), PATIENCE)

    assert jobs[0].done
    assert upload._view.blob.owners == ["the test"]
    assert len([record for record in caplog.records if jobs[0].id in record.getMessage()]) == 1
