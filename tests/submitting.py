"""A site with one handler, to submit to from everywhere, and the places to do so."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from starlette_upload_keepalive import (
    Job,
    JobState,
    Upload,
    UploadKeepAliveMiddleware,
    Uploads,
)
from tests.asgi import file_part, multipart, send_request

BODY = multipart(file_part(b"data"))
PLACES = set[str]()
"""The rows of the table in the docs that a test is about."""

Test = Callable[..., Awaitable[None]]


def place(name: str) -> Callable[[Test], Test]:
    """Say which row of the table a test is about."""
    PLACES.add(name)
    return lambda test: test


class Site:
    """Uploads with one handler, and what happens, in order."""

    def __init__(self) -> None:
        self.uploads = Uploads()
        self.seen: list[str] = []
        self.jobs: list[Job[str]] = []

        @self.uploads.handler()
        async def handler(upload: Upload) -> str:
            self.seen.append("job starts")
            await checkpoint()
            return (await upload.read()).decode()

        self.handler = handler

    def submit(self, upload: Upload) -> None:
        """Submit, and note whether the job waits for something else to end, or what was raised."""
        try:
            job = self.handler.submit(upload)
        except Exception as error:  # noqa: BLE001
            self.seen.append(type(error).__name__)
        else:
            self.jobs.append(job)
            self.seen.append("staged" if job.state is JobState.STAGED else "at once")

    def served(self, app: ASGIApp) -> ASGIApp:
        """Put the middleware around an app, and note when a request has ended."""
        kept_alive = UploadKeepAliveMiddleware(app, self.uploads)

        async def noting(scope: Scope, receive: Receive, send: Send) -> None:
            await kept_alive(scope, receive, send)
            if scope["type"] == "http":
                self.seen.append("request ends")

        return noting

    def app(self, endpoint: Callable[[Request], Awaitable[Response]]) -> ASGIApp:
        """Make an app of one endpoint."""
        return self.served(Starlette(routes=[Route("/", endpoint, methods=["POST"])]))

    async def run(self, app: ASGIApp, body: bytes = BODY, **more: Any) -> None:
        """Send a request, and run all jobs."""
        with anyio.fail_after(20):
            async with self.uploads.running():
                await send_request(app, body, on_send=self.note, **more)
                await anyio.wait_all_tasks_blocked()
        assert self.uploads.stats().jobs[JobState.RUNNING] == 0

    async def note(self, message: Message) -> None:
        """Note that the answer has begun."""
        if message["type"] == "http.response.start":
            self.seen.append("answer")

    @property
    def results(self) -> list[tuple[str, str | None]]:
        return [(job.state.value, job.result) for job in self.jobs]


async def photo_of(request: Request) -> Upload:
    photo = (await request.form())["photo"]
    assert isinstance(photo, Upload)
    return photo


ACCEPTED = ["answer", "request ends", "job starts"]
RUN = [("succeeded", "data")]
DROPPED = [("discarded", None)]

statuses = pytest.mark.parametrize("status", [303, 409])
