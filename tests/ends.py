"""Each event, and jobs that come to each of their ends, for hooks to tell of."""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import anyio
import anyio.to_thread
import pytest

from starlette_upload_keepalive import Discard, Handler, Job, JobContext, Upload, Uploads
from starlette_upload_keepalive.events import (
    CallbackFailed,
    JobCancelled,
    JobDelayed,
    JobDiscarded,
    JobEvent,
    JobFailed,
    JobOverran,
    JobReleased,
    JobStarted,
    JobSubmitted,
    JobSucceeded,
)
from starlette_upload_keepalive.files.blob import Blob

AnyHandler = Handler[Any, Any, Any, Any]
PATIENCE = 20  # seconds, which only a failure takes

JOB: dict[str, Any] = {
    "job_id": "0a",
    "handler": "work",
    "field": "photo",
    "filenames": ("a.png",),
    "attempt": 1,
    "parent_id": None,
}
ERROR = ValueError("bad")
EVENTS: dict[str, JobEvent] = {
    "job_submitted": JobSubmitted(**JOB),
    "job_started": JobStarted(**JOB, waited_seconds=0.5),
    "job_overran": JobOverran(**JOB, timeout_seconds=2.0),
    "job_delayed": JobDelayed(**JOB, delay_seconds=3.0, ran_seconds=1.0, error=ERROR),
    "job_succeeded": JobSucceeded(**JOB, ran_seconds=1.0),
    "job_failed": JobFailed(**JOB, ran_seconds=1.0, error=ERROR),
    "job_cancelled": JobCancelled(**JOB, reason="asked", thread_goes_on=False),
    "job_cancelled at shutdown": JobCancelled(**JOB, reason="shutdown", thread_goes_on=True),
    "job_released": JobReleased(**JOB, thread_goes_on=True),
    "job_discarded": JobDiscarded(**JOB, reason="of no use"),
    "callback_failed": CallbackFailed(**JOB, callback="on_error", error=ERROR),
}

both_kinds = pytest.mark.parametrize("run_in", ["thread", "loop"])
each_end = pytest.mark.parametrize("end", ["succeeded", "failed", "cancelled", "lost", "discarded"])


@asynccontextmanager
async def at_work(uploads: Uploads) -> AsyncGenerator[None, None]:
    """Run jobs in the block, and fail instead of hanging."""
    with anyio.fail_after(PATIENCE):
        async with uploads.running():
            yield


@contextmanager
def new_upload(uploads: Uploads, data: bytes = b"data") -> Generator[Upload, None, None]:
    """Make an upload as a form brings it."""
    blob = Blob(uploads.storage)
    with Upload(blob, owner="the test", filename="a.png", field_name="photo") as upload:
        blob.fill([data])
        yield upload


def register(
    uploads: Uploads, run_in: str, work: Callable[[Upload], object], **options: Any
) -> AnyHandler:
    """Make a handler called "work", for a thread or for the event loop."""

    def in_thread(upload: Upload) -> object:
        return work(upload)

    async def on_loop(upload: Upload) -> object:
        return work(upload)

    return _registered(uploads, in_thread if run_in == "thread" else on_loop, options)


class Gate:
    """A handler called "work" that waits until it may go on."""

    def __init__(self, uploads: Uploads, run_in: str, **options: Any) -> None:
        self._started = threading.Event()
        self._opened = threading.Event()
        self._opened_on_loop = anyio.Event()

        def in_thread(upload: Upload, job: JobContext) -> bool:
            self._started.set()
            self._opened.wait(PATIENCE)
            return job.cancelled

        async def on_loop(upload: Upload) -> None:
            self._started.set()
            await self._opened_on_loop.wait()

        function = in_thread if run_in == "thread" else on_loop
        self.handler = _registered(uploads, function, options)

    async def started(self) -> None:
        """Wait until the handler has."""
        assert await anyio.to_thread.run_sync(self._started.wait, PATIENCE)

    def open(self) -> None:
        """Let it go on."""
        self._opened.set()
        self._opened_on_loop.set()


def _registered(
    uploads: Uploads, function: Callable[..., Any], options: dict[str, Any]
) -> AnyHandler:
    untyped: Any = uploads
    handler: AnyHandler = untyped.handler(name="work", **options)(function)
    return handler


async def bring_to(end: str, uploads: Uploads, run_in: str) -> Job[Any]:
    """Make a job of the handler "work" come to an end. Its error is a ValueError("bad")."""
    with new_upload(uploads) as upload:
        if end == "cancelled":
            return await _cancelled(uploads, upload, run_in)
        if end == "lost":
            return await _lost(uploads, upload, run_in)

        def work(upload: Upload) -> None:
            if end == "failed":
                raise ValueError("bad")
            if end == "discarded":
                raise Discard("of no use")

        handler = register(uploads, run_in, work)
        async with at_work(uploads):
            return await handler.submit(upload).wait()


async def _cancelled(uploads: Uploads, upload: Upload, run_in: str) -> Job[Any]:
    gate = Gate(uploads, run_in)
    async with at_work(uploads):
        job = gate.handler.submit(upload)
        await gate.started()
        uploads.jobs.cancel(job.id)
        gate.open()
        return await job.wait()


async def _lost(uploads: Uploads, upload: Upload, run_in: str) -> Job[Any]:
    """Needs uploads with a grace period of 0."""
    gate = Gate(uploads, run_in)
    async with at_work(uploads):
        job = gate.handler.submit(upload)
        await gate.started()
    gate.open()
    return job
