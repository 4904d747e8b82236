"""Requests that an event loop serves while another one runs their jobs."""

from __future__ import annotations

import threading
from typing import Any

import anyio
import anyio.to_thread
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from starlette_upload_keepalive import JobState, Upload, UploadKeepAliveMiddleware, Uploads
from tests.asgi import file_part, multipart, send_request

pytestmark = pytest.mark.anyio

PATIENCE = 20  # seconds, which only a failure takes


@pytest.fixture
def uploads() -> Uploads:
    return Uploads()


def serve_one(uploads: Uploads, backend: str) -> None:
    """Serve a request in an event loop of its own."""

    async def endpoint(request: Request) -> Response:
        await request.form()
        return Response()

    async def serve() -> None:
        app = Starlette(routes=[Route("/", endpoint, methods=["POST"])])
        body = multipart(file_part(b"data"))
        with anyio.fail_after(PATIENCE):
            await send_request(UploadKeepAliveMiddleware(app, uploads), body)

    anyio.run(serve, backend=backend)


async def test_request_ends_while_the_jobs_loop_is_blocked(
    uploads: Uploads, anyio_backend_name: str
) -> None:
    """As with a TestClient in an async test: neither waits for the other."""

    @uploads.handler("photo")
    async def handler(upload: Upload) -> str:
        return (await upload.read()).decode()

    async with uploads.running():
        thread = threading.Thread(target=serve_one, args=(uploads, anyio_backend_name))
        thread.start()
        thread.join(PATIENCE)
        assert not thread.is_alive()
        (job,) = uploads.jobs
        await job.wait()
        assert job.result == "data"


async def test_drain_waits_for_a_request_in_another_loop(
    uploads: Uploads, anyio_backend_name: str
) -> None:
    """And learns of its end."""
    begun, go_on = threading.Event(), threading.Event()

    def serve() -> None:
        async def main() -> None:
            scope: Any = {"type": "http", "method": "POST", "path": "/"}
            intake = uploads._open_intake(scope)
            begun.set()
            await anyio.to_thread.run_sync(go_on.wait, PATIENCE)
            uploads._end_intake(intake)

        anyio.run(main, backend=anyio_backend_name)

    async with uploads.running():
        runner: Any = uploads._runner
        thread = threading.Thread(target=serve)
        thread.start()
        await anyio.to_thread.run_sync(begun.wait, PATIENCE)
        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(runner.drain, lambda: bool(uploads._intakes))
                await anyio.wait_all_tasks_blocked()
                go_on.set()
        thread.join()


async def test_job_of_another_loop_is_lost_if_the_runner_ends_first(
    uploads: Uploads, anyio_backend_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    @uploads.handler("photo")
    async def handler(upload: Upload) -> None:
        raise AssertionError

    async with uploads.running():
        runner: Any = uploads._runner
        thread = threading.Thread(target=serve_one, args=(uploads, anyio_backend_name))
        thread.start()
        thread.join(PATIENCE)
        runner._is_open = False  # before this loop has seen what was posted to it
        for posted in threading.enumerate():
            if posted.name == "upload-keepalive-post":
                await anyio.to_thread.run_sync(posted.join, PATIENCE)
        (job,) = uploads.jobs
        assert job.state is JobState.CANCELLED
    assert "is lost" in caplog.text
    assert uploads.stats().open_uploads == 0


async def test_a_request_that_ends_after_the_runner_tells_nobody(
    uploads: Uploads, anyio_backend_name: str
) -> None:
    async with uploads.running():
        runner: Any = uploads._runner

    def tell() -> int:
        async def main() -> int:
            runner.notice()
            return sum(each.name == "upload-keepalive-post" for each in threading.enumerate())

        return anyio.run(main, backend=anyio_backend_name)

    assert await anyio.to_thread.run_sync(tell) == 0
