"""Jobs are run to their end in tests, and what is left over is named."""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio
import anyio.to_thread
import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from starlette_upload_keepalive import (
    Job,
    JobContext,
    JobState,
    NotRunning,
    Retry,
    RetryLater,
    Upload,
    UploadKeepAliveMiddleware,
    Uploads,
    WouldDeadlock,
    detach,
)
from starlette_upload_keepalive.runner import Runner
from starlette_upload_keepalive.testing import assert_all_closed, finish_jobs, finish_jobs_sync
from starlette_upload_keepalive.threads import WorkerThreads
from tests.asgi import file_part, http_scope, lifespan, multipart, send_request
from tests.servers import eventually

pytestmark = pytest.mark.anyio

BODY = multipart(file_part(b"data", filename="a.png"))
DAY = 24 * 60 * 60.0


@pytest.fixture
def uploads() -> Uploads:
    return Uploads(grace_period=0)


@asynccontextmanager
async def at_work(uploads: Uploads) -> AsyncGenerator[None, None]:
    """Run jobs in the block, and fail instead of hanging."""
    with anyio.fail_after(20):
        async with uploads.running():
            yield


def app_of(uploads: Uploads, endpoint: Callable[[Request], Any]) -> ASGIApp:
    routes = [Route("/photos", endpoint, methods=["POST"])]
    return UploadKeepAliveMiddleware(Starlette(routes=routes), uploads)


async def post(app: ASGIApp) -> None:
    await send_request(app, BODY, http_scope("/photos"))


async def photo_of(request: Request) -> Upload:
    photo = (await request.form())["photo"]
    assert isinstance(photo, Upload)
    return photo


def submit(handler: Any, *args: Any) -> Job[Any]:
    with Upload.from_bytes(b"data", filename="a.png") as upload:
        job: Job[Any] = handler.submit(upload, *args)
        return job


def outcomes(jobs: list[Job[Any]]) -> list[tuple[str, str, Any]]:
    return [(job.handler, job.state.value, job.result) for job in jobs]


@dataclass
class Finished:
    """What came of a call of `finish_jobs`."""

    jobs: list[Job[Any]] | None = None
    error: Exception | None = None


@asynccontextmanager
async def finishing(uploads: Uploads) -> AsyncGenerator[Finished, None]:
    """Call `finish_jobs` in a task, which waits when the block begins, and is done at its end."""
    finished = Finished()

    async def run() -> None:
        try:
            finished.jobs = await finish_jobs(uploads, 15)
        except Exception as error:  # noqa: BLE001
            finished.error = error

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        await anyio.wait_all_tasks_blocked()
        assert finished == Finished()
        yield finished


# What is waited for


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


def failing(uploads: Uploads, error: Exception) -> Any:
    """Make a handler of which the first two attempts fail."""

    @uploads.handler(retry=Retry(attempts=3, wait_initial=DAY, wait_max=DAY))
    async def handler(upload: Upload, job: JobContext) -> int:
        if job.attempt < 3:
            raise error
        return job.attempt

    return handler


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


async def in_a_thread(uploads: Uploads) -> list[Job[Any]]:
    return await anyio.to_thread.run_sync(finish_jobs_sync, uploads)


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


# Without a runner

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

    runner = Runner(threads=WorkerThreads(1), max_threads=1, max_tasks=1, grace_period=None)
    with pytest.raises(NotRunning):
        runner.wait_for(call)
    async with runner.running():
        pass
    with pytest.raises(NotRunning):
        await anyio.to_thread.run_sync(runner.wait_for, call)


# Open uploads


async def stored(uploads: Uploads, data: bytes = b"data") -> Upload:
    """Make an upload that lies where those of requests do."""

    async def stream() -> AsyncGenerator[bytes, None]:
        yield data

    return await Upload.from_stream(stream(), storage=uploads.storage)


def told(uploads: Uploads) -> str:
    """Return what is said of the uploads that are open."""
    with pytest.raises(AssertionError) as raised:
        assert_all_closed(uploads)
    return str(raised.value)


async def test_all_closed(uploads: Uploads) -> None:
    with await stored(uploads):
        assert told(uploads) == (
            "1 upload is open:\n"
            "- 4 bytes in memory, owned by the code that made it (which has to close it)"
        )
    assert_all_closed(uploads)


async def test_each_open_upload_is_told_of() -> None:
    uploads = Uploads(memory_max_size=4)
    with (
        await stored(uploads),
        await stored(uploads, b"x" * 5000) as large,
        detach(large),
    ):
        title, *lines = told(uploads).split("\n- ")
    assert title == "2 uploads are open:"
    assert sorted(lines)[1] == (
        "5,000 bytes on disk, owned by the code that called detach() (which has to close it); "
        "the code that made it (which has to close it)"
    )


async def test_request_owns_an_upload(uploads: Uploads) -> None:
    seen = list[str]()

    async def endpoint(request: Request) -> Response:
        await request.form()
        seen.append(told(uploads))
        return Response()

    await post(app_of(uploads, endpoint))
    assert "owned by the request POST /photos (finish_jobs() waits for it)" in seen[0]
    assert_all_closed(uploads)


async def test_job_owns_an_upload() -> None:
    uploads = Uploads(keep_failed=1)

    @uploads.handler(retry=Retry(attempts=2, wait_initial=DAY, wait_max=DAY))
    async def handler(upload: Upload) -> None:
        raise ValueError

    async with at_work(uploads):
        with await stored(uploads) as upload:
            job = handler.submit(upload)
        await anyio.wait_all_tasks_blocked()
        owner = f"owned by the job {job.id} of handler, "
        assert f"{owner}delayed (finish_jobs() waits for it)" in told(uploads)
        await finish_jobs(uploads)
        kept = f"{owner}failed (keep_failed keeps it until the app is shut down)"
        assert kept in told(uploads)
    assert_all_closed(uploads)


async def test_thread_that_was_left_behind_owns_an_upload(uploads: Uploads) -> None:
    started, go_on = threading.Event(), threading.Event()

    @uploads.handler()
    def handler(upload: Upload) -> None:
        started.set()
        go_on.wait(10)

    async with at_work(uploads):
        with await stored(uploads) as upload:
            job = handler.submit(upload)
        await anyio.to_thread.run_sync(started.wait, 10)
        owner = f"owned by attempt 1 of the job {job.id} of handler, "
    assert f"{owner}cancelled (its thread goes on)" in told(uploads)
    go_on.set()
    await anyio.to_thread.run_sync(eventually, lambda: not uploads.storage.blobs)
    assert_all_closed(uploads)
