"""A job is lost, and told to be, when ``asyncio.run`` cancels all tasks that are left."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from starlette_upload_keepalive import Job, JobContext, JobState, Upload, Uploads
from starlette_upload_keepalive.events import JobCancelled, JobEvent, JobStarted
from tests.stored import make_upload

PATIENCE = 20  # seconds, which only a failure takes


def run(uploads: Uploads, handler: Any, started: threading.Event) -> Job[Any]:
    """Submit a job, and end the event loop's run when it has started."""
    jobs = list[Job[Any]]()

    async def serve() -> None:
        with make_upload(uploads.storage, b"data") as upload:
            async with uploads.running():
                jobs.append(handler.submit_now(upload))
                submitted.set()
                await asyncio.Event().wait()

    async def main() -> None:
        task = asyncio.create_task(serve())
        await submitted.wait()
        assert await asyncio.to_thread(started.wait, PATIENCE)
        assert not task.done()
        for each in asyncio.all_tasks():
            if "Executor._run" in each.get_name():  # the first of those that are cancelled
                each.cancel()

    submitted = asyncio.Event()
    asyncio.run(main())
    return jobs[0]


def cancellations(events: list[JobEvent]) -> list[tuple[str, bool]]:
    return [
        (event.reason, event.thread_goes_on) for event in events if isinstance(event, JobCancelled)
    ]


def test_thread_that_is_left_behind() -> None:
    """It is asked to stop, and lets go of the file itself."""
    events = list[JobEvent]()
    uploads = Uploads(hooks=[events.append])
    started, go_on, returned = threading.Event(), threading.Event(), threading.Event()
    seen = list[bool]()

    @uploads.handler()
    def handler(upload: Upload, job: JobContext) -> None:
        started.set()
        assert go_on.wait(PATIENCE)
        seen.append(job.cancelled)
        upload.file.read()
        returned.set()

    job = run(uploads, handler, started)
    assert job.state is JobState.CANCELLED
    assert cancellations(events) == [("shutdown", True)]
    go_on.set()
    assert returned.wait(PATIENCE)
    assert seen == [True]


@pytest.mark.filterwarnings(
    "ignore:coroutine '(Executor._run|_be_cancelled_with)' was never awaited:RuntimeWarning"
)
def test_one_that_never_began() -> None:
    """As no task does that is cancelled before its first step."""
    events = list[JobEvent]()
    uploads = Uploads(hooks=[events.append])

    @uploads.handler()
    async def handler(upload: Upload) -> None:
        raise AssertionError

    async def main() -> None:
        with make_upload(uploads.storage, b"data") as upload:
            async with uploads.running():
                handler.submit_now(upload)
                for task in asyncio.all_tasks():
                    task.cancel()
                await asyncio.Event().wait()

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())
    (job,) = uploads.jobs
    assert job.state is JobState.CANCELLED
    assert cancellations(events) == [("shutdown", False)]
    assert not [event for event in events if isinstance(event, JobStarted)]
    assert uploads.stats().open_uploads == 0


def test_one_on_the_event_loop_has_not_failed() -> None:
    """Though it is cancelled, and learns of it, before what runs it: that has to clean up first."""
    events = list[JobEvent]()
    uploads = Uploads(hooks=[events.append])

    @uploads.handler()
    async def handler(upload: Upload) -> None:
        started.set()
        await asyncio.Event().wait()

    async def main() -> None:
        serving = asyncio.create_task(serve())
        await started.wait()
        assert not serving.done()

    async def serve() -> None:
        with make_upload(uploads.storage, b"data") as upload:
            async with uploads.running():
                handler.submit_now(upload)
                try:
                    await asyncio.Event().wait()
                finally:
                    for _ in range(100):
                        await asyncio.sleep(0)

    started = asyncio.Event()
    asyncio.run(main())
    (job,) = uploads.jobs
    assert (job.state, job.error) == (JobState.CANCELLED, None)
    assert cancellations(events) == [("shutdown", False)]
