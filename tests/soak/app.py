"""The app whose servers are killed. Its handlers write in the journal what they see."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable
from typing import Any, cast

import anyio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
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
from starlette_upload_keepalive.events import JobEvent, JobSucceeded
from starlette_upload_keepalive.jobs.spool import Spool

from .journal import Journal

# A job is given up after that many crashes: none is to be.
RETRY = Retry(attempts=1000, wait_initial=0.02, wait_max=0.1)
# In seconds: shorter than many handlers take, so that what a shutdown cuts off is run again.
GRACE_PERIOD = 0.02


class OnPurposeError(Exception):
    """A handler fails as it is meant to."""


def make_app(spool: Spool, journal: Journal) -> ASGIApp:
    """Make the app of one process."""

    def note(event: JobEvent) -> None:
        if isinstance(event, JobSucceeded):
            journal.write("noted", event.job_id, event.attempt)

    uploads = Uploads(
        spool=spool,
        memory_max_size=100_000,
        handler_threads=4,
        handler_tasks=8,
        grace_period=GRACE_PERIOD,
        hooks=[note],
    )
    add_handlers(uploads, journal)
    add_pipeline(uploads, journal)
    submitted = add_submitted(uploads, journal)

    async def accept(request: Request) -> Response:
        await request.form()
        return Response(status_code=202)

    async def refuse(request: Request) -> Response:
        await request.form()
        return Response(status_code=400)

    async def submit(request: Request) -> Response:
        form = await request.form()
        return JSONResponse([submitted(upload) for upload in form.getlist("photo")])

    app = Starlette(
        routes=[
            Route("/one", accept, methods=["POST"]),
            Route("/six", accept, methods=["POST"]),
            Route("/pipeline", accept, methods=["POST"]),
            Route("/refused", refuse, methods=["POST"]),
            Route("/submit", submit, methods=["POST"]),
        ]
    )
    return UploadKeepAliveMiddleware(app, uploads)


def add_handlers(uploads: Uploads, journal: Journal) -> None:
    """Register those that run by themselves."""

    @uploads.handler("photo", path="/one", retry=RETRY)
    def digest(photo: Upload, job: JobContext) -> None:
        work(journal, photo, job, "digest")

    @uploads.handler("photo", path="/refused", retry=RETRY)
    def refused(photo: Upload, job: JobContext) -> None:
        work(journal, photo, job, "refused")

    @uploads.handler("photo", path="/six", retry=RETRY)
    def in_thread(photo: Upload, job: JobContext) -> None:
        work(journal, photo, job, "in_thread")

    @uploads.handler("photo", path="/six", retry=RETRY)
    async def on_loop(photo: Upload, job: JobContext) -> None:
        await work_async(journal, photo, job, "on_loop")

    @uploads.handler("photo", path="/six", retry=RETRY)
    async def flaky(photo: Upload, job: JobContext) -> None:
        if job.attempt < 3:
            start(journal, photo, job, "flaky")
            journal.write("raised", job.id, job.attempt)
            raise OnPurposeError
        await work_async(journal, photo, job, "flaky")


def add_pipeline(uploads: Uploads, journal: Journal) -> None:
    """Register one that runs by itself, and those that it leads to."""

    @uploads.handler("photo", path="/pipeline", retry=RETRY)
    def first(photo: Upload, job: JobContext) -> None:
        second.submit(photo, number=0)
        work(journal, photo, job, "first")
        second.submit(photo, number=1)

    @uploads.handler(retry=RETRY)
    async def second(photo: Upload, job: JobContext, *, number: int) -> None:
        await work_async(journal, photo, job, f"second {number}")
        if number == 0:
            third.submit(photo)

    @uploads.handler(retry=RETRY)
    def third(photo: Upload, job: JobContext) -> None:
        work(journal, photo, job, "third")


def add_submitted(uploads: Uploads, journal: Journal) -> Callable[[object], str]:
    """Register one that is submitted to by an endpoint, and return what does so."""

    @uploads.handler(retry=RETRY)
    async def submitted(photo: Upload, job: JobContext, *, number: int, text: str) -> None:
        await work_async(journal, photo, job, f"submitted {number} {text}")

    def submit(upload: object) -> str:
        if not isinstance(upload, Upload):
            raise TypeError(upload)
        return submitted.submit(upload, number=7, text="für ☃").id

    return submit


def start(journal: Journal, upload: Upload, job: JobContext, task: str) -> None:
    """Write down that a handler starts, and where its job stands."""
    told = cast("Job[Any]", job._job)
    journal.write(
        "start",
        job.id,
        job.attempt,
        file=str(upload.filename),
        task=task,
        failures=told._failures,
        crashes=told._crashes,
    )


def work(journal: Journal, upload: Upload, job: JobContext, task: str) -> None:
    """Read the file, and take a while, in a thread."""
    start(journal, upload, job, task)
    digest = hashlib.sha256()
    while data := upload.file.read(100_000):
        digest.update(data)
    time.sleep(a_while())
    journal.write("end", job.id, job.attempt, sha256=digest.hexdigest())


async def work_async(journal: Journal, upload: Upload, job: JobContext, task: str) -> None:
    """Read the file, and take a while, on the event loop."""
    start(journal, upload, job, task)
    try:
        digest = hashlib.sha256(await upload.read())
        await anyio.sleep(a_while())
    except anyio.get_cancelled_exc_class():
        journal.write("cut", job.id, job.attempt)
        raise
    journal.write("end", job.id, job.attempt, sha256=digest.hexdigest())


def a_while() -> float:
    """Return how long a handler takes, in seconds: mostly little."""
    return random.random() ** 4 * 0.1
