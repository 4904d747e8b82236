"""A handler is checked when it is registered, and is still the function it was."""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator
from typing import Any, cast

import pytest

from starlette_upload_keepalive import JobContext, Upload, Uploads
from starlette_upload_keepalive.jobs.handler import Handler

AnyFunction = Callable[..., Any]
AnyHandler = Handler[Any, Any, Any, Any]


@pytest.fixture
def upload() -> Generator[Upload, None, None]:
    with Upload.from_bytes(b"data", filename="a.txt") as upload:
        yield upload


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
