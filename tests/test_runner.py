"""The runner runs each job once, within its limits, in the context of its submit."""

from __future__ import annotations

import threading
from collections import Counter
from contextvars import ContextVar
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
import pytest

from starlette_upload_keepalive import Job, JobState, NotRunning, Upload, Uploads
from tests.running import AnyHandler, Gate, at_work, both_kinds

pytestmark = pytest.mark.anyio


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


@both_kinds
async def test_so_does_one_that_has_waited_for_its_turn(upload: Upload, run_in: str) -> None:
    """And not in that of the job which has made place for it."""
    uploads = Uploads(handler_threads=1, handler_tasks=1)
    who: ContextVar[str] = ContextVar("who", default="nobody")

    def seen(upload: Upload) -> str:
        return who.get()

    async def seen_on_loop(upload: Upload) -> str:
        return who.get()

    handler: AnyHandler = uploads.handler()(seen if run_in == "thread" else seen_on_loop)
    jobs: list[Job[Any]] = []
    async with at_work(uploads):
        for name in ("first", "second"):
            who.set(name)
            jobs.append(handler.submit(upload))
        assert [(await job.wait()).result for job in jobs] == ["first", "second"]


# Changes


async def test_who_waits_for_a_change_is_told_of_it(uploads: Uploads) -> None:
    async with at_work(uploads):
        runner = uploads._runner
        assert runner is not None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(runner.executor.changes.wait)
            await anyio.wait_all_tasks_blocked()
            runner.notice()


async def test_a_thread_tells_of_a_change_although_nobody_waits_yet(
    uploads: Uploads, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who looks at that moment, and is about to wait, would not hear of it."""
    async with at_work(uploads):
        runner, told = uploads._runner, anyio.Event()
        assert runner is not None
        with monkeypatch.context() as patch:
            patch.setattr(runner.executor.changes, "notice", told.set)
            await anyio.to_thread.run_sync(runner.notice)
            await told.wait()


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


async def test_a_thread_that_comes_too_late_is_told_so(uploads: Uploads) -> None:
    async with at_work(uploads):
        runner = uploads._runner
        assert runner is not None
        call = partial(runner.call, lambda: "taken", instead="too late")
        assert await anyio.to_thread.run_sync(call) == "taken"
    assert await anyio.to_thread.run_sync(call) == "too late"


async def test_running_ends_after_the_calls_of_threads(uploads: Uploads) -> None:
    """One that comes as it ends finds the event loop, and is told that no job is taken."""
    waited = list[bool]()

    async def return_later() -> None:
        while runner.is_open:
            await anyio.lowlevel.checkpoint()
        for _ in range(10):
            await anyio.lowlevel.checkpoint()
        waited.append(uploads._runner is runner)
        runner._calls -= 1

    async with anyio.create_task_group() as tasks, at_work(uploads):
        assert uploads._runner is not None
        runner = uploads._runner
        runner._calls += 1
        tasks.start_soon(return_later)
    assert waited == [True]
