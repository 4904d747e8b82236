"""What may be asked of a job that waits in the spool, and what is told if that raises."""

from __future__ import annotations

import errno
import time
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from starlette_upload_keepalive import DirectorySpool, JobState, Retry, Upload
from starlette_upload_keepalive.files.storage import Storage
from starlette_upload_keepalive.jobs.spool import Ending
from tests.running import at_work
from tests.sites import reading
from tests.spooled import durable, enqueue, entries, parking, states, until
from tests.spooling import Maker, released

pytestmark = pytest.mark.anyio


async def test_a_delayed_job_is_cancelled(root: Path) -> None:
    uploads = durable(root)

    @uploads.handler(retry=Retry(attempts=2, wait_initial=1000, wait_max=1000, wait_jitter=0))
    async def handler(upload: Upload) -> None:
        raise OSError("busy")

    async with at_work(uploads):
        job = await enqueue(handler)
        await until(lambda: job.state is JobState.DELAYED)
        assert uploads.jobs.cancel(job.id)
        await until(lambda: job.done)
        assert not uploads.jobs.cancel(job.id)
    assert (job.state, states(root, "done")) == (JobState.CANCELLED, "c")


async def test_a_clock_that_was_ahead(root: Path, on_disk: Storage) -> None:
    """What was never started waits for nothing, whatever the time at which it was made."""
    maker, spool = Maker(on_disk), DirectorySpool(root)
    spool.open(on_disk)
    fresh, retried = maker.job(b"data"), maker.job(b"data")
    ahead = time.time() + 1e6
    released(spool, fresh, due=ahead)
    released(spool, retried, due=ahead, attempts=1)
    spool.close()
    maker.let_go()

    uploads = durable(root)
    uploads.handler(name="work")(reading)
    async with at_work(uploads):
        await until(lambda: states(root, "done") == "s")
    assert [entry.id for entry in entries(root, "done")] == [fresh.record.id]
    assert [entry.id for entry in entries(root, "ready")] == [retried.record.id]


async def test_a_running_job_is_cancelled_and_a_waiting_one_needs_no_haste(root: Path) -> None:
    uploads = durable(root, handler_tasks=1)

    @uploads.handler()
    async def endless(upload: Upload) -> None:
        await anyio.sleep_forever()

    async with at_work(uploads):
        first, second = [await enqueue(endless) for _ in range(2)]
        await until(lambda: len(entries(root, "ready")) == 1 and parking(uploads)._known)
        assert not uploads.jobs.retry(second.id)  # it is not delayed
        assert uploads.jobs.cancel(second.id)
        await until(lambda: second.done)
        assert uploads.jobs.cancel(first.id)
        await first.wait()
    assert states(root, "done") == "cc"


async def test_what_a_spool_must_not_raise_ends_no_runner(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise ValueError("of the test")

    uploads = durable(root)
    handler = uploads.handler()(reading)
    with monkeypatch.context() as patch:
        patch.setattr(DirectorySpool, "waiting", fail)
        async with at_work(uploads):
            await until(lambda: "that is tried again" in caplog.text)
            assert (await (await enqueue(handler)).wait()).result == "data"
    assert "The spool has raised ValueError('of the test')" in caplog.text


async def test_what_is_not_given_back_at_the_end_stays_with_the_process(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "of the test")

    uploads = durable(root, grace_period=0)

    @uploads.handler()
    async def endless(upload: Upload) -> None:
        await anyio.sleep_forever()

    with monkeypatch.context() as patch:
        async with at_work(uploads):
            job = await enqueue(endless)
            await until(lambda: states(root, "claimed") == "r")
            patch.setattr(DirectorySpool, "release", fail)
    assert f"The job {job.id} could not be given back to its spool" in caplog.text
    assert states(root, "claimed") == "r"
    spool = uploads._spool
    assert isinstance(spool, DirectorySpool)
    await anyio.to_thread.run_sync(spool.finish, job.id, Ending(JobState.DISCARDED, time.time()))
    await anyio.to_thread.run_sync(spool.close)
