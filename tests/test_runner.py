"""The runner runs each job once, lets none harm another, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import gc
import logging
import queue
import threading
import weakref
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from typing import Any

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread
import pytest

from starlette_upload_keepalive import (
    Handler,
    Job,
    JobContext,
    JobState,
    NotAccepted,
    NotRunning,
    Upload,
    Uploads,
    WouldDeadlock,
)
from starlette_upload_keepalive.blob import Blob

pytestmark = pytest.mark.anyio

AnyHandler = Handler[Any, Any, Any, Any]
PATIENCE = 20  # seconds, which only a failure takes


@asynccontextmanager
async def at_work(uploads: Uploads) -> AsyncGenerator[None, None]:
    """Run jobs in the block, and fail instead of hanging."""
    with anyio.fail_after(PATIENCE):
        async with uploads.running():
            yield


@pytest.fixture
def uploads() -> Uploads:
    return Uploads()


@pytest.fixture
def upload(uploads: Uploads) -> Generator[Upload, None, None]:
    blob = Blob(uploads.storage)
    with Upload(blob, owner="the test", filename="a.png", field_name="photo") as upload:
        blob.fill([b"data"])
        yield upload


class Gate:
    """Handlers that wait, in a thread or on the event loop, until they may go on."""

    def __init__(self, uploads: Uploads, run_in: str) -> None:
        self.started: queue.SimpleQueue[int] = queue.SimpleQueue()
        self.opened = threading.Event()
        self.opened_on_loop = anyio.Event()
        self.at_once = 0
        self.most_at_once = 0

        def thread_handler(upload: Upload, number: int) -> int:
            self._start(number)
            self.opened.wait(PATIENCE)
            self.at_once -= 1
            return number

        async def loop_handler(upload: Upload, number: int) -> int:
            self._start(number)
            await self.opened_on_loop.wait()
            self.at_once -= 1
            return number

        registered: Any = thread_handler if run_in == "thread" else loop_handler
        self.handler: AnyHandler = uploads.handler(name="gate")(registered)

    def _start(self, number: int) -> None:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        self.started.put(number)

    async def starts(self, count: int) -> list[int]:
        """Wait until that many handlers have started."""
        return [await anyio.to_thread.run_sync(self._next) for _ in range(count)]

    def _next(self) -> int:
        return self.started.get(timeout=PATIENCE)

    def open(self) -> None:
        self.opened.set()
        self.opened_on_loop.set()


both_kinds = pytest.mark.parametrize("run_in", ["thread", "loop"])


def lost(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what was logged of lost jobs."""
    return [record.getMessage() for record in caplog.records if "is lost" in record.getMessage()]


