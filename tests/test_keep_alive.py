"""P1 in plain Starlette: no closed file with the middleware, where there is one without."""

from __future__ import annotations

import hashlib
import io
import os
import queue
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field

import anyio
import pytest
from anyio.abc import TaskGroup
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.datastructures import UploadFile
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from starlette_upload_keepalive import Upload, UploadKeepAliveMiddleware, Uploads, detach
from tests.asgi import behind_base_http_middleware, file_part, lifespan, multipart, send_request

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.parametrize("size", [0, 10, 2_000_000], ids=["empty", "small", "large"]),
]


@dataclass
class Seen:
    """What the work on a file got to see of it."""

    found: list[bytes | str] = field(default_factory=list[bytes | str])

    async def read(self, file: UploadFile) -> None:
        try:
            self.found.append(await file.read())
        except ValueError as error:
            self.found.append("closed" if "closed" in str(error) else repr(error))

    def read_in_thread(self, file: UploadFile) -> None:
        try:
            self.found.append(file.file.read())
        except ValueError as error:
            self.found.append("closed" if "closed" in str(error) else repr(error))


Endpoint = Callable[[Request], Awaitable[Response]]
Situation = Callable[[Seen], Endpoint]


async def photo_of(request: Request) -> UploadFile:
    photo = (await request.form())["photo"]
    assert isinstance(photo, UploadFile)
    return photo


def form_context_then_background_task(seen: Seen) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        async with request.form():
            photo = await photo_of(request)
        return PlainTextResponse("ok", background=BackgroundTask(seen.read, photo))

    return endpoint


def form_context_then_streaming(seen: Seen) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        async with request.form():
            photo = await photo_of(request)

        async def stream() -> AsyncGenerator[bytes, None]:
            await seen.read(photo)
            yield b"ok"

        return StreamingResponse(stream())

    return endpoint


def closed_form(seen: Seen) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        form = await request.form()
        photo = await photo_of(request)
        await form.close()
        await seen.read(photo)
        return PlainTextResponse("ok")

    return endpoint


def closed_request(seen: Seen) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        photo = await photo_of(request)
        await request.close()
        await seen.read(photo)
        return PlainTextResponse("ok")

    return endpoint


def app_of(
    endpoint: Endpoint, *middleware: Middleware, keep_alive: bool, uploads: Uploads | None = None
) -> Starlette:
    app = Starlette(
        routes=[Route("/", endpoint, methods=["POST"])],
        middleware=list(middleware),
    )
    if keep_alive:
        app.add_middleware(UploadKeepAliveMiddleware, uploads=uploads)
    return app


async def dispatch_only(request: Request, call_next: RequestResponseEndpoint) -> Response:
    return await call_next(request)


async def dispatch_after_the_body(request: Request, call_next: RequestResponseEndpoint) -> Response:
    await request.body()
    return await call_next(request)


IN_BETWEEN: list[list[Middleware]] = [
    [],
    [Middleware(BaseHTTPMiddleware, dispatch=dispatch_only)],
    [Middleware(BaseHTTPMiddleware, dispatch=dispatch_after_the_body)],
]


@behind_base_http_middleware
@pytest.mark.parametrize("keep_alive", [False, True], ids=["without", "with"])
@pytest.mark.parametrize("between", IN_BETWEEN, ids=["alone", "behind another", "and its body()"])
@pytest.mark.parametrize(
    "situation",
    [form_context_then_background_task, form_context_then_streaming, closed_form, closed_request],
)
async def test_the_middleware_line_alone_keeps_the_file_open(
    situation: Situation, between: list[Middleware], keep_alive: bool, size: int
) -> None:
    """P1, divergence 6."""
    data = os.urandom(size)
    seen = Seen()
    app = app_of(situation(seen), *between, keep_alive=keep_alive)
    answer = await send_request(app, multipart(file_part(data)))
    assert answer.text == "ok"
    assert seen.found == [data if keep_alive else "closed"]


@behind_base_http_middleware
@pytest.mark.parametrize("keep_alive", [False, True], ids=["without", "with"])
async def test_a_middleware_that_asks_for_the_form_leaves_it_to_the_endpoint(
    keep_alive: bool, size: int
) -> None:
    """Divergence 5."""
    data = os.urandom(size)
    found: list[bytes] = []

    async def endpoint(request: Request) -> Response:
        async with request.form() as form:
            found.extend([await file.read() for file in form.values() if isinstance(file, Upload)])
        return PlainTextResponse("ok")

    async def dispatch(request: Request, call_next: RequestResponseEndpoint) -> Response:
        async with request.form():
            return await call_next(request)

    between = Middleware(BaseHTTPMiddleware, dispatch=dispatch)
    app = app_of(endpoint, between, keep_alive=keep_alive)
    answer = await send_request(app, multipart(file_part(data)))
    assert answer.text == "ok"
    assert found == ([data] if keep_alive else [])


