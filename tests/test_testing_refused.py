"""What can't be finished is named; where nobody could wait, that is said."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.to_thread
import pytest
from starlette.requests import Request
from starlette.responses import Response

from starlette_upload_keepalive import Job, JobState, RetryLater, Upload, Uploads, WouldDeadlock
from starlette_upload_keepalive.testing import finish_jobs, finish_jobs_sync
from tests.finishing import DAY, app_of, failing, in_a_thread, post, submit
from tests.running import at_work

pytestmark = pytest.mark.anyio


@pytest.fixture
def uploads() -> Uploads:
    return Uploads(grace_period=0)


# What takes too long


async def test_stuck_job_is_named(uploads: Uploads) -> None:
    @uploads.handler()
    async def transcode(upload: Upload) -> None:
        await anyio.sleep_forever()

    async with at_work(uploads):
        job = submit(transcode)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(TimeoutError) as raised:
            await finish_jobs(uploads, timeout=0.01)
        assert str(raised.value) == (
            f"After 0.01 s there are still:\n- transcode of 'a.png': running, attempt 1 ({job.id})"
        )


async def test_job_that_never_comes_to_an_end_is_named(uploads: Uploads) -> None:
    @uploads.handler()
    async def handler(upload: Upload) -> None:
        raise RetryLater(DAY)

    async with at_work(uploads):
        submit(handler)
        with pytest.raises(TimeoutError, match=r"attempt \d{2,}, after RetryLater: Try again"):
            await finish_jobs(uploads, timeout=0.1)


async def test_jobs_go_on_after_the_timeout_and_when_cancelled(uploads: Uploads) -> None:
    go_on = anyio.Event()

    @uploads.handler()
    async def handler(upload: Upload) -> None:
        await go_on.wait()

    async with at_work(uploads):
        job = submit(handler)
        with pytest.raises(TimeoutError):
            await finish_jobs(uploads, timeout=0)
        with anyio.move_on_after(0) as scope:
            await finish_jobs(uploads)
        assert scope.cancelled_caught
        go_on.set()
        assert await finish_jobs(uploads) == [job]
        assert job.state is JobState.SUCCEEDED


# Wrong uses


async def test_sync_in_the_thread_of_the_event_loop(uploads: Uploads) -> None:
    async with at_work(uploads):
        with pytest.raises(RuntimeError, match=r"In an async test: await finish_jobs\(uploads\)"):
            finish_jobs_sync(uploads)


async def test_async_in_another_event_loop(uploads: Uploads) -> None:
    def in_thread() -> None:
        with pytest.raises(RuntimeError, match=r"Call finish_jobs_sync\(uploads\)"):
            anyio.run(finish_jobs, uploads)

    async with at_work(uploads):
        await anyio.to_thread.run_sync(in_thread)


async def test_sync_in_another_thread(uploads: Uploads) -> None:
    handler = failing(uploads, ValueError())
    async with at_work(uploads):
        job = submit(handler)
        assert await in_a_thread(uploads) == [job]
        assert job.result == 3


@pytest.mark.parametrize("run_in", ["thread", "loop"])
async def test_in_a_job(uploads: Uploads, run_in: str) -> None:
    @uploads.handler(name="in_thread")
    def in_thread(upload: Upload) -> None:
        finish_jobs_sync(uploads)

    @uploads.handler(name="on_loop")
    async def on_loop(upload: Upload) -> None:
        await finish_jobs(uploads)

    async with at_work(uploads):
        submit(in_thread if run_in == "thread" else on_loop)
        (job,) = await finish_jobs(uploads)
    assert job.error is not None
    assert job.error.startswith("WouldDeadlock: Jobs can't be finished from within")


async def test_in_what_a_job_left_behind(uploads: Uploads) -> None:
    """It belongs to the job no longer."""
    ended, finished = anyio.Event(), list[Job[Any]]()

    async def later() -> None:
        await ended.wait()
        finished.extend(await finish_jobs(uploads))

    @uploads.handler()
    async def handler(upload: Upload) -> None:
        tasks.start_soon(later)

    async with at_work(uploads), anyio.create_task_group() as tasks:
        job = submit(handler)
        await job.wait()
        ended.set()
        assert await finish_jobs(uploads) == [job]
    assert len(finished) == 1


@pytest.mark.parametrize("run_in", ["thread", "loop"])
async def test_in_a_request(uploads: Uploads, run_in: str) -> None:
    raised = list[WouldDeadlock]()

    async def endpoint(request: Request) -> Response:
        await request.form()
        with pytest.raises(WouldDeadlock) as error:
            await (in_a_thread if run_in == "thread" else finish_jobs)(uploads)
        raised.append(error.value)
        return Response()

    async with at_work(uploads):
        await post(app_of(uploads, endpoint))
    assert len(raised) == 1
