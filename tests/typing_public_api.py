"""Right and wrong uses of the public API, for type checkers; it is never run.

Each wrong use is marked with the error it must be. One that is no error any more
makes the checkers complain of a comment that is not needed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from fastapi import FastAPI, UploadFile
from typing_extensions import assert_type

from starlette_upload_keepalive import (
    Discard,
    Job,
    JobContext,
    JobState,
    Retry,
    RetryLater,
    Stats,
    Upload,
    UploadKeepAliveMiddleware,
    Uploads,
    detach,
    log_events,
)
from starlette_upload_keepalive.events import JobDelayed, JobEvent, JobFailed, JobStarted

uploads = Uploads(memory_max_size=1024, grace_period=10)


# Every form of a handler


@uploads.handler("photo", path="/photos", content_type="image/*", accept={303}, start="response")
def plain(photo: Upload) -> dict[str, int]:
    return {"width": 1}


@uploads.handler()
async def coroutine(photo: Upload, size: int = 3, *, crop: bool = False) -> str:
    return ""


@uploads.handler(name="told")
def with_context(photo: Upload, job: JobContext, *, user_id: int) -> None:
    job.progress(0.5, "half way")


@uploads.handler(content_type=["image/png", "image/jpeg"], field="photo")
async def coroutine_with_context(photo: Upload, job: JobContext, size: int = 3) -> float:
    await job.progress(0.5)
    return 0.5


@uploads.handler("photos", many=True)
def many(photos: list[Upload]) -> int:
    return len(photos)


@uploads.handler(many=True)
async def many_with_context(photos: list[Upload], job: JobContext, *, size: int) -> int:
    return size


# Its options


def succeeded(job: Job[Any]) -> None: ...
async def succeeded_on_loop(job: Job[Any]) -> None: ...
def failed(job: Job[Any], error: BaseException) -> None: ...
async def failed_on_loop(job: Job[Any], error: BaseException) -> int:
    return 1


@uploads.handler(
    retry=Retry(attempts=5, wait_initial=0.1, retry_on=OSError, give_up_on=(FileNotFoundError,)),
    timeout=60,
    max_concurrency=2,
    priority=-10,
    on_success=succeeded,
    on_error=failed,
)
def patient(photo: Upload, job: JobContext) -> int:
    assert_type(job.attempt, int)
    if job.cancelled:
        raise Discard("nobody wants it")
    raise RetryLater(0.5)


@uploads.handler("photos", many=True, on_success=succeeded_on_loop, on_error=failed_on_loop)
def patient_with_many(photos: list[Upload]) -> None: ...


# What is told


def hook(event: JobEvent) -> AbstractContextManager[None] | None:
    assert_type(event.job_id, str)
    assert_type(event.filenames, Sequence[str | None])
    if isinstance(event, JobDelayed):
        assert_type(event.delay_seconds, float)
    if isinstance(event, JobFailed):
        assert_type(event.error, BaseException)
    return nullcontext() if isinstance(event, JobStarted) else None


def hook_of_no_context(event: JobEvent) -> None: ...


class Hook:
    def __call__(self, event: JobEvent, /) -> None: ...


told = Uploads(keep_failed=3, hooks=(log_events, hook, hook_of_no_context, Hook()))
silent = Uploads(hooks=())


async def asking(job: Job[str]) -> None:
    found = uploads.jobs.get(job.id)
    assert_type(found, Job[Any] | None)
    assert_type(uploads.jobs.list(), Sequence[Job[Any]])
    uploads.jobs.list(state=JobState.DELAYED, handler="patient")
    uploads.jobs.list(state="failed")
    assert_type([each.attempt for each in uploads.jobs], list[int])
    assert_type(len(uploads.jobs), int)
    assert_type(await uploads.jobs.wait(job.id), Job[Any])
    assert_type(uploads.jobs.cancel(job.id), bool)
    assert_type(uploads.jobs.retry(job.id), bool)
    assert_type(job.parent_id, str | None)
    assert_type(job.error, str | None)

    stats = uploads.stats()
    assert_type(stats.jobs, dict[JobState, int])
    assert_type(stats.jobs[JobState.DELAYED], int)
    assert_type(stats.oldest_waiting_seconds, float | None)
    assert_type(stats.disk_bytes + stats.busy_threads, int)


# Their types


async def right(upload: Upload, file: UploadFile, job_context: JobContext) -> None:
    assert_type(plain(upload), dict[str, int])
    assert_type(await coroutine(upload, 4, crop=True), str)
    with_context(upload, job_context, user_id=7)
    assert_type(many([upload]), int)

    assert_type(plain.submit(upload), Job[dict[str, int]])
    assert_type(plain.submit(file), Job[dict[str, int]])
    assert_type(plain.submit_now(upload), Job[dict[str, int]])
    assert_type(coroutine.submit(upload), Job[str])
    assert_type(coroutine.submit(upload, 4, crop=True), Job[str])
    with_context.submit(upload, user_id=7)
    with_context.submit_now(upload, user_id=7)
    assert_type(coroutine_with_context.submit(upload, 4), Job[float])
    assert_type(many.submit([upload]), Job[int])
    assert_type(many.submit([file]), Job[int])
    assert_type(many_with_context.submit([upload], size=3), Job[int])

    job = await coroutine.submit(upload).wait()
    assert_type(job, Job[str])
    assert_type(job.result, str | None)
    assert_type(job.state, JobState)
    assert_type(uploads.stats(), Stats)
    async with uploads.running(), detach(file) as own, own.as_path(suffix=".png") as path:
        assert_type(own, Upload)
        assert_type(await own.save(path.with_suffix(".copy"), durable=True), Path)
        assert_type(await own.save_to(path.parent), Path)
        assert_type(await own.sha256(), str)
        assert_type(own.safe_filename, str)
        with own.as_path(writable=True) as copy:
            assert_type(copy, Path)


app = FastAPI()
app.add_middleware(UploadKeepAliveMiddleware)
app.add_middleware(UploadKeepAliveMiddleware, uploads=uploads)


@app.post("/")
async def endpoint(photo: Upload) -> str:
    return plain.submit(photo).id


class FilmUpload(Upload):
    length = 0


# What must not pass


async def wrong(upload: Upload, job_context: JobContext) -> None:
    plain.submit()  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
    plain.submit("path")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    plain.submit([upload])  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    plain.submit(upload, 3)  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
    plain.submit(upload=upload)  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
    coroutine.submit(upload, "3")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    coroutine.submit(upload, cut=1)  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
    coroutine.submit_now(upload, "3")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    with_context.submit(upload)  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
    with_context.submit(upload, job_context, user_id=7)  # type: ignore[misc, arg-type] # pyright: ignore[reportCallIssue]
    many.submit(upload)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    many_with_context.submit([upload])  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]

    plain("path")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    with_context(upload, user_id=7)  # type: ignore[call-arg, misc] # pyright: ignore[reportCallIssue]
    _number: int | None = coroutine.submit(upload).result  # type: ignore[assignment] # pyright: ignore[reportAssignmentType]

    Uploads(1024)  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
    uploads.handler("photo", "/photos")  # type: ignore[call-overload] # pyright: ignore[reportCallIssue]
    uploads.handler(start="soon")  # type: ignore[call-overload] # pyright: ignore[reportArgumentType]
    uploads.handler(now=True)  # type: ignore[call-overload] # pyright: ignore[reportCallIssue]
    app.add_middleware(UploadKeepAliveMiddleware, upload=uploads)  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]


async def wrong_options(upload: Upload, job: Job[str], job_context: JobContext) -> None:
    Retry(attempts="5")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    Retry(retry_on="OSError")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    Retry(give_up_on=[OSError])  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    RetryLater("soon")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    Discard()  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
    uploads.handler(retry=5)  # type: ignore[call-overload] # pyright: ignore[reportArgumentType]
    uploads.handler(timeout="60")  # type: ignore[call-overload] # pyright: ignore[reportArgumentType]
    uploads.handler(max_concurrency=0.5)  # type: ignore[call-overload] # pyright: ignore[reportArgumentType]
    uploads.handler(priority="high")  # type: ignore[call-overload] # pyright: ignore[reportArgumentType]
    uploads.handler(on_success=on_nothing)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    uploads.handler(on_success=failed)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    uploads.handler(on_error=succeeded)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    uploads.handler(on_error=on_narrow_error)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    Uploads(hooks=log_events)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    Uploads(hooks=(on_nothing,))  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    Uploads(hooks=(hook_of_one_event,))  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    Uploads(keep_failed="all")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    uploads.jobs.list("failed")  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
    uploads.jobs.get(job)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    uploads.jobs.cancel(7)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    uploads.jobs["id"]  # type: ignore[index] # pyright: ignore[reportIndexIssue]
    uploads.stats().jobs["failed"]  # type: ignore[index] # pyright: ignore[reportArgumentType]
    uploads.stats().open_uploads = 0  # type: ignore[misc] # pyright: ignore[reportAttributeAccessIssue]
    job_context.attempt = "2"  # type: ignore[assignment] # pyright: ignore[reportAttributeAccessIssue]


def on_nothing() -> None: ...
def on_narrow_error(job: Job[Any], error: OSError) -> None: ...
def hook_of_one_event(event: JobStarted) -> None: ...


def no_parameters() -> None: ...
def path_instead(path: str) -> None: ...
def context_first(job: JobContext, photo: Upload) -> None: ...
def one_instead_of_many(photo: Upload) -> None: ...
def narrower(film: FilmUpload) -> None: ...


uploads.handler()(no_parameters)  # type: ignore[arg-type] # pyright: ignore[reportCallIssue, reportArgumentType]
uploads.handler()(path_instead)  # type: ignore[arg-type] # pyright: ignore[reportCallIssue, reportArgumentType]
uploads.handler()(context_first)  # type: ignore[arg-type] # pyright: ignore[reportCallIssue, reportArgumentType]
uploads.handler()(narrower)  # type: ignore[arg-type] # pyright: ignore[reportCallIssue, reportArgumentType]
uploads.handler(many=True)(one_instead_of_many)  # type: ignore[arg-type] # pyright: ignore[reportCallIssue, reportArgumentType]

# A handler can be registered once more, and passed on as the function it is.
again = uploads.handler("other", name="again")(plain)
assert_type(again.submit(Upload.from_bytes(b"")), Job[dict[str, int]])
as_function: Callable[[Upload], dict[str, int]] = plain
as_coroutine: Callable[[Upload], Awaitable[str]] = coroutine
