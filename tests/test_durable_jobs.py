"""Jobs in a durable spool: they wait there, run, are tried again, and outlive the app."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import anyio
import pytest

from starlette_upload_keepalive import (
    DirectorySpool,
    Discard,
    Job,
    JobContext,
    JobState,
    Retry,
    Upload,
    Uploads,
)
from starlette_upload_keepalive.jobs import parking as parking_module
from starlette_upload_keepalive.jobs.record import Standing
from starlette_upload_keepalive.testing import finish_jobs
from tests.running import at_work
from tests.sites import reading
from tests.spooled import durable, enqueue, entries, files_left, parking, states, until

pytestmark = pytest.mark.anyio


# Waiting


@pytest.mark.parametrize("run_in", ["thread", "loop"])
async def test_those_without_a_place_wait_on_the_disk(root: Path, run_in: str) -> None:
    """P7: a job that waits takes neither memory nor a descriptor."""
    uploads = durable(root, handler_threads=1, handler_tasks=1)
    opened, opened_on_loop = threading.Event(), anyio.Event()

    def thread(upload: Upload) -> int:
        assert opened.wait(10)
        return len(upload.file.read())

    async def loop(upload: Upload) -> int:
        await opened_on_loop.wait()
        return len(await upload.read())

    handler: Any = uploads.handler()(thread if run_in == "thread" else loop)
    async with at_work(uploads):
        jobs = [await enqueue(handler, b"x" * size) for size in range(20)]
        await until(lambda: [job._has_uploads for job in jobs] == [True] + [False] * 19)
        assert (states(root, "ready"), states(root, "claimed")) == ("w" * 19, "r")
        opened.set()
        opened_on_loop.set()
        await finish_jobs(uploads)
        assert [job.result for job in jobs] == list(range(20))
        assert [job.state for job in jobs] == [JobState.SUCCEEDED] * 20
    assert states(root, "done") == "s" * 20
    assert files_left(root) == []


async def test_a_place_before_long_needs_no_way_over_the_disk(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploads = durable(root, handler_tasks=1)
    release, released = DirectorySpool.release, list[str]()

    def watched(spool: DirectorySpool, job_id: str, standing: Standing) -> None:
        released.append(job_id)
        release(spool, job_id, standing)

    monkeypatch.setattr(DirectorySpool, "release", watched)
    monkeypatch.setattr(parking_module, "_LOOK", 60)
    monkeypatch.setattr(parking_module, "_MOST_HERE", 2)
    opened = anyio.Event()

    @uploads.handler()
    async def handler(upload: Upload) -> None:
        await opened.wait()

    async with at_work(uploads):
        await until(lambda: parking(uploads)._next_parking)
        runs, *stay, beyond = [await enqueue(handler) for _ in range(4)]
        await until(lambda: released)
        uploads.jobs.cancel(stay[0].id)
        last = await enqueue(handler)  # there is room once more
        opened.set()
        await finish_jobs(uploads)
    assert released == [beyond.id]
    assert [job.state for job in (runs, stay[1], beyond, last)] == [JobState.SUCCEEDED] * 4


async def test_job_that_waits_on_the_disk_can_be_waited_for(root: Path) -> None:
    uploads = durable(root, handler_tasks=1)
    opened = anyio.Event()

    @uploads.handler()
    async def handler(upload: Upload, number: int) -> int:
        await opened.wait()
        return number

    async with at_work(uploads):
        jobs = [await enqueue(handler, number=number) for number in range(3)]
        await until(lambda: len(entries(root, "ready")) == 2)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(jobs[2].wait)
            await anyio.wait_all_tasks_blocked()
            opened.set()
        assert jobs[2].result == 2


async def test_arguments_and_files_come_back_as_they_were(root: Path) -> None:
    """Whichever process runs it."""
    uploads = durable(root, handler_tasks=1)
    seen: list[Any] = []
    opened = anyio.Event()

    @uploads.handler(many=True)
    async def handler(files: list[Upload], job: JobContext, *, tags: dict[str, int]) -> None:
        await opened.wait()
        seen.append([(file.filename, file.content_type, await file.read()) for file in files])
        seen.append(tags)

    async with at_work(uploads):
        first = await enqueue_many(handler, [b"1"])
        second = await enqueue_many(handler, [b"22", b"x" * 2_000_000])
        await until(lambda: len(entries(root, "ready")) == 1)
        uploads.jobs._history.forget(second)  # as if another process had accepted it
        opened.set()
        await finish_jobs(uploads)
        assert first.done
    assert seen[2:] == [
        [("0.txt", "text/plain", b"22"), ("1.txt", "text/plain", b"x" * 2_000_000)],
        {"a": 1},
    ]


async def enqueue_many(handler: Any, contents: list[bytes]) -> Job[Any]:
    files = [
        Upload.from_bytes(data, filename=f"{number}.txt") for number, data in enumerate(contents)
    ]
    try:
        job: Job[Any] = await handler.enqueue(files, tags={"a": 1})
    finally:
        for file in files:
            await file.close()
    return job


async def test_job_that_waits_on_the_disk_is_cancelled(root: Path) -> None:
    uploads = durable(root, handler_tasks=1)
    opened = anyio.Event()

    @uploads.handler()
    async def handler(upload: Upload) -> None:
        await opened.wait()

    async with at_work(uploads):
        first, second = [await enqueue(handler) for _ in range(2)]
        await until(lambda: len(entries(root, "ready")) == 1)
        assert uploads.jobs.cancel(second.id)
        await until(lambda: second.done)
        opened.set()
        await finish_jobs(uploads)
        assert (first.state, second.state) == (JobState.SUCCEEDED, JobState.CANCELLED)
    assert states(root, "done") == "cs"
    assert files_left(root) == []


# Attempts


async def test_delayed_job_waits_on_the_disk(root: Path) -> None:
    uploads = durable(root)
    attempts: list[int] = []

    @uploads.handler(retry=Retry(attempts=3, wait_initial=1000, wait_max=1000, wait_jitter=0))
    async def handler(upload: Upload, job: JobContext) -> int:
        attempts.append(len(await upload.read()))
        if len(attempts) < 3:
            raise OSError("busy")
        return job.attempt

    async with at_work(uploads):
        job = await enqueue(handler)
        await until(lambda: job.state is JobState.DELAYED)
        (entry,) = entries(root, "ready")
        assert (entry.standing.attempts, entry.standing.failures) == (1, 1)
        assert entry.standing.due - job.created_at.timestamp() == pytest.approx(1000, abs=20)
        assert uploads.stats().open_uploads == 0
        assert (await finish_jobs(uploads))[0].result == 3
    assert attempts == [4, 4, 4]


def failing_once(uploads: Uploads) -> Any:
    @uploads.handler(retry=Retry(attempts=2, wait_initial=1000, wait_max=1000, wait_jitter=0))
    async def handler(upload: Upload, job: JobContext) -> int:
        if job.attempt == 1:
            raise OSError("busy")
        return job.attempt

    return handler


async def test_retry_keeps_its_time_over_a_restart(root: Path) -> None:
    first, second = durable(root), durable(root)
    async with at_work(first):
        job = await enqueue(failing_once(first))
        await until(lambda: job.state is JobState.DELAYED)
    (before,) = entries(root, "ready")

    failing_once(second)
    async with at_work(second):
        kept = await second.jobs.find(job.id)
        assert kept is not None
        assert (kept.state, kept.attempt) == (JobState.DELAYED, 1)
        assert entries(root, "ready") == [before]
        await until(lambda: len(parking(second)._known) == 1)
        (done,) = await finish_jobs(second)
        assert (done.id, done.result) == (job.id, 2)


async def test_failed_job_keeps_its_bytes_until_it_is_retried(root: Path) -> None:
    uploads = durable(root)
    broken = True

    @uploads.handler()
    async def handler(upload: Upload) -> str:
        if broken:
            raise ValueError("broken")
        return (await upload.read()).decode()

    async with at_work(uploads):
        job = await enqueue(handler)
        await job.wait()
        await until(lambda: states(root, "dead") == "f")
        kept = await uploads.jobs.find(job.id)
        assert kept is not None
        assert (kept.state, kept.error) == (JobState.FAILED, "ValueError: broken")
        broken = False
        assert not await uploads.jobs.retry_kept("0" * 32)
        assert await uploads.jobs.retry_kept(job.id)
        parking(uploads).look_soon()
        await until(lambda: states(root, "done") == "s")
        again = await uploads.jobs.wait(job.id)
        assert (again.result, again.attempt) == ("data", 2)
    assert files_left(root) == []


async def test_handler_that_gives_up(root: Path) -> None:
    uploads = durable(root)

    @uploads.handler()
    async def handler(upload: Upload) -> None:
        raise Discard("no picture")

    async with at_work(uploads):
        job = await (await enqueue(handler)).wait()
    assert (job.state, job.error) == (JobState.DISCARDED, "no picture")
    assert states(root, "done") == "d"


# Pipelines


@pytest.mark.parametrize("run_in", ["thread", "loop"])
async def test_children_are_there_if_their_parent_has_succeeded(root: Path, run_in: str) -> None:
    uploads = durable(root)
    failed: list[int] = []

    @uploads.handler()
    async def child(upload: Upload) -> str:
        return (await upload.read()).decode()

    def thread(upload: Upload) -> None:
        child.submit(upload)
        if not failed:
            failed.append(1)
            raise OSError("busy")

    async def loop(upload: Upload) -> None:
        thread(upload)

    retry = Retry(attempts=2, wait_initial=0, wait_max=0)
    parent: Any = uploads.handler(retry=retry)(thread if run_in == "thread" else loop)
    async with at_work(uploads):
        job = await enqueue(parent)
        await finish_jobs(uploads)
    children = [each for each in uploads.jobs if each.parent_id == job.id]
    assert sorted(each.state.value for each in children) == ["discarded", "succeeded"]
    assert {each.result for each in children} == {None, "data"}
    assert states(root, "done") == "ss"
    assert files_left(root) == []


# Sweeping


async def test_an_idle_app_lets_the_disk_sleep(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It looks for what is to be removed at its start, and when jobs were done."""
    swept: list[int] = []
    sweep = DirectorySpool.sweep

    def counting(spool: DirectorySpool) -> None:
        swept.append(1)
        sweep(spool)

    monkeypatch.setattr(DirectorySpool, "sweep", counting)
    uploads = durable(root)
    handler = uploads.handler()(reading)
    async with at_work(uploads):
        await until(lambda: len(swept) == 1)
        keeper = parking(uploads)._keeper
        await keeper.sweep()
        assert len(swept) == 1
        await (await enqueue(handler)).wait()
        await keeper.sweep()
        assert len(swept) == 2
