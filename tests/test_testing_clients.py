"""Jobs are finished whatever client the test has: Starlette's own, httpx, one of a real server."""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from typing import Annotated, Any, Literal, TypeAlias

import fastapi
import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.testclient import TestClient
from starlette.types import ASGIApp

from starlette_upload_keepalive import (
    JobState,
    Retry,
    Upload,
    UploadKeepAliveMiddleware,
    Uploads,
    detach,
)
from starlette_upload_keepalive.testing import assert_all_closed, finish_jobs, finish_jobs_sync
from tests.asgi import STARLETTE
from tests.servers import HOST, eventually

DAY = 24 * 60 * 60.0
TOO_OLD = "The TestClient of this version needs an httpx before 0.28."
FILES = {"photo": ("a.png", b"data", "image/png")}

Endpoint: TypeAlias = Callable[[Upload], Response]
Framework: TypeAlias = Callable[[Endpoint, Uploads], ASGIApp]
Post: TypeAlias = Callable[[], int]
"""Sends the form, and gives the status of the answer."""
Client: TypeAlias = Callable[[ASGIApp], AbstractContextManager[Post]]


# Apps of one endpoint


def starlette_app(endpoint: Endpoint, uploads: Uploads) -> ASGIApp:
    async def photos(request: Request) -> Response:
        photo = (await request.form())["photo"]
        assert isinstance(photo, Upload)
        return endpoint(photo)

    app = Starlette(routes=[Route("/", photos, methods=["POST"])])
    app.add_middleware(UploadKeepAliveMiddleware, uploads=uploads)
    return app


def fastapi_app(endpoint: Endpoint, uploads: Uploads) -> ASGIApp:
    app = fastapi.FastAPI()

    @app.post("/")
    async def photos(photo: Annotated[Any, fastapi.Depends(uploaded)]) -> Response:
        return endpoint(photo)

    app.add_middleware(UploadKeepAliveMiddleware, uploads=uploads)
    return app


def uploaded(photo: fastapi.UploadFile) -> fastapi.UploadFile:
    return photo


each_framework = pytest.mark.parametrize(
    "app_of", [starlette_app, fastapi_app], ids=["starlette", "fastapi"]
)


# Clients of an app in another thread


@contextmanager
def starlettes_client(
    app: ASGIApp, backend: Literal["asyncio", "trio"]
) -> Generator[Post, None, None]:
    if STARLETTE < (0, 37):
        pytest.skip(TOO_OLD)
    client: Any = TestClient(app, backend=backend)
    with client:
        yield lambda: client.post("/", files=FILES).status_code


@contextmanager
def asyncio_client(app: ASGIApp) -> Generator[Post, None, None]:
    with starlettes_client(app, "asyncio") as post:
        yield post


@contextmanager
def trio_client(app: ASGIApp) -> Generator[Post, None, None]:
    with starlettes_client(app, "trio") as post:
        yield post


@contextmanager
def client_of_server(app: ASGIApp) -> Generator[Post, None, None]:
    server = uvicorn.Server(uvicorn.Config(app, host=HOST, port=0, loop="asyncio", log_config=None))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        eventually(lambda: server.started)
        port = server.servers[0].sockets[0].getsockname()[1]
        with httpx.Client(base_url=f"http://{HOST}:{port}") as client:
            yield lambda: client.post("/", files=FILES).status_code
    finally:
        server.should_exit = True
        thread.join()


each_client = pytest.mark.parametrize("client", [asyncio_client, trio_client, client_of_server])


@pytest.fixture
def uploads() -> Uploads:
    """Make uploads with a pipeline, whose first handler succeeds at the third attempt."""
    uploads = Uploads(grace_period=5)
    fails = iter([True, True, False])

    @uploads.handler("photo", retry=Retry(wait_initial=DAY, wait_max=DAY))
    def check(photo: Upload) -> None:
        if next(fails):
            raise ValueError
        store.submit(photo)

    @uploads.handler()
    async def store(photo: Upload) -> str:
        return (await photo.read()).decode()

    return uploads


def accept(photo: Upload) -> Response:
    return Response(status_code=202)


def outcomes(uploads: Uploads) -> list[tuple[str, JobState, int, Any]]:
    return [(job.handler, job.state, job.attempt, job.result) for job in uploads.jobs]