def closed_event(job: Job[Any], monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Return what is set once the thread of a job has let go of its files."""
    closed = threading.Event()
    close: Callable[[Upload], None] = Upload._let_go

    def close_and_tell(upload: Upload) -> None:
        close(upload)
        if upload._view.owner_name == f"attempt 1 of the job {job.id}":
            closed.set()

    monkeypatch.setattr(Upload, "_let_go", close_and_tell)
    return closed


# Where, and how many at once


async def test_functions_run_in_threads_and_coroutines_on_the_loop(
    uploads: Uploads, upload: Upload
) -> None:
    @uploads.handler()
    def plain(upload: Upload) -> bool:
        return threading.current_thread() is here

    @uploads.handler()
    async def coroutine(upload: Upload) -> bool:
        return threading.current_thread() is here

    here = threading.current_thread()
    async with at_work(uploads):
        assert (await plain.submit(upload).wait()).result is False
        assert (await coroutine.submit(upload).wait()).result is True


@both_kinds
@pytest.mark.parametrize("limit", [1, 3])
async def test_limit_and_order(upload: Upload, run_in: str, limit: int) -> None:
    """P7: no more run at once than allowed, and who came first starts first."""
    uploads = Uploads(handler_threads=limit, handler_tasks=limit)
    gate = Gate(uploads, run_in)

    async with at_work(uploads):
        jobs: list[Job[Any]] = [gate.handler.submit(upload, number) for number in range(6)]
        begun = await gate.starts(limit)
        assert sorted(begun) == list(range(limit))
        states = [job.state.value for job in jobs]
        assert states == ["running"] * limit + ["waiting"] * (6 - limit)
        gate.open()
        begun += await gate.starts(6 - limit)

    assert [job.result for job in jobs] == list(range(6))
    assert gate.most_at_once == limit
    assert limit > 1 or begun == list(range(6))  # several at once start in any order


async def test_threads_and_tasks_do_not_wait_for_each_other(upload: Upload) -> None:
    uploads = Uploads(handler_threads=1, handler_tasks=1)
    gate = Gate(uploads, "thread")

    @uploads.handler()
    async def coroutine(upload: Upload) -> None: ...

    async with at_work(uploads):
        jobs = [gate.handler.submit(upload, number) for number in range(2)]
        await coroutine.submit(upload).wait()
        assert not any(job.done for job in jobs)
        gate.open()


async def test_a_thousand_jobs_of_which_some_fail(upload: Upload) -> None:
    uploads = Uploads(job_history=100)

    def work(upload: Upload, number: int) -> int:
        assert upload.file.read() == b"data"
        if number % 10 == 0:
            raise SystemExit(number) if number % 20 else ValueError(number)
        return number

    @uploads.handler()
    async def on_loop(upload: Upload, number: int) -> int:
        return work(upload, number)

    in_thread = uploads.handler()(work)
    async with at_work(uploads):
        jobs = [(in_thread, on_loop)[n % 2].submit(upload, n // 2) for n in range(1000)]
        for job in jobs:
            await job.wait()

        assert uploads.stats().jobs == dict.fromkeys(JobState, 0) | {
            JobState.SUCCEEDED: 900,
            JobState.FAILED: 100,
        }
        assert uploads.stats().open_uploads == 0
        assert len(uploads.jobs) == 100
    assert upload._view.blob.owners == ["the test"]
    assert Counter(job.result for job in jobs if job.result) == Counter(
        {number: 2 for number in range(500) if number % 10}
    )


# Failures


class OddError(BaseException):
    """Not an `Exception`."""


async def raise_odd() -> None:
    raise OddError


async def raise_group() -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(raise_odd)


@both_kinds
@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ValueError("no picture"), "ValueError: no picture"),
        (SystemExit(3), "SystemExit: 3"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (asyncio.CancelledError(), "CancelledError"),
        (OddError(), "OddError"),
        (raise_group, "BaseExceptionGroup: "),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
async def test_failure_harms_no_one(
    uploads: Uploads,
    upload: Upload,
    caplog: pytest.LogCaptureFixture,
    run_in: str,
    error: BaseException | Callable[[], Any],
    told: str,
) -> None:
    """P6, P2: it is logged once, counted, its file closed, and the others go on."""

    @uploads.handler(name="failing")
    async def failing_on_loop(upload: Upload) -> None:
        await upload.read()
        if isinstance(error, BaseException):
            raise error
        await error()

    @uploads.handler(name="failing in thread")
    def failing_in_thread(upload: Upload) -> None:
        upload.file.read()
        if isinstance(error, BaseException):
            raise error
        anyio.from_thread.run(error)

    gate = Gate(uploads, "loop")
    failing: AnyHandler = failing_in_thread if run_in == "thread" else failing_on_loop
    async with at_work(uploads):
        sibling = gate.handler.submit(upload, 1)
        await gate.starts(1)
        job = await failing.submit(upload).wait()
        gate.open()
        assert (await sibling.wait()).state is JobState.SUCCEEDED

        assert job.state is JobState.FAILED
        assert job.error is not None
        assert job.error.startswith(told)
        assert job.result is None
        assert not job.has_uploads
        assert upload._view.blob.owners == ["the test"]
        counts = uploads.stats().jobs
        assert (counts[JobState.FAILED], counts[JobState.SUCCEEDED]) == (1, 1)

    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert record.name == "starlette_upload_keepalive"
    assert record.getMessage() == (
        f"Job {job.id} of handler {failing.name} failed: field 'photo', files ['a.png']."
    )
    assert record.exc_info
    assert type(record.exc_info[1]).__name__ == told.partition(":")[0]


@both_kinds
async def test_generator_is_no_result(uploads: Uploads, upload: Upload, run_in: str) -> None:
    async def on_loop(upload: Upload) -> Any:
        return (number for number in range(3))

    def in_thread(upload: Upload) -> Any:
        return (number for number in range(3))

    registered: Any = in_thread if run_in == "thread" else on_loop
    handler: AnyHandler = uploads.handler(name="handler")(registered)
    async with at_work(uploads):
        job = await handler.submit(upload).wait()

    assert job.error is not None
    assert "The result of handler must be JSON" in job.error
    assert "generator is not JSON serializable" in job.error


class Large:
    """Stands for what a handler has in memory."""


@both_kinds
@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # trio's own threads make a cycle
async def test_failure_leaves_no_memory_behind(
    uploads: Uploads, upload: Upload, monkeypatch: pytest.MonkeyPatch, run_in: str
) -> None:
    """P2: what the handler had in hand is not kept by its own traceback."""
    monkeypatch.setattr(logging.getLogger("starlette_upload_keepalive"), "disabled", True)
    kept: list[weakref.ref[Large]] = []

    def fail_once(upload: Upload) -> None:
        if kept:
            return
        large = Large()
        kept.append(weakref.ref(large))
        raise ValueError

    async def fail_once_on_loop(upload: Upload) -> None:
        fail_once(upload)

    registered: Any = fail_once if run_in == "thread" else fail_once_on_loop
    handler: AnyHandler = uploads.handler()(registered)
    gc.disable()
    try:
        async with at_work(uploads):
            await handler.submit(upload).wait()
            await handler.submit(upload).wait()  # the thread has put the first one away
        assert kept[0]() is None
    finally:
        gc.enable()


# Contexts


async def test_job_runs_in_the_context_of_its_submit(uploads: Uploads, upload: Upload) -> None:
    who: ContextVar[str] = ContextVar("who", default="nobody")

    def see_and_change(upload: Upload) -> str:
        seen = who.get()
        who.set("the handler")
        return seen

    async def on_loop(upload: Upload) -> str:
        return see_and_change(upload)

    handlers: list[AnyHandler] = [uploads.handler()(see_and_change), uploads.handler()(on_loop)]

    def submit_in_thread(handler: AnyHandler) -> Job[Any]:
        who.set("thread")
        return handler.submit(upload)

    async with at_work(uploads):
        for handler in handlers:
            who.set("task")
            job = handler.submit(upload)
            in_thread = await anyio.to_thread.run_sync(submit_in_thread, handler)
            who.set("later")
            assert (await job.wait()).result == "task"
            assert (await in_thread.wait()).result == "thread"
            assert who.get() == "later"


# The jobs of a job


async def test_child_starts_when_its_parent_has_succeeded(uploads: Uploads, upload: Upload) -> None:
    events: list[str] = []

    @uploads.handler()
    async def child(upload: Upload) -> str:
        events.append(f"child while parent {parents[0].state.value}")
        return (await upload.read()).decode()

    @uploads.handler()
    async def parent(upload: Upload) -> str:
        job = child.submit(upload)
        with Upload.from_bytes(b"made here") as made:
            other = child.submit(made)
        await anyio.wait_all_tasks_blocked()
        events.append(f"parent ends, child {job.state.value}")
        return f"{job.id} {other.id}"

    @uploads.handler()
    def parent_in_thread(upload: Upload) -> str:
        job = child.submit(upload)
        with Upload.from_bytes(b"made here") as made:
            other = child.submit(made)
        events.append(f"parent ends, child {job.state.value}")
        return f"{job.id} {other.id}"

    for handler in (parent, parent_in_thread):
        events.clear()
        async with at_work(uploads):
            parents = [handler.submit(upload)]

        children = [uploads.jobs.get(job_id) for job_id in str(parents[0].result).split()]
        assert [child.result for child in children if child] == ["data", "made here"]
        assert events == ["parent ends, child staged", *["child while parent succeeded"] * 2]


@both_kinds
async def test_child_of_a_failed_parent_is_dropped(
    uploads: Uploads, upload: Upload, run_in: str
) -> None:
    @uploads.handler()
    def child(upload: Upload) -> None:
        pytest.fail("not reached")  # pragma: no cover

    def fail(upload: Upload) -> None:
        children.append(child.submit(upload))
        raise ValueError

    def return_too_much(upload: Upload) -> str:
        children.append(child.submit(upload))
        return "x" * 100_000

    async def fail_on_loop(upload: Upload) -> None:
        fail(upload)

    async def return_too_much_on_loop(upload: Upload) -> str:
        return return_too_much(upload)

    children: list[Job[Any]] = []
    parents: list[Any] = [fail, return_too_much]
    if run_in == "loop":
        parents = [fail_on_loop, return_too_much_on_loop]
    for registered in parents:
        handler: AnyHandler = uploads.handler()(registered)
        async with at_work(uploads):
            assert (await handler.submit(upload).wait()).state is JobState.FAILED

    assert [job.state for job in children] == [JobState.DISCARDED] * 2
    assert not any(job.has_uploads for job in children)
    assert upload._view.blob.owners == ["the test"]


async def test_handler_may_veto_its_children(uploads: Uploads, upload: Upload) -> None:
    @uploads.handler()
    def child(upload: Upload) -> None:
        pytest.fail("not reached")  # pragma: no cover

    @uploads.handler()
    def parent(upload: Upload) -> str:
        job = child.submit(upload)
        upload.discard()
        return job.id

    async with at_work(uploads):
        job = await parent.submit(upload).wait()
        vetoed = uploads.jobs.get(str(job.result))

    assert vetoed is not None
    assert vetoed.state is JobState.DISCARDED


async def test_handler_can_not_wait_for_its_child(uploads: Uploads, upload: Upload) -> None:
    gate = Gate(uploads, "loop")

    @uploads.handler()
    async def parent(upload: Upload) -> int:
        child = gate.handler.submit(upload, 1)
        raised = 0

        async def wait() -> None:
            nonlocal raised
            with pytest.raises(WouldDeadlock):
                await child.wait()
            raised += 1

        await wait()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
        gate.open()
        return raised

    async with at_work(uploads):
        assert (await parent.submit(upload).wait()).result == 2


async def test_handler_can_wait_for_what_it_starts_now(uploads: Uploads, upload: Upload) -> None:
    @uploads.handler()
    def child(upload: Upload) -> int:
        return 7

    @uploads.handler()
    async def parent(upload: Upload) -> int | None:
        return (await child.submit_now(upload).wait()).result

    async with at_work(uploads):
        job = await parent.submit(upload).wait()

    assert (job.result, job.error) == (7, None)


async def test_task_that_a_handler_left_behind_submits_at_once(
    uploads: Uploads, upload: Upload
) -> None:
    """Whatever became of the handler: the task may well live as long as the app."""

    @uploads.handler()
    def work(upload: Upload) -> None: ...

    @uploads.handler()
    async def leave_task(upload: Upload) -> None:
        async def submit() -> None:
            await parent.wait()
            jobs.append(work.submit(other))

        tasks.start_soon(submit)
        raise ValueError

    jobs: list[Job[Any]] = []
    with Upload.from_bytes(b"") as other:
        async with at_work(uploads), anyio.create_task_group() as tasks:
            parent = leave_task.submit(upload)
            await parent.wait()

    assert [job.state for job in jobs] == [JobState.SUCCEEDED]


# Drain


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


# The end of `running` by other ways


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
@pytest.mark.filterwarnings("ignore:coroutine 'Executor._run' was never awaited")
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


# Threads of others


async def test_submit_from_a_thread_of_the_users_own(uploads: Uploads, upload: Upload) -> None:
    @uploads.handler()
    async def handler(upload: Upload) -> str:
        return (await upload.read()).decode()

    jobs: list[Job[Any]] = []
    async with at_work(uploads):
        thread = threading.Thread(target=lambda: jobs.append(handler.submit(upload)))
        thread.start()
        await anyio.to_thread.run_sync(thread.join)
        assert (await jobs[0].wait()).result == "data"


async def test_submit_from_a_thread_when_running_has_just_ended(
    uploads: Uploads, upload: Upload
) -> None:
    @uploads.handler()
    async def handler(upload: Upload) -> None: ...

    async with at_work(uploads):
        runner = uploads._runner
        assert runner is not None
        assert runner._portal is not None
        await runner._portal.stop()
        with pytest.raises(NotRunning):
            await anyio.to_thread.run_sync(handler.submit, upload)

    assert upload._view.blob.owners == ["the test"]


async def test_threads_submit_while_running_ends(uploads: Uploads, upload: Upload) -> None:
    """P2: each job is run or refused, none is lost between thread and event loop."""

    @uploads.handler()
    async def handler(upload: Upload) -> None: ...

    jobs: list[Job[Any]] = []
    first = threading.Semaphore(0)

    def submit_until_refused() -> None:
        try:
            while True:
                jobs.append(handler.submit(upload))
                first.release()
        except NotRunning:
            pass

    threads = [threading.Thread(target=submit_until_refused) for _ in range(4)]
    async with at_work(uploads):
        for thread in threads:
            thread.start()
        await anyio.to_thread.run_sync(first.acquire)
    for thread in threads:
        await anyio.to_thread.run_sync(thread.join)

    assert {job.state for job in jobs} == {JobState.SUCCEEDED}
    assert uploads.stats().jobs[JobState.SUCCEEDED] == len(jobs)
    assert upload._view.blob.owners == ["the test"]
