"""P8, P9: what a durable spool keeps over the end of an app, and tells of it."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import anyio
import pytest
from anyio.lowlevel import checkpoint

from starlette_upload_keepalive import (
    JobContext,
    JobState,
    Retry,
    SpoolUnusable,
    Upload,
    Uploads,
    log_events,
)
from starlette_upload_keepalive.events import JobEvent, JobReleased
from starlette_upload_keepalive.testing import finish_jobs
from tests.running import at_work
from tests.sites import reading
from tests.spooled import (
    durable,
    enqueue,
    entries,
    files_left,
    names,
    parking,
    states,
    until,
)

pytestmark = pytest.mark.anyio


# The end of the app


async def test_job_that_is_cut_off_waits_for_the_next_start(root: Path) -> None:
    """P8: it uses up no attempt, and nothing is lost."""
    events: list[JobEvent] = []
    uploads = durable(root, grace_period=0, hooks=[events.append, log_events])

    @uploads.handler(name="work")
    async def endless(upload: Upload) -> None:
        await anyio.sleep_forever()

    async with at_work(uploads):
        job = await enqueue(endless, b"x" * 2_000_000)
        await until(lambda: states(root, "claimed") == "r")
    (entry,) = entries(root, "ready")
    assert (entry.standing.attempts, entry.standing.failures, entry.standing.crashes) == (1, 0, 0)
    assert names(root, "owners") == names(root, "claimed") == []
    assert not job.done
    (released,) = [event for event in events if isinstance(event, JobReleased)]
    assert not released.thread_goes_on
    assert uploads.stats().open_uploads == 0

    later = durable(root)

    @later.handler(name="work")
    async def work(upload: Upload, job: JobContext) -> tuple[int, int]:
        return len(await upload.read()), job.attempt

    async with at_work(later):
        await until(lambda: states(root, "done") == "s")
        (done,) = await finish_jobs(later)
        assert (done.id, done.result) == (job.id, [2_000_000, 2])
    assert files_left(root) == []


async def test_thread_that_goes_on_keeps_its_job(root: Path) -> None:
    """P8: it is never run twice at a time."""
    opened, started = threading.Event(), threading.Event()
    uploads = durable(root, grace_period=0)

    @uploads.handler(name="work")
    def stubborn(upload: Upload) -> None:
        started.set()
        assert opened.wait(10)

    @uploads.handler(name="never")
    async def never(upload: Upload) -> None:
        await checkpoint()

    async with at_work(uploads):
        await enqueue(stubborn)
        await until(started.is_set)
    assert states(root, "claimed") == "w"  # no crash, if the process ends now
    assert len(names(root, "owners")) == 1
    later = durable(root)
    ran: list[str] = []

    @later.handler(name="work")
    def work(upload: Upload) -> None:
        ran.append("twice")

    async with at_work(later):
        parking(later).look_soon()
        await anyio.wait_all_tasks_blocked()
        assert states(root, "claimed") == "w"  # no crash, if the process ends now
    assert ran == []
    opened.set()
    await until(lambda: states(root, "ready") == "w")
    await until(lambda: names(root, "owners") == [])


async def test_handler_that_is_not_registered_any_more(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    uploads = durable(root, grace_period=0)
    handler = uploads.handler(name="old")(reading)

    @uploads.handler(name="busy")
    async def endless(upload: Upload) -> None:
        await anyio.sleep_forever()

    del handler
    async with at_work(uploads):
        await enqueue(endless)
        await until(lambda: states(root, "claimed") == "r")
    later = durable(root)
    later.handler(name="new")(reading)
    async with at_work(later):
        await until(lambda: "for the handler busy, which is not registered here" in caplog.text)
        (kept,) = await later.jobs.find_all(state="waiting")
        assert kept.handler == "busy"
    assert states(root, "ready") == "w"


async def test_a_job_that_is_cancelled_after_it_was_given_back(root: Path) -> None:
    """It is not true that there was something to end: it may run at the next start."""
    uploads = durable(root, handler_tasks=1)
    opened = anyio.Event()

    @uploads.handler(name="work")
    async def handler(upload: Upload) -> None:
        await opened.wait()

    async with at_work(uploads):
        _, waits = [await enqueue(handler) for _ in range(2)]
        assert uploads._runner is not None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(uploads._runner.stop)
            await until(lambda: states(root, "ready") == "w" and not waits._has_uploads)
            assert not uploads.jobs.cancel(waits.id)
            assert await uploads.jobs.cancel_kept(waits.id)
            opened.set()
    assert states(root, "done") == "cs"


async def test_enqueued_while_the_app_shuts_down(root: Path) -> None:
    """It is kept, and runs at the next start."""
    uploads = durable(root)
    handler = uploads.handler(name="work")(reading)
    async with at_work(uploads):
        assert uploads._runner is not None
        await uploads._runner.stop()
        job = await enqueue(handler)
        assert not job.done
        await until(lambda: states(root, "ready") == "w")
    assert names(root, "owners") == []
    async with at_work(uploads):
        await finish_jobs(uploads)
    assert states(root, "done") == "s"


async def test_a_spool_that_is_open_is_not_opened_again(root: Path) -> None:
    """It would let go of its lock under a thread that goes on."""
    opened, started = threading.Event(), threading.Event()
    uploads = durable(root, grace_period=0)

    @uploads.handler(name="work")
    def stubborn(upload: Upload) -> None:
        started.set()
        assert opened.wait(10)

    async with at_work(uploads):
        await enqueue(stubborn)
        await until(started.is_set)
    with pytest.raises(SpoolUnusable, match="jobs of its former run still go on"):
        async with at_work(uploads):
            pass
    assert states(root, "claimed") == "w"
    assert len(names(root, "owners")) == 1
    opened.set()
    await until(lambda: names(root, "owners") == [])
    async with at_work(uploads):
        await finish_jobs(uploads)
    assert states(root, "done") == "s"


async def test_a_job_that_runs_again_is_not_forgotten_with_its_former_end(root: Path) -> None:
    uploads = durable(root, job_history=1)
    opened, fails = anyio.Event(), [True]

    @uploads.handler(name="work")
    async def handler(upload: Upload) -> None:
        if fails and fails.pop():
            raise ValueError
        await opened.wait()

    @uploads.handler(name="other")
    async def other(upload: Upload) -> None:
        await checkpoint()

    async with at_work(uploads):
        job = await (await enqueue(handler)).wait()
        assert await uploads.jobs.retry_kept(job.id)
        await until(lambda: states(root, "claimed") == "r")
        for _ in range(2):
            await (await enqueue(other)).wait()
        again = uploads.jobs.get(job.id)
        assert again is not None
        assert again.state is JobState.RUNNING
        counts = uploads.stats().jobs
        assert (counts[JobState.FAILED], counts[JobState.RUNNING]) == (0, 1)
        opened.set()
        await finish_jobs(uploads)


# Looking


async def test_find_all_and_purge(root: Path) -> None:
    uploads = durable(root)
    handler = uploads.handler(name="good")(reading)

    @uploads.handler()
    async def bad(upload: Upload) -> None:
        raise ValueError

    async with at_work(uploads):
        good = await (await enqueue(handler)).wait()
        failed = await (await enqueue(bad)).wait()
        await until(lambda: states(root, "dead") == "f")

    later = durable(root)
    with pytest.raises(RuntimeError, match="No runner"):
        await later.jobs.find(good.id)
    async with at_work(later):
        found = await later.jobs.find_all()
        assert [(job.id, job.state) for job in found] == [
            (good.id, JobState.SUCCEEDED),
            (failed.id, JobState.FAILED),
        ]
        assert [job.id for job in await later.jobs.find_all(state="failed")] == [failed.id]
        assert [job.id for job in await later.jobs.find_all(handler="good")] == [good.id]
        kept = await later.jobs.find(good.id)
        assert kept is not None
        assert (kept.result, kept.done, kept.filenames) == ("data", True, ["a.bin"])
        assert kept.finished_at is not None
        assert kept.finished_at >= kept.created_at
        assert await later.jobs.purge(state="failed") == 1
        assert await later.jobs.find(failed.id) is None
        assert await later.jobs.purge() == 1
    assert await Uploads().jobs.find(good.id) is None


async def test_keep_failed_is_the_spools_affair(root: Path) -> None:
    with pytest.raises(ValueError, match="keep_failed"):
        durable(root, keep_failed=1)


async def test_failure_at_the_very_end_is_tried_again_by_the_next(root: Path) -> None:
    """P8: what has a retry left waits for its time, though nothing more is started here."""
    uploads = durable(root, grace_period=0)

    @uploads.handler(name="work", retry=Retry(attempts=2, wait_initial=600, wait_jitter=0))
    async def fails_as_it_ends(upload: Upload) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            raise RuntimeError("as the test wants it")

    async with at_work(uploads):
        job = await enqueue(fails_as_it_ends)
        await until(lambda: states(root, "claimed") == "r")
    (entry,) = entries(root, "ready")
    assert (entry.id, entry.standing.attempts, entry.standing.failures) == (job.id, 1, 1)
    assert entry.standing.due > time.time() + 500
    assert names(root, "dead") == []
