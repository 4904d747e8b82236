"""Jobs of one spool as another process tells of them, and those that processes have died of."""

from __future__ import annotations

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
from starlette_upload_keepalive.jobs.record import Standing
from starlette_upload_keepalive.jobs.spool import KeptJob, WaitingJob
from starlette_upload_keepalive.testing import finish_jobs
from tests.running import at_work
from tests.spooled import durable, enqueue, entries, make_root, parking, states, until
from tests.spooling import Maker, ended

pytestmark = pytest.mark.anyio


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_root(tmp_path)


@contextmanager
def another(root: Path) -> Generator[DirectorySpool, None, None]:
    """Have the spool as another process has it."""
    spool = DirectorySpool(root)
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


def test_both_kinds_of_jobs_tell_the_same() -> None:
    """Whatever a page shows of a job, it shows of one that another process has."""
    told = {name for name in dir(Job) if not name.startswith("_")} - {"wait"}
    assert told <= set(dir(KeptJob)) | set(KeptJob.__dataclass_fields__)


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
