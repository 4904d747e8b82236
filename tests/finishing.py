"""An app whose jobs are finished by a test, and calls that finish them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio
import anyio.to_thread
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route
from starlette.types import ASGIApp

from starlette_upload_keepalive import (
    Job,
    JobContext,
    Retry,
    Upload,
    UploadKeepAliveMiddleware,
    Uploads,
)
from starlette_upload_keepalive.testing import finish_jobs, finish_jobs_sync
from tests.asgi import file_part, http_scope, multipart, send_request

BODY = multipart(file_part(b"data", filename="a.png"))
DAY = 24 * 60 * 60.0


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


def failing(uploads: Uploads, error: Exception) -> Any:
    """Make a handler of which the first two attempts fail."""

    @uploads.handler(retry=Retry(attempts=3, wait_initial=DAY, wait_max=DAY))
    async def handler(upload: Upload, job: JobContext) -> int:
        if job.attempt < 3:
            raise error
        return job.attempt

    return handler


async def in_a_thread(uploads: Uploads) -> list[Job[Any]]:
    return await anyio.to_thread.run_sync(finish_jobs_sync, uploads)