FINISHED = [
    ("check", JobState.SUCCEEDED, 3, None),
    ("store", JobState.SUCCEEDED, 1, "data"),
]


@each_framework
@each_client
def test_jobs_are_finished(client: Client, app_of: Framework, uploads: Uploads) -> None:
    with client(app_of(accept, uploads)) as post:
        assert post() == 202
        assert finish_jobs_sync(uploads) == list(uploads.jobs)
        assert outcomes(uploads) == FINISHED
        assert_all_closed(uploads)


@each_client
def test_jobs_of_a_request_that_has_not_ended(client: Client) -> None:
    """A server's client has its answer before."""
    go_on, uploads = threading.Event(), Uploads()

    @uploads.handler()
    def handler(photo: Upload) -> int:
        return len(photo.file.read())

    def endpoint(photo: Upload) -> Response:
        def submit() -> None:
            go_on.wait(10)
            handler.submit(photo)

        return Response(background=BackgroundTask(submit))

    with client(starlette_app(endpoint, uploads)) as post, ThreadPoolExecutor() as pool:
        posting = pool.submit(post)
        eventually(lambda: uploads._intakes)
        finishing = pool.submit(finish_jobs_sync, uploads)
        go_on.set()
        assert [job.result for job in finishing.result()] == [4]
        assert posting.result() == 200


@each_client
def test_stuck_job_and_its_file_are_named(client: Client) -> None:
    started, go_on, uploads = threading.Event(), threading.Event(), Uploads()

    @uploads.handler("photo")
    def stuck(photo: Upload) -> None:
        started.set()
        go_on.wait(10)

    with client(starlette_app(accept, uploads)) as post:
        post()
        started.wait(10)
        with pytest.raises(TimeoutError, match=r"- stuck of 'a\.png': running, attempt 1"):
            finish_jobs_sync(uploads, timeout=0.01)
        with pytest.raises(AssertionError, match=r"of stuck, running \(finish_jobs\(\) waits"):
            assert_all_closed(uploads)
        go_on.set()
        finish_jobs_sync(uploads)
        assert_all_closed(uploads)


@each_framework
@each_client
def test_forgotten_upload_is_named(client: Client, app_of: Framework) -> None:
    detached, uploads = list[Upload](), Uploads()

    def endpoint(photo: Upload) -> Response:
        detached.append(detach(photo))
        return Response()

    with client(app_of(endpoint, uploads)) as post:
        post()
        assert finish_jobs_sync(uploads) == []
    with detached[0], pytest.raises(AssertionError, match=r"4 bytes .* that called detach\(\)"):
        assert_all_closed(uploads)
    assert_all_closed(uploads)


# Without a lifespan


@pytest.mark.skipif(STARLETTE < (0, 37), reason=TOO_OLD)
@each_framework
def test_client_without_with(app_of: Framework) -> None:
    uploads = Uploads()

    @uploads.handler("photo")
    def handler(photo: Upload) -> int:
        return len(photo.file.read())

    client: Any = TestClient(app_of(accept, uploads))
    client.post("/", files=FILES)
    assert [job.result for job in finish_jobs_sync(uploads)] == [4]


# In the event loop of the test


@asynccontextmanager
async def async_client(app: ASGIApp) -> AsyncGenerator[httpx.AsyncClient, None]:
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url=f"http://{HOST}") as client:
        yield client


@pytest.fixture
async def running_uploads(anyio_backend: str, uploads: Uploads) -> AsyncGenerator[Uploads, None]:
    """Run their jobs from a fixture, as docs say that one may."""
    async with uploads.running():
        yield uploads


@pytest.mark.anyio
async def test_running_in_a_fixture(running_uploads: Uploads) -> None:
    async with async_client(starlette_app(accept, running_uploads)) as client:
        await client.post("/", files=FILES)
    await finish_jobs(running_uploads)
    assert outcomes(running_uploads) == FINISHED


@pytest.mark.anyio
@each_framework
async def test_jobs_are_finished_in_the_same_loop(app_of: Framework, uploads: Uploads) -> None:
    async with uploads.running(), async_client(app_of(accept, uploads)) as client:
        assert (await client.post("/", files=FILES)).status_code == 202
        assert await finish_jobs(uploads) == list(uploads.jobs)
        assert outcomes(uploads) == FINISHED
        assert_all_closed(uploads)
