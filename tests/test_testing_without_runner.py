"""Jobs are finished as far as they can be without a runner, and while it shuts down."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.to_thread
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from starlette_upload_keepalive import (
    Job,
    JobState,
    NotRunning,
    Upload,
    UploadKeepAliveMiddleware,
    Uploads,
)
from starlette_upload_keepalive.files.threads import WorkerThreads
from starlette_upload_keepalive.jobs.runner import Runner
from starlette_upload_keepalive.testing import finish_jobs, finish_jobs_sync
from tests.asgi import lifespan
from tests.finishing import Finished, app_of, in_a_thread, outcomes, post, submit

pytestmark = pytest.mark.anyio


@pytest.fixture
def uploads() -> Uploads:
    return Uploads(grace_period=0)


each_way = pytest.mark.parametrize("way", ["async", "sync"])


async def finish(uploads: Uploads, way: str) -> list[Job[Any]]:
    return finish_jobs_sync(uploads) if way == "sync" else await finish_jobs(uploads)


@each_way
async def test_jobs_that_ran_in_their_request(uploads: Uploads, way: str) -> None:
    @uploads.handler("photo")
    async def handler(upload: Upload) -> int:
        return len(await upload.read())

    async def endpoint(request: Request) -> Response:
        await request.form()
        return Response()

    assert await finish(uploads, way) == []
    await post(app_of(uploads, endpoint))
    assert outcomes(await finish(uploads, way)) == [("handler", "succeeded", 4)]


@each_way
@pytest.mark.parametrize("where", ["request", "job"])
async def test_what_can_not_be_waited_for(uploads: Uploads, way: str, where: str) -> None:
    go_on = anyio.Event()

    @uploads.handler("photo")
    async def handler(upload: Upload) -> None:
        await go_on.wait()

    async def endpoint(request: Request) -> Response:
        await request.form()
        if where == "request":
            await go_on.wait()
        return Response()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(post, app_of(uploads, endpoint))
        await anyio.wait_all_tasks_blocked()
        named = {"request": "the request POST /photos", "job": "handler of 'a.png': running"}
        with pytest.raises(NotRunning, match=f"its lifespan(?s:.*)\n- {named[where]}"):
            await finish(uploads, way)
        go_on.set()


@asynccontextmanager
async def shut_down_while_finishing(
    uploads: Uploads, way: str = "async"
) -> AsyncGenerator[Finished, None]:
    """Call `finish_jobs` in a task, and shut the app down at the end of the block."""
    finished = Finished()

    async def run() -> None:
        try:
            finished.jobs = await (in_a_thread if way == "sync" else finish_jobs)(uploads)
        except NotRunning as error:
            finished.error = error

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks, uploads.running():
            yield finished
            tasks.start_soon(run)
            await anyio.wait_all_tasks_blocked()


@each_way
async def test_shutdown_leaves_a_request(uploads: Uploads, way: str) -> None:
    go_on = anyio.Event()

    async def endpoint(request: Request) -> Response:
        await request.form()
        await go_on.wait()
        return Response()

    async with anyio.create_task_group() as tasks:
        async with shut_down_while_finishing(uploads, way) as finished:
            tasks.start_soon(post, app_of(uploads, endpoint))
            await anyio.wait_all_tasks_blocked()
        go_on.set()
        assert "- the request POST /photos" in str(finished.error)


async def test_shutdown_ends_a_job(uploads: Uploads) -> None:
    @uploads.handler()
    async def handler(upload: Upload) -> None:
        await anyio.sleep_forever()

    async with shut_down_while_finishing(uploads) as finished:
        job = submit(handler)
    assert finished.jobs == [job]
    assert job.state is JobState.CANCELLED


@each_way
async def test_in_the_shutdown_code(uploads: Uploads, way: str) -> None:
    """The jobs have been drained."""
    finished = list[Job[Any]]()

    @asynccontextmanager
    async def shutdown(_: Starlette) -> AsyncGenerator[None, None]:
        yield
        finished.extend(await (in_a_thread if way == "sync" else finish_jobs)(uploads))

    @uploads.handler()
    async def handler(upload: Upload) -> None:
        await anyio.sleep_forever()

    async with lifespan(UploadKeepAliveMiddleware(Starlette(lifespan=shutdown), uploads)):
        job = submit(handler)
    assert finished == [job]


async def test_runner_that_is_not_there_can_not_be_waited_for() -> None:
    async def call() -> None:
        raise NotImplementedError

    runner = Runner(
        threads=WorkerThreads(1),
        callback_threads=WorkerThreads(1),
        places={"thread": 1, "loop": 1, "process": 1},
        grace_period=None,
    )
    with pytest.raises(NotRunning):
        runner.wait_for(call)
    async with runner.running():
        pass
    with pytest.raises(NotRunning):
        await anyio.to_thread.run_sync(runner.wait_for, call)
