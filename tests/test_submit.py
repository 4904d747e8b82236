"""An upload is submitted outside of any request, or refused with advice."""

from __future__ import annotations

import io
from collections.abc import Callable, Generator
from typing import Any

import anyio
import pytest
from starlette.datastructures import UploadFile

from starlette_upload_keepalive import (
    Job,
    JobContext,
    JobState,
    NotRunning,
    Upload,
    UploadClosed,
    Uploads,
)
from starlette_upload_keepalive.jobs.handler import Handler

AnyFunction = Callable[..., Any]
AnyHandler = Handler[Any, Any, Any, Any]


@pytest.fixture
def upload() -> Generator[Upload, None, None]:
    with Upload.from_bytes(b"data", filename="a.txt") as upload:
        yield upload


def nothing_left(uploads: Uploads) -> bool:
    return uploads.stats().open_uploads == 0 and not any(uploads.stats().jobs.values())


def function(upload: Upload, what: str = "function") -> str:
    return what


@pytest.mark.anyio
async def test_submit_starts_at_once(uploads: Uploads, upload: Upload) -> None:
    @uploads.handler()
    async def handler(upload: Upload, job: JobContext, a: int, *, b: list[int]) -> Any:
        return [(await upload.read()).decode(), job.id, a, b]

    async with uploads.running():
        await upload.seek(2)
        for submit in (handler.submit, handler.submit_now):
            sizes = [2]
            job = submit(upload, 1, b=sizes)
            sizes.append(3)
            assert await job.wait() is job
            assert job.result == ["data", job.id, 1, [2]]
            assert uploads.jobs.get(job.id) is job


@pytest.mark.anyio
async def test_submit_many(uploads: Uploads, upload: Upload) -> None:
    @uploads.handler(many=True)
    def join(files: list[Upload], sep: str) -> str:
        return sep.join(file.file.read().decode() for file in files)

    async with uploads.running():
        with Upload.from_bytes(b"more", filename="b.txt") as other:
            job = join.submit([upload, other], sep="+")
        await job.wait()

    assert job.result == "data+more"
    assert job.filenames == ["a.txt", "b.txt"]


@pytest.mark.anyio
@pytest.mark.parametrize("many", [False, True])
async def test_submit_of_what_is_no_upload(uploads: Uploads, many: bool) -> None:
    register: Any = uploads.handler
    handler: AnyHandler = register(many=many)(function)
    plain = UploadFile(io.BytesIO())
    takes = "a list of uploads" if many else "an Upload"

    with pytest.raises(TypeError, match=rf"function takes {takes}, not UploadFile\. .*detach"):
        handler.submit([plain] if many else plain)
    if many:
        with pytest.raises(TypeError, match=r"^function needs at least one upload\.$"):
            handler.submit([])

    assert nothing_left(uploads)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((), {}, "missing a required argument: 'size'"),
        ((1, 2), {}, "too many positional arguments"),
        ((1,), {"colour": 2}, "got an unexpected keyword argument 'colour'"),
        ((b"x",), {}, "Object of type bytes is not JSON serializable"),
        ((), {"size": {1}}, "Object of type set is not JSON serializable"),
    ],
)
async def test_submit_with_arguments_that_do_not_fit(
    uploads: Uploads, upload: Upload, args: Any, kwargs: Any, message: str
) -> None:
    def plain(upload: Upload, size: Any) -> None: ...
    def with_context(upload: Upload, job: JobContext, size: Any) -> None: ...

    registered: list[AnyFunction] = [plain, with_context]
    async with uploads.running():
        for function in registered:
            handler: AnyHandler = uploads.handler()(function)
            for submit in (handler.submit, handler.submit_now):
                with pytest.raises(TypeError, match=message):
                    submit(upload, *args, **kwargs)

    assert nothing_left(uploads)
    assert upload._view.blob.owners == ["the code that made it"]


@pytest.mark.anyio
async def test_submit_of_a_closed_upload(uploads: Uploads, upload: Upload) -> None:
    handler = uploads.handler()(function)
    await upload.close()

    async with uploads.running():
        with pytest.raises(UploadClosed):
            handler.submit(upload)

    assert nothing_left(uploads)


@pytest.mark.anyio
async def test_submit_without_a_runner(uploads: Uploads, upload: Upload) -> None:
    """P2: what is refused leaves nothing behind, and can be submitted again."""
    handler = uploads.handler()(function)

    for submit in (handler.submit, handler.submit_now):
        with pytest.raises(NotRunning, match=r"^No runner is there .*uploads\.running\(\)"):
            submit(upload)
    with pytest.raises(NotRunning):
        await anyio.to_thread.run_sync(handler.submit, upload)

    assert nothing_left(uploads)
    assert upload._view.blob.owners == ["the code that made it"]
    async with uploads.running():
        job = await handler.submit(upload).wait()
        assert job.state is JobState.SUCCEEDED


@pytest.mark.anyio
async def test_result_is_copied_and_checked(uploads: Uploads, upload: Upload) -> None:
    results: list[Any] = [(1, {"a": (2,)}), b"bytes", "x" * 65534, "x" * 65535, None]

    @uploads.handler()
    def handler(upload: Upload, which: int) -> Any:
        return results[which]

    async with uploads.running():
        jobs: list[Job[Any]] = [handler.submit(upload, which) for which in range(len(results))]
        for job in jobs:
            await job.wait()

    assert [job.result for job in jobs] == [[1, {"a": [2]}], None, "x" * 65534, None, None]
    assert [job.error is None for job in jobs] == [True, False, True, False, True]
    assert "TypeError: The result of handler must be JSON" in str(jobs[1].error)
    assert "ResultTooLarge: The result of handler is 65537 bytes" in str(jobs[3].error)
