"""P1 in FastAPI: no closed file with the middleware, where there is one without.

Which version closes what is the table of the README.
"""

from __future__ import annotations

import io
import os
from collections.abc import AsyncGenerator
from typing import Annotated, Any

import pytest
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.responses import Response, StreamingResponse

from starlette_upload_keepalive import Upload, UploadKeepAliveMiddleware, Uploads
from tests.asgi import (
    Part,
    behind_base_http_middleware,
    file_part,
    http_scope,
    lifespan,
    multipart,
    send_request,
)
from tests.test_keep_alive import Seen

pytest.importorskip("fastapi")

import fastapi
from fastapi import BackgroundTasks, FastAPI, File, Form, Request, UploadFile

pytestmark = pytest.mark.anyio

VERSION = tuple(int(number) for number in fastapi.__version__.split(".")[:2])
CLOSES_BEFORE_THE_ANSWER = VERSION < (0, 118)

SIZES = pytest.mark.parametrize("size", [0, 10, 2_000_000], ids=["empty", "small", "large"])
KEEP_ALIVE = pytest.mark.parametrize("keep_alive", [False, True], ids=["without", "with"])
BEHIND_ANOTHER = pytest.mark.parametrize("behind_another", [False, True], ids=["alone", "behind"])


def make_app(seen: Seen) -> FastAPI:
    app = FastAPI()

    @app.post("/background")
    async def background(photo: UploadFile, tasks: BackgroundTasks) -> str:
        tasks.add_task(seen.read, photo)
        return "ok"

    @app.post("/background-in-thread")
    def background_in_thread(photo: UploadFile, tasks: BackgroundTasks) -> str:
        tasks.add_task(seen.read_in_thread, photo)
        return "ok"

    @app.post("/streaming")
    async def streaming(photo: UploadFile) -> StreamingResponse:
        async def stream() -> AsyncGenerator[bytes, None]:
            await seen.read(photo)
            yield b'"ok"'

        return StreamingResponse(stream())

    @app.post("/form-context")
    async def form_context(request: Request, tasks: BackgroundTasks) -> str:
        async with request.form() as form:
            photo = form["photo"]
            assert not isinstance(photo, str)
            tasks.add_task(seen.read, photo)
        return "ok"

    @app.post("/closed-form")
    async def closed_form(request: Request, photo: UploadFile) -> str:
        await request.close()
        await seen.read(photo)
        return "ok"

    return app


async def pass_on(request: Request, call_next: RequestResponseEndpoint) -> Response:
    return await call_next(request)


@behind_base_http_middleware
@SIZES
@KEEP_ALIVE
@BEHIND_ANOTHER
@pytest.mark.parametrize(
    ("path", "closed_without"),
    [
        ("/background", CLOSES_BEFORE_THE_ANSWER),
        ("/background-in-thread", CLOSES_BEFORE_THE_ANSWER),
        ("/streaming", CLOSES_BEFORE_THE_ANSWER),
        ("/form-context", True),
        ("/closed-form", True),
    ],
)
async def test_the_middleware_line_alone_keeps_the_file_open(
    path: str, closed_without: bool, behind_another: bool, keep_alive: bool, size: int
) -> None:
    """P1, divergence 6."""
    data = os.urandom(size)
    seen = Seen()
    app = make_app(seen)
    if behind_another:
        app.add_middleware(BaseHTTPMiddleware, dispatch=pass_on)
    if keep_alive:
        app.add_middleware(UploadKeepAliveMiddleware)
    answer = await send_request(app, multipart(file_part(data)), http_scope(path))
    assert answer.json == "ok"
    assert seen.found == ["closed" if closed_without and not keep_alive else data]


@behind_base_http_middleware
@SIZES
@KEEP_ALIVE
async def test_a_middleware_that_asks_for_the_form_leaves_it_to_the_endpoint(
    keep_alive: bool, size: int
) -> None:
    """Divergence 5: without, the endpoint finds an empty form."""
    data = os.urandom(size)
    seen = Seen()
    app = make_app(seen)

    @app.middleware("http")
    async def ask(request: Request, call_next: RequestResponseEndpoint) -> Response:
        async with request.form():
            return await call_next(request)

    if keep_alive:
        app.add_middleware(UploadKeepAliveMiddleware)
    answer = await send_request(app, multipart(file_part(data)), http_scope("/background"))
    assert answer.status == (200 if keep_alive else 422)
    assert seen.found == ([data] if keep_alive else [])


@SIZES
async def test_each_way_to_declare_a_file_gets_it(size: int) -> None:
    """P11: what FastAPI makes of a form, it makes of ours."""
    data = os.urandom(size)
    app = FastAPI()

    @app.post("/")
    async def every_way(
        photo: UploadFile,
        many: list[UploadFile],
        ours: Upload,
        note: Annotated[str, Form()],
        raw: Annotated[bytes, File()],
        annotated: Annotated[UploadFile, File(description="of a kind")],
        absent: UploadFile | None = None,
    ) -> list[int]:
        assert note == "é"
        assert absent is None
        files: list[Any] = [photo, *many, ours, annotated]
        assert all(isinstance(file, Upload) for file in files)
        return [len(await file.read()) for file in files] + [len(raw)]

    app.add_middleware(UploadKeepAliveMiddleware)
    names = ["photo", "many", "many", "ours", "raw", "annotated"]
    parts = [file_part(data, name=name) for name in names]
    answer = await send_request(app, multipart(*parts, Part("note", "é".encode())))
    assert answer.json == [size] * 6


@SIZES
async def test_endpoint_handlers_and_background_task_each_see_all_bytes(size: int) -> None:
    """P3: whoever reads or writes, nobody else notices."""
    data = os.urandom(size)
    found: dict[str, bytes] = {}
    uploads = Uploads()

    @uploads.handler("photo")
    def in_thread(photo: Upload) -> None:
        with pytest.raises(io.UnsupportedOperation):
            photo.file.write(b"changed")
        found["sync"] = photo.file.read()

    @uploads.handler("photo")
    async def on_loop(photo: Upload) -> None:
        found["async"] = await photo.read()

    @uploads.handler("photo")
    async def writer(photo: Upload) -> None:
        await photo.write(b"changed")

    async def background(photo: UploadFile) -> None:
        await photo.seek(0)
        found["background"] = await photo.read()

    app = FastAPI()

    @app.post("/")
    async def endpoint(photo: UploadFile, tasks: BackgroundTasks) -> str:
        found["endpoint"] = await photo.read()
        tasks.add_task(background, photo)
        return "ok"

    app.add_middleware(UploadKeepAliveMiddleware, uploads=uploads)
    async with lifespan(app):
        answer = await send_request(app, multipart(file_part(data)))
        assert answer.json == "ok"
        await uploads.drain()
    assert found == dict.fromkeys(["sync", "async", "background", "endpoint"], data)
    assert [job.error for job in uploads.jobs] == [None, None, None]
    assert uploads.stats().open_uploads == 0
