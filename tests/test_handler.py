"""A handler is checked when it is registered, chooses its files, and is submitted to by type."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Generator
from typing import Any, cast

import anyio
import pytest
from starlette.datastructures import Headers, UploadFile

from starlette_upload_keepalive import (
    Job,
    JobContext,
    JobState,
    NotRunning,
    Upload,
    UploadClosed,
    Uploads,
)
from starlette_upload_keepalive.blob import Blob
from starlette_upload_keepalive.handler import Handler
from starlette_upload_keepalive.selection import Selection

AnyFunction = Callable[..., Any]
AnyHandler = Handler[Any, Any, Any, Any]


@pytest.fixture
def uploads() -> Uploads:
    return Uploads()


@pytest.fixture
def upload() -> Generator[Upload, None, None]:
    with Upload.from_bytes(b"data", filename="a.txt") as upload:
        yield upload


def nothing_left(uploads: Uploads) -> bool:
    return uploads.stats().open_uploads == 0 and not any(uploads.stats().jobs.values())


# Registration


def test_handler_is_still_the_function(uploads: Uploads) -> None:
    @uploads.handler("photo")
    def thumbnail(photo: Upload, size: int = 3) -> int:
        """Make it small."""
        return size

    with Upload.from_bytes(b"") as photo:
        assert thumbnail(photo, 5) == 5
    assert thumbnail.name == getattr(thumbnail, "__name__") == "thumbnail"  # noqa: B009
    assert thumbnail.__doc__ == "Make it small."


class Callee:
    async def __call__(self, upload: Upload) -> str:
        return "async object"


class SyncCallee:
    def __call__(self, upload: Upload) -> str:
        return "object"


async def async_function(upload: Upload, what: str = "async function") -> str:
    return what


def function(upload: Upload, what: str = "function") -> str:
    return what


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("registered", "name", "run_in", "result"),
    [
        (async_function, "async_function", "loop", "async function"),
        (function, "function", "thread", "function"),
        (functools.partial(async_function, what="set"), "partial", "loop", "set"),
        (functools.partial(function, what="set"), "partial", "thread", "set"),
        (Callee(), "Callee", "loop", "async object"),
        (SyncCallee(), "SyncCallee", "thread", "object"),
    ],
    ids=str,
)
async def test_what_can_be_registered(
    uploads: Uploads, upload: Upload, registered: AnyFunction, name: str, run_in: str, result: str
) -> None:
    handler: AnyHandler = uploads.handler()(registered)

    assert (handler.name, handler.run_in) == (name, run_in)
    async with uploads.running():
        job = await handler.submit(upload).wait()
        assert (job.result, job.error) == (result, None)


@pytest.mark.anyio
@pytest.mark.parametrize("registered", [function, async_function])
async def test_handler_registered_once_more(
    uploads: Uploads, upload: Upload, registered: AnyFunction
) -> None:
    """One function may run for two fields."""
    first: AnyHandler = uploads.handler("a")(registered)
    second: AnyHandler = uploads.handler("b", name="again")(first)

    assert second.run_in == first.run_in
    async with uploads.running():
        job = await second.submit(upload).wait()
        assert (job.handler, job.error) == ("again", None)


def test_name_is_taken(uploads: Uploads) -> None:
    uploads.handler()(function)
    uploads.handler(name="other")(function)

    for name in (None, "other"):
        with pytest.raises(ValueError, match=f"A handler '{name or 'function'}' is registered: "):
            uploads.handler(name=name)(function)


def test_missing_parentheses(uploads: Uploads) -> None:
    with pytest.raises(TypeError, match=r"^Write @uploads.handler\(\), with parentheses.$"):
        uploads.handler(cast("Any", function))


@pytest.mark.parametrize("option", [{"path": "/x"}, {"content_type": "image/*"}, {"accept": {303}}])
def test_selection_without_a_field(uploads: Uploads, option: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"choose files to run for .*: name their form field too"):
        uploads.handler(**option)


@pytest.mark.parametrize(
    ("field", "options", "message"),
    [
        ("", {}, "field must be the name of a form field, not empty."),
        ("a", {"path": "x"}, "path must start with '/', not be 'x'."),
        ("a", {"path": "/{id:uuuid}"}, "path '/{id:uuuid}' is not one of a route: "),
        ("a", {"path": "/{id}/{id}"}, "path '/{id}/{id}' is not one of a route: Duplicated"),
        ("a", {"start": "soon"}, "start must be one of ('end', 'response'), not 'soon'."),
    ],
)
def test_option_out_of_range(
    uploads: Uploads, field: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the message is compared
        uploads.handler(field, **options)(function)
    assert str(caught.value).startswith(message)


def no_parameters() -> None: ...
def keyword_only(*, upload: Upload) -> None: ...
def context_first(job: JobContext, upload: Upload) -> None: ...
def context_third(upload: Upload, size: int, job: JobContext) -> None: ...
def context_by_name(upload: Upload, *, job: JobContext) -> None: ...
def needs_arguments(upload: Upload, job: JobContext, size: int) -> None: ...
def generator(upload: Upload) -> Generator[int, None, None]:
    yield 1


async def async_generator(upload: Upload) -> Any:
    yield 1


SECOND = "must take its JobContext as the second positional parameter."


@pytest.mark.parametrize(
    ("registered", "message"),
    [
        (no_parameters, "no_parameters must take the upload as its first parameter."),
        (keyword_only, "keyword_only must take the upload as its first parameter."),
        (context_first, f"context_first {SECOND}"),
        (context_third, f"context_third {SECOND}"),
        (context_by_name, f"context_by_name {SECOND}"),
        (
            needs_arguments,
            (
                "needs_arguments runs by itself for a field, with the upload alone: missing a "
                "required argument: 'size'. Give the parameter a default, or drop the field and "
                "submit() it yourself."
            ),
        ),
        (generator, "generator is a generator, which does nothing when called: let it return."),
        (
            async_generator,
            "async_generator is a generator, which does nothing when called: let it return.",
        ),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_function_that_does_not_fit(
    uploads: Uploads, registered: AnyFunction, message: str
) -> None:
    with pytest.raises(TypeError) as caught:
        uploads.handler("photo")(registered)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("annotation", "wanted"),
    [(JobContext, True), ("JobContext", True), ("package.JobContext", True), (int, False)],
)
def test_context_is_known_by_its_annotation(
    uploads: Uploads, annotation: object, wanted: bool
) -> None:
    def handler(upload: Upload, job: Any) -> None: ...

    handler.__annotations__["job"] = annotation

    assert uploads.handler(name="any")(handler)._wants_context is wanted


# Selection


def uploaded(
    field: str = "photo", *, filename: str | None = "a.png", data: bytes = b"", declared: str = ""
) -> Upload:
    blob = Blob(Uploads().storage)
    headers = Headers({"content-type": declared} if declared else {})
    upload = Upload(blob, owner="test", filename=filename, headers=headers, field_name=field)
    blob.fill([data])
    upload.size = len(data)
    upload._let_go()
    return upload


def test_one_job_for_each_file_or_one_for_all() -> None:
    photos = [uploaded(), uploaded()]
    others = [uploaded("cv"), uploaded("photos")]

    assert Selection("photo").groups([*photos, *others], "/") == [[photos[0]], [photos[1]]]
    assert Selection("photo", many=True).groups([*photos, *others], "/") == [photos]
    assert Selection("photo", many=True).groups(others, "/") == []


def test_blank_file_input_is_no_file() -> None:
    """P4: a form field that was left blank runs nothing; an empty file does."""
    blank, empty, unnamed = uploaded(filename=""), uploaded(), uploaded(filename="", data=b"x")

    for many in (False, True):
        assert Selection("photo", many=many).groups([blank], "/") == []
    assert Selection("photo", many=True).groups([blank, empty, unnamed], "/") == [[empty, unnamed]]


@pytest.mark.parametrize(
    ("declared", "patterns", "chosen"),
    [
        ("image/png", ["image/png"], True),
        ("image/png", ["image/*"], True),
        ("image/png", ["text/plain", "image/*"], True),
        ("IMAGE/PNG; name=x", ["image/png"], True),
        ("image/png", ["image/jpeg", "text/*"], False),
        ("", ["image/*"], False),
        ("", [], True),
    ],
)
def test_content_type(declared: str, patterns: list[str], chosen: bool) -> None:
    upload = uploaded(declared=declared)

    selected = Selection("photo", content_types=patterns).groups([upload], "/")

    assert selected == ([[upload]] if chosen else [])


@pytest.mark.parametrize(
    ("path", "requested", "chosen"),
    [
        (None, "/anything", True),
        ("/photos", "/photos", True),
        ("/photos", "/photos/1", False),
        ("/users/{id:int}/photos", "/users/7/photos", True),
        ("/users/{id:int}/photos", "/users/seven/photos", False),
        ("/files/{rest:path}", "/files/a/b", True),
    ],
)
def test_path(path: str | None, requested: str, chosen: bool) -> None:
    upload = uploaded()

    assert bool(Selection("photo", path=path).groups([upload], requested)) is chosen


@pytest.mark.parametrize(
    ("status", "accepted"),
    [(199, False), (200, True), (299, True), (300, False), (303, False), (304, True), (500, False)],
)
def test_status_that_accepts(status: int, accepted: bool) -> None:
    assert Selection("photo", accept={304}).accepts(status) is accepted


# Submit, outside of any request


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
