"""Jobs of one spool as another process tells of them, and those that processes have died of."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from starlette_upload_keepalive import (
    DirectorySpool,
    Job,
    JobNotFound,
    JobState,
    ProcessDied,
    Upload,
    Uploads,
)
from starlette_upload_keepalive.events import JobEvent
from starlette_upload_keepalive.files.storage import Storage
from starlette_upload_keepalive.files.upload import let_go_of_all
from starlette_upload_keepalive.jobs import parking as parking_module
from starlette_upload_keepalive.jobs.record import Standing
from starlette_upload_keepalive.jobs.spool import KeptJob, WaitingJob
from starlette_upload_keepalive.testing import finish_jobs
from tests.running import at_work
from tests.sites import reading
from tests.spooled import durable, enqueue, entries, parking, states, until
from tests.spooling import Maker, ended, released

pytestmark = pytest.mark.anyio


@contextmanager
def another(root: Path, **options: Any) -> Generator[DirectorySpool, None, None]:
    """Have the spool as another process has it."""
    spool = DirectorySpool(root, **options)
    spool.open(Storage())
    try:
        yield spool
    finally:
        spool.close()


def take(spool: DirectorySpool, job_id: str) -> WaitingJob:
    """Claim a job for it."""
    (waiting,) = [job for job in spool.waiting() if job.id == job_id]
    claimed = spool.claim(waiting)
    assert claimed is not None
    let_go_of_all(claimed.uploads)
    return waiting


async def look(uploads: Uploads) -> None:
    await parking(uploads)._look()


async def test_what_another_process_has_taken_waits_here_no_longer(root: Path) -> None:
    uploads = durable(root, handler_tasks=1)
    opened = anyio.Event()

    @uploads.handler()
    async def handler(upload: Upload) -> None:
        await opened.wait()

    async with at_work(uploads):
        runs, taken, stays = [await enqueue(handler) for _ in range(3)]
        parking(uploads)._give_back_all()
        await until(lambda: states(root, "ready") == "ww")
        with another(root) as other:
            take(other, taken.id)
            other.start(taken.id)
            await look(uploads)
            assert {job.id for job in uploads.jobs} == {runs.id, stays.id}
            assert uploads.stats().jobs[JobState.WAITING] == 1
            with pytest.raises(JobNotFound, match=r"Another process may have it: await .*find"):
                uploads.jobs.cancel(taken.id)
            found = await uploads.jobs.find(taken.id)
            assert isinstance(found, KeptJob)
            assert (found.state, found.attempt) == (JobState.RUNNING, 1)
            assert (found.progress, found.started_at) == (None, None)
            other.finish(taken.id, ended(JobState.SUCCEEDED, result=7))
            assert (await taken.wait()).result == 7
            opened.set()
            await finish_jobs(uploads)
    assert stays.state is JobState.SUCCEEDED


async def test_what_is_told_of_a_job_that_was_tried_again_elsewhere(root: Path) -> None:
    uploads = durable(root)

    @uploads.handler()
    async def handler(upload: Upload) -> None:
        raise ValueError("bad")

    async with at_work(uploads):
        job = await (await enqueue(handler)).wait()
        found = await uploads.jobs.find(job.id)
        assert found is job  # it tells more
        parking(uploads)._is_open = False  # another process has a place for it
        with another(root) as other:
            assert other.retry(job.id)
            take(other, job.id)
            other.start(job.id)
            other.finish(job.id, ended(JobState.SUCCEEDED, result=1))
            found = await uploads.jobs.find(job.id)
            assert found is not None
            assert (found.state, found.attempt, found.result) == (JobState.SUCCEEDED, 2, 1)
            assert [each.id for each in await uploads.jobs.find_all(state="succeeded")] == [job.id]
            assert list(await uploads.jobs.find_all(state="failed")) == []


async def test_a_kept_job_is_run_again_and_can_be_waited_for(root: Path) -> None:
    """`finish_jobs` in a test finishes it."""
    uploads = durable(root)
    fails = [True]

    @uploads.handler()
    async def handler(upload: Upload) -> str:
        if fails.pop():
            raise ValueError("bad")
        fails.append(True)
        return "good"

    async with at_work(uploads):
        job = await (await enqueue(handler)).wait()
        fails[:] = [True, False]
        assert await uploads.jobs.retry_kept(job.id)
        assert not await uploads.jobs.retry_kept(job.id)
        await finish_jobs(uploads)
        assert states(root, "done") == "s"
        found = await uploads.jobs.find(job.id)
        assert found is not None
        assert found.result == "good"


async def test_what_is_retried_while_the_spool_is_looked_at_is_waited_for(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploads = durable(root)
    fails, waiting = [True], DirectorySpool.waiting
    listed, go_on = threading.Event(), threading.Event()

    @uploads.handler()
    async def handler(upload: Upload) -> None:
        if fails and fails.pop():
            raise ValueError("bad")

    def slowly(spool: DirectorySpool, most: int | None = None) -> list[WaitingJob]:
        found = waiting(spool, most)
        listed.set()
        assert go_on.wait(10)
        return found

    async with at_work(uploads):
        job = await (await enqueue(handler)).wait()
        monkeypatch.setattr(DirectorySpool, "waiting", slowly)
        parking(uploads).look_soon()
        await until(listed.is_set)
        assert await uploads.jobs.retry_kept(job.id)
        go_on.set()
        await finish_jobs(uploads)
        assert states(root, "done") == "s"


def test_both_kinds_of_jobs_tell_the_same() -> None:
    """Whatever a page shows of a job, it shows of one that another process has."""
    told = {name for name in dir(Job) if not name.startswith("_")} - {"wait"}
    assert told <= set(dir(KeptJob)) | set(KeptJob.__dataclass_fields__)


@pytest.mark.parametrize("forgotten_by", ["sweep", "purge"])
async def test_who_waits_for_a_job_that_is_forgotten_elsewhere(
    root: Path, forgotten_by: str
) -> None:
    uploads = durable(root, handler_tasks=1)
    opened = anyio.Event()

    @uploads.handler()
    async def handler(upload: Upload) -> None:
        await opened.wait()

    async with at_work(uploads), anyio.create_task_group() as tasks:
        _, job = [await enqueue(handler) for _ in range(2)]
        tasks.start_soon(job.wait)
        parking(uploads)._give_back_all()
        await until(lambda: states(root, "ready") == "w")
        with another(root, keep_done=0) as other:
            take(other, job.id)
            other.finish(job.id, ended())
            other.sweep() if forgotten_by == "sweep" else other.purge()
        for _ in range(2):
            await look(uploads)
        assert (job.state, job.error) == (
            JobState.CANCELLED, "What came of it is not known: its spool has forgotten it.",
        )  # fmt: skip
        opened.set()


async def test_a_job_is_cancelled_that_waits_in_the_spool(root: Path) -> None:
    """Whoever has submitted it: an earlier start, for example."""
    with another(root) as other:
        maker = Maker(Storage())
        delayed, waits = (maker.job(b"data", handler="gone") for _ in range(2))
        other.accept([delayed, waits])
        other.release(delayed.record.id, Standing(2e9, 1, 1))
        other.release(waits.record.id, Standing(0))
        maker.let_go()
    uploads = durable(root)
    assert not await Uploads().jobs.cancel_kept(delayed.record.id)
    async with at_work(uploads):
        assert await uploads.jobs.cancel_kept(delayed.record.id)
        assert not await uploads.jobs.cancel_kept(delayed.record.id)
        found = await uploads.jobs.find(delayed.record.id)
        assert found is not None
        assert found.state is JobState.CANCELLED
    assert (states(root, "ready"), states(root, "done")) == ("w", "c")


# Many


@pytest.mark.parametrize("due", [0, 2e9])
async def test_jobs_that_wait_leave_room_for_those_of_other_handlers(
    root: Path, monkeypatch: pytest.MonkeyPatch, due: float
) -> None:
    """Be it for their turn, or for their time."""
    monkeypatch.setattr(parking_module, "_MOST_KNOWN", 4)
    monkeypatch.setattr(parking_module, "_MOST", 2)
    with another(root) as other:
        maker = Maker(Storage())
        slow = [maker.job(b"data", handler="slow") for _ in range(9)]
        quick = [maker.job(b"data", handler="quick") for _ in range(9)]
        released(other, *slow, due=due, attempts=1)
        released(other, *quick)
        maker.let_go()
    uploads = durable(root, handler_tasks=2)
    opened, ran = anyio.Event(), list[str]()

    @uploads.handler(name="slow", max_concurrency=1)
    async def wait(upload: Upload) -> None:
        await opened.wait()

    @uploads.handler(name="quick")
    async def run(upload: Upload) -> None:
        ran.append("quick")

    async with at_work(uploads):
        await until(lambda: len(ran) == 9)
        opened.set()
        if not due:
            await finish_jobs(uploads)
    assert states(root, "done") == "s" * (9 if due else 18)


async def test_a_job_that_is_due_comes_before_those_that_are_delayed(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parking_module, "_MOST_KNOWN", 2)
    monkeypatch.setattr(parking_module, "_MOST", 2)
    maker = Maker(Storage())
    uploads = durable(root)
    handler = uploads.handler(name="work")(reading)
    del handler
    async with at_work(uploads):
        with another(root) as other:
            late = (maker.job(b"late", handler="work") for _ in range(4))
            released(other, *late, due=2e9, attempts=1)
            await look(uploads)
            released(other, *(maker.job(b"data", handler="work") for _ in range(2)))
        maker.let_go()
        await until(lambda: states(root, "done") == "ss")
    assert states(root, "ready") == "wwww"


async def test_what_was_claimed_while_it_was_looked_for_is_not_claimed_again(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploads = durable(root)
    opened = anyio.Event()

    @uploads.handler(name="work")
    async def handler(upload: Upload) -> None:
        await opened.wait()

    with another(root) as other:
        maker = Maker(Storage())
        released(other, maker.job(b"data", handler="work"))
        maker.let_go()
        stale = other.waiting()
    async with at_work(uploads):
        await until(lambda: states(root, "claimed") == "r")

        def late(_spool: DirectorySpool, _most: int) -> list[WaitingJob]:
            return stale

        monkeypatch.setattr(DirectorySpool, "waiting", late)
        await look(uploads)
        assert parking(uploads)._known == {}
        monkeypatch.undo()
        opened.set()
        await finish_jobs(uploads)
    assert states(root, "done") == "s"


# Crashes


@pytest.mark.parametrize(
    ("on_crash", "crashes", "runs"), [("retry", 2, True), ("retry", 3, False), ("fail", 1, False)]
)
async def test_a_job_that_its_process_has_died_of(
    root: Path, on_crash: Any, crashes: int, runs: bool
) -> None:
    """It is given up by whoever claims it, who tells of it as of each job that fails."""
    with another(root) as other:
        maker = Maker(Storage())
        job = maker.job(b"data", handler="work")
        other.accept([job])
        other.release(job.record.id, Standing(0, crashes, 0, crashes))
        maker.let_go()
    events: list[JobEvent] = []
    uploads = durable(root, hooks=[events.append])
    errors: list[tuple[str, BaseException]] = []

    @uploads.handler(
        name="work", on_crash=on_crash, on_error=lambda job, error: errors.append((job.id, error))
    )
    async def work(upload: Upload) -> str:
        return "ran"

    async with at_work(uploads):
        await finish_jobs(uploads)
    kinds = [type(event).__name__ for event in events]
    if runs:
        assert (kinds, errors) == (["JobStarted", "JobSucceeded"], [])
        return
    ((job_id, error),) = errors
    assert (kinds, job_id) == (["JobFailed"], job.record.id)
    assert isinstance(error, ProcessDied)
    assert error.times == crashes
    (dead,) = entries(root, "dead")
    assert (dead.id, dead.standing.attempts, dead.standing.crashes) == (job_id, crashes, crashes)


def test_what_is_no_spool() -> None:
    wrong: Any = "var/uploads"
    with pytest.raises(TypeError, match=r"such as DirectorySpool\('var/uploads'\), not 'var/up"):
        Uploads(spool=wrong)
