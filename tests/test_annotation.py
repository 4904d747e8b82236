"""``photo: Upload`` is to FastAPI what ``photo: UploadFile`` is."""

from __future__ import annotations

from typing import Annotated, Any, Optional, cast

import pytest
from fastapi import FastAPI, File, UploadFile

from starlette_upload_keepalive import Upload, UploadKeepAliveMiddleware
from tests.asgi import Part, file_part, multipart, send_request

pytestmark = pytest.mark.anyio

REQUIRED = object()
# FastAPI evaluates these on Python 3.10 and its own oldest version, hence Optional.
PARAMETERS: dict[str, tuple[Any, Any, Any]] = {
    "single": (Upload, UploadFile, REQUIRED),
    "list": (list[Upload], list[UploadFile], REQUIRED),
    "optional": (Optional[Upload], Optional[UploadFile], None),  # noqa: UP045
    "union": (Upload | None, UploadFile | None, None),
    "optional list": (list[Upload] | None, list[UploadFile] | None, None),
    "annotated": (
        Annotated[Upload, File(description="A photo")],
        Annotated[UploadFile, File(description="A photo")],
        REQUIRED,
    ),
    "annotated list": (
        Annotated[list[Upload], File(max_length=1)],
        Annotated[list[UploadFile], File(max_length=1)],
        REQUIRED,
    ),
    "default": (Upload, UploadFile, File(None)),
}


def app_of(annotation: Any, default: Any, *, kept_alive: bool) -> FastAPI:
    async def endpoint(photo: Any = None) -> list[dict[str, Any]]:
        photos: list[Any] = [photo] if hasattr(photo, "filename") else photo or []
        return [{"name": photo.filename, "data": (await photo.read()).decode()} for photo in photos]

    endpoint.__annotations__["photo"] = annotation
    endpoint.__defaults__ = None if default is REQUIRED else (default,)
    app = FastAPI()
    app.post("/")(endpoint)
    if kept_alive:
        app.add_middleware(UploadKeepAliveMiddleware)
    return app


@pytest.fixture(params=PARAMETERS)
def apps(request: pytest.FixtureRequest) -> tuple[FastAPI, FastAPI]:
    """The same app, with our class and middleware, and with FastAPI's own alone."""
    ours, theirs, default = PARAMETERS[request.param]
    return app_of(ours, default, kept_alive=True), app_of(theirs, default, kept_alive=False)


def test_the_openapi_document_is_the_same(apps: tuple[FastAPI, FastAPI]) -> None:
    """P11: generated clients and the docs page see no difference."""
    ours, theirs = apps
    assert ours.openapi() == theirs.openapi()
    assert "multipart/form-data" in str(ours.openapi())


@pytest.mark.parametrize(
    "parts",
    [
        [file_part(b"abc")],
        [file_part(b"abc"), file_part(b"def", filename="b.png")],
        [],
        [Part("photo", b"a text")],
        [Part("other", b"")],
        [file_part(b"", filename="")],
    ],
    ids=["file", "two files", "empty form", "text", "another field", "left blank"],
)
async def test_values_and_errors_are_the_same(
    apps: tuple[FastAPI, FastAPI], parts: list[Part]
) -> None:
    """P11: status, message and all."""
    ours, theirs = [await send_request(app, multipart(*parts)) for app in apps]
    assert ours.status == theirs.status
    assert without_input(ours.json) == without_input(theirs.json)


async def test_an_error_tells_of_a_file_what_the_client_knows() -> None:
    """P7: a 422, and neither a 500 nor our insides."""
    app = app_of(Annotated[list[Upload], File(max_length=1)], REQUIRED, kept_alive=True)
    answer = await send_request(app, multipart(file_part(b"abc"), file_part(b"def")))
    assert answer.status == 422
    for file in answer.json["detail"][0]["input"]:
        assert set(file) == {"filename", "size", "headers", "field_name"}


def without_input(answer: Any) -> Any:
    """Drop the files from an error: FastAPI tells of them how its own are built."""
    if not isinstance(answer, dict):
        return answer
    errors = cast("dict[str, list[dict[str, Any]]]", answer)["detail"]
    return [
        {**error, "input": None} if isinstance(error["input"], (dict, list)) else error
        for error in errors
    ]


async def test_the_endpoint_gets_an_upload() -> None:
    seen: list[type] = []
    app = FastAPI()

    async def endpoint(photo: Upload) -> None:
        seen.append(type(photo))

    app.post("/")(endpoint)
    app.add_middleware(UploadKeepAliveMiddleware)
    answer = await send_request(app, multipart(file_part(b"abc")))
    assert answer.status == 200
    assert seen == [Upload]


@pytest.mark.filterwarnings("ignore:Unclosed file:ResourceWarning")
async def test_without_the_middleware_the_developer_is_told() -> None:
    """Not the client: it is no validation error."""
    app = FastAPI()

    async def endpoint(photo: Upload) -> None: ...

    app.post("/")(endpoint)
    with pytest.raises(RuntimeError, match="not parsed by UploadKeepAliveMiddleware: add it"):
        await send_request(app, multipart(file_part(b"abc")))