# Work that outlives the call


async def in_task(file: UploadFile, tasks: TaskGroup, end: threading.Event, seen: Seen) -> None:
    async def work() -> None:
        await anyio.to_thread.run_sync(end.wait)
        await seen.read(file)
        await file.close()

    tasks.start_soon(work)


async def in_thread(file: UploadFile, tasks: TaskGroup, end: threading.Event, seen: Seen) -> None:
    tasks.start_soon(anyio.to_thread.run_sync, work_in_thread, lambda: file, end, seen)


async def in_queue(file: UploadFile, tasks: TaskGroup, end: threading.Event, seen: Seen) -> None:
    files: queue.SimpleQueue[UploadFile] = queue.SimpleQueue()
    files.put(file)
    tasks.start_soon(anyio.to_thread.run_sync, work_in_thread, files.get, end, seen)


def work_in_thread(get: Callable[[], UploadFile], end: threading.Event, seen: Seen) -> None:
    file = get()
    end.wait()
    seen.read_in_thread(file)
    if isinstance(file, Upload) and not file._view.closed:
        with file:
            pass


Outliving = Callable[[UploadFile, TaskGroup, threading.Event, Seen], Awaitable[None]]


@pytest.mark.parametrize("keep_alive", [False, True], ids=["stock", "middleware"])
@pytest.mark.parametrize("detached", [False, True], ids=["as it is", "detached"])
@pytest.mark.parametrize("outliving", [in_task, in_thread, in_queue])
async def test_a_detached_file_outlives_the_call(
    outliving: Outliving, detached: bool, keep_alive: bool, size: int
) -> None:
    """P1: and without `detach` it does not, so that nothing is leaked."""
    data = os.urandom(size)
    seen = Seen()
    end = threading.Event()
    async with anyio.create_task_group() as tasks:

        async def endpoint(request: Request) -> Response:
            async with request.form():
                photo = await photo_of(request)
                await photo.read()
                work_on = detach(photo) if detached else photo
                await outliving(work_on, tasks, end, seen)
            return PlainTextResponse("ok")

        app = app_of(endpoint, keep_alive=keep_alive)
        try:
            assert (await send_request(app, multipart(file_part(data)))).text == "ok"
        finally:
            end.set()
    assert seen.found == [data if detached else "closed"]


async def test_all_owners_see_all_bytes_and_nobody_the_writes_of_another(size: int) -> None:
    """P3: an endpoint, two handlers at once, a task of the app and a background task."""
    data = os.urandom(size)
    digest = hashlib.sha256(data).hexdigest()
    found: dict[str, str] = {}
    uploads = Uploads()
    written = threading.Event()

    @uploads.handler("photo")
    async def writer(photo: Upload) -> None:
        await photo.write(b"changed")
        await photo.seek(0)
        assert (await photo.read())[:7] == b"changed"
        written.set()

    @uploads.handler("photo")
    def in_thread(photo: Upload) -> None:
        written.wait()
        with pytest.raises(io.UnsupportedOperation):
            photo.file.write(b"changed")
        found["sync"] = hashlib.sha256(photo.file.read()).hexdigest()

    @uploads.handler("photo")
    async def on_loop(photo: Upload) -> None:
        await anyio.to_thread.run_sync(written.wait)
        found["async"] = hashlib.sha256(await photo.read()).hexdigest()

    async def background(photo: UploadFile) -> None:
        await photo.seek(0)
        found["background"] = hashlib.sha256(await photo.read()).hexdigest()

    async def endpoint(request: Request) -> Response:
        photo = await photo_of(request)
        async with detach(photo) as own:
            found["endpoint"] = hashlib.sha256(await photo.read()).hexdigest()
            assert await photo.read() == b""
            found["detached"] = hashlib.sha256(await own.read()).hexdigest()
            await own.write(b"more")
        return PlainTextResponse("ok", background=BackgroundTask(background, photo))

    app = app_of(endpoint, keep_alive=True, uploads=uploads)
    async with lifespan(app):
        assert (await send_request(app, multipart(file_part(data)))).text == "ok"
        await uploads.drain()
    names = ["sync", "async", "background", "endpoint", "detached"]
    assert found == dict.fromkeys(names, digest)
    assert [job.error for job in uploads.jobs] == [None, None, None]
    assert uploads.stats().open_uploads == 0
