"""Right and wrong uses of the public API, for type checkers; it is never run.

Each wrong use is marked with the error it must be. One that is no error any more
makes the checkers complain of a comment that is not needed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import FastAPI, UploadFile
from typing_extensions import assert_type

from starlette_upload_keepalive import (
    Job,
    JobContext,
    JobState,
    Stats,
    Upload,
    UploadKeepAliveMiddleware,
    Uploads,
    detach,
)

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
        await own.save(path.with_suffix(".copy"))


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
