"""Jobs are run to their end in tests."""

from __future__ import annotations

import threading
from typing import Any

import anyio
import pytest
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import Response

from starlette_upload_keepalive import Job, JobState, Retry, RetryLater, Upload, Uploads
from starlette_upload_keepalive.testing import assert_all_closed, finish_jobs
from tests.finishing import DAY, app_of, failing, finishing, outcomes, photo_of, post, submit
from tests.running import at_work

pytestmark = pytest.mark.anyio


@pytest.fixture
def uploads() -> Uploads:
    return Uploads(grace_period=0)


@pytest.mark.parametrize("run_in", ["thread", "loop"])
async def test_jobs_run_to_their_end(uploads: Uploads, run_in: str) -> None:
    released, go_on = anyio.Event(), threading.Event()

    @uploads.handler(name="in_thread")
    def in_thread(upload: Upload) -> int:
        go_on.wait(10)
        return len(upload.file.read())

    @uploads.handler(name="on_loop")
    async def on_loop(upload: Upload) -> int:
        await released.wait()
        return len(await upload.read())

    handler = in_thread if run_in == "thread" else on_loop
    async with at_work(uploads):
        jobs = [submit(handler) for _ in range(20)]
        async with finishing(uploads) as finished:
            released.set()
            go_on.set()
        assert finished.jobs == jobs
        assert {(job.state, job.result) for job in jobs} == {(JobState.SUCCEEDED, 4)}


async def test_nothing_to_do(uploads: Uploads) -> None:
    async with at_work(uploads):
        assert await finish_jobs(uploads, timeout=0) == []


async def test_jobs_of_an_earlier_run_are_not_returned(uploads: Uploads) -> None:
    @uploads.handler()
    async def handler(upload: Upload) -> None:
        pass

    async with at_work(uploads):
        submit(handler)
    async with at_work(uploads):
        job = submit(handler)
        assert await finish_jobs(uploads) == [job]
        assert await finish_jobs(uploads) == [job]
    assert len(await finish_jobs(uploads)) == 2


async def test_failure_is_left_to_the_test(uploads: Uploads) -> None:
    @uploads.handler(retry=Retry(attempts=2, wait_initial=DAY, wait_max=DAY))
    def handler(upload: Upload) -> None:
        raise ValueError("no photo")

    async with at_work(uploads):
        submit(handler)
        (job,) = await finish_jobs(uploads)
    assert (job.state, job.attempt, job.error) == (JobState.FAILED, 2, "ValueError: no photo")


each_error = pytest.mark.parametrize("error", [ValueError(), RetryLater(DAY)], ids=repr)


@each_error
@pytest.mark.parametrize("delayed", [True, False])
async def test_delayed_job_is_not_waited_for(
    uploads: Uploads, delayed: bool, error: Exception
) -> None:
    handler = failing(uploads, error)
    async with at_work(uploads):
        job = submit(handler)
        if delayed:
            await anyio.wait_all_tasks_blocked()
            assert job.state is JobState.DELAYED
        assert await finish_jobs(uploads) == [job]
        assert job.result == 3


@each_error
async def test_delays_are_back_afterwards(uploads: Uploads, error: Exception) -> None:
    handler, stuck = failing(uploads, error), anyio.Event()

    @uploads.handler()
    async def slow(upload: Upload) -> None:
        await stuck.wait()

    async with at_work(uploads):
        submit(slow)
        async with finishing(uploads) as outer:
            with pytest.raises(TimeoutError):
                await finish_jobs(uploads, timeout=0)
            assert (await submit(handler).wait()).result == 3  # the other one is in haste still
            stuck.set()
        assert outer.jobs is not None
        job = submit(handler)
        await anyio.wait_all_tasks_blocked()
        assert (job.state, job.attempt) == (JobState.DELAYED, 1)


async def test_jobs_that_handlers_submit(uploads: Uploads) -> None:
    @uploads.handler()
    def parent(upload: Upload) -> None:
        child.submit(upload)

    @uploads.handler()
    async def child(upload: Upload) -> None:
        grandchild.submit(upload)

    grandchild = failing(uploads, ValueError())
    async with at_work(uploads):
        submit(parent)
        jobs = await finish_jobs(uploads)
    assert [(job.handler, job.result) for job in jobs] == [
        ("parent", None),
        ("child", None),
        ("handler", 3),
    ]


async def test_callback_belongs_to_the_job(uploads: Uploads) -> None:
    go_on = anyio.Event()

    async def call_back(job: Job[Any]) -> None:
        await go_on.wait()

    @uploads.handler(on_success=call_back)
    async def handler(upload: Upload) -> None:
        pass

    async with at_work(uploads):
        job = submit(handler)
        await job.wait()
        with pytest.raises(TimeoutError, match=r"- the callback of handler of 'a\.png': succeeded"):
            await finish_jobs(uploads, timeout=0)
        async with finishing(uploads) as finished:
            go_on.set()
        assert finished.jobs == [job]


@pytest.mark.parametrize("when", ["before", "after the answer"])
async def test_request_that_is_under_way(uploads: Uploads, when: str) -> None:
    """It has the client's answer already, as one of a real server may."""
    go_on = anyio.Event()

    @uploads.handler()
    async def handler(upload: Upload) -> int:
        return len(await upload.read())

    async def endpoint(request: Request) -> Response:
        photo = await photo_of(request)

        async def finish() -> None:
            await go_on.wait()
            if when != "before":
                handler.submit(photo)

        if when == "before":
            handler.submit(photo)
        return Response(background=BackgroundTask(finish))

    async with at_work(uploads), anyio.create_task_group() as tasks:
        tasks.start_soon(post, app_of(uploads, endpoint))
        await anyio.wait_all_tasks_blocked()
        assert len(uploads.jobs) == (when == "before")
        with pytest.raises(TimeoutError, match="- the request POST /photos"):
            await finish_jobs(uploads, timeout=0)
        async with finishing(uploads) as finished:
            go_on.set()
        assert finished.jobs is not None
        assert outcomes(finished.jobs) == [("handler", "succeeded", 4)]


async def test_request_that_brings_no_jobs(uploads: Uploads) -> None:
    """That it has ended is noticed, and so its uploads are closed."""
    go_on = anyio.Event()

    async def endpoint(request: Request) -> Response:
        await request.form()
        await go_on.wait()
        return Response(status_code=400)

    async with at_work(uploads), anyio.create_task_group() as tasks:
        tasks.start_soon(post, app_of(uploads, endpoint))
        await anyio.wait_all_tasks_blocked()
        async with finishing(uploads) as finished:
            go_on.set()
        assert finished.jobs == []
        assert_all_closed(uploads)


async def test_what_was_rejected_is_none_of_the_jobs(uploads: Uploads) -> None:
    @uploads.handler("photo")
    async def handler(upload: Upload) -> None:
        pass

    async def endpoint(request: Request) -> Response:
        await request.form()
        return Response(status_code=400)

    async with at_work(uploads):
        await post(app_of(uploads, endpoint))
        assert await finish_jobs(uploads) == []
    assert await finish_jobs(uploads) == []
    assert [job.state for job in uploads.jobs] == [JobState.DISCARDED]
