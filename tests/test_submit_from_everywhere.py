"""What `submit` does while a request is served, and beside it: as the docs list it."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable
from contextvars import Context

import anyio
import anyio.to_thread
import pytest
from fastapi import Depends, FastAPI, HTTPException
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from starlette_upload_keepalive import (
    Upload,
    detach,
)
from tests.asgi import send_request
from tests.submitting import (
    ACCEPTED,
    BODY,
    DROPPED,
    RUN,
    Site,
    photo_of,
    place,
    statuses,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
def site() -> Site:
    return Site()


# While a form's request is served


@place("in the endpoint, before its answer")
@statuses
async def test_in_the_endpoint(site: Site, status: int) -> None:
    async def endpoint(request: Request) -> Response:
        site.submit(await photo_of(request))
        return Response(status_code=status)

    await site.run(site.app(endpoint))
    assert site.seen == ["staged", *ACCEPTED][: 4 if status == 303 else 3]
    assert site.results == (RUN if status == 303 else DROPPED)


@place("in a `BackgroundTask`")
@statuses
async def test_in_a_background_task(site: Site, status: int) -> None:
    async def endpoint(request: Request) -> Response:
        photo = await photo_of(request)
        return Response(status_code=status, background=BackgroundTask(site.submit, photo))

    await site.run(site.app(endpoint))
    if status == 303:
        assert site.seen == ["answer", "staged", "request ends", "job starts"]
    else:
        assert site.seen == ["answer", "NotAccepted", "request ends"]
    assert site.results == (RUN if status == 303 else [])


@place("after the response has started")
@statuses
async def test_after_the_response_has_started(site: Site, status: int) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        photo = await photo_of(Request(scope, receive))
        await send({"type": "http.response.start", "status": status, "headers": []})
        site.submit(photo)
        await send({"type": "http.response.body"})

    await site.run(site.served(app))
    if status == 303:
        assert site.seen == ["answer", "staged", "request ends", "job starts"]
    else:
        assert site.seen == ["answer", "NotAccepted", "request ends"]


@place("in the body of a `StreamingResponse`")
@pytest.mark.parametrize("breaks", [False, True])
async def test_in_a_streamed_body(site: Site, breaks: bool) -> None:
    """The answer has been accepted, so the job runs although the stream breaks off."""

    async def endpoint(request: Request) -> Response:
        photo = await photo_of(request)

        async def body() -> AsyncIterator[bytes]:
            site.submit(photo)
            yield b"some"
            if breaks:
                raise ConnectionError

        return StreamingResponse(body())

    app = site.app(endpoint)
    if breaks:
        with pytest.raises(Exception):  # noqa: B017, PT011 - in a group on some versions
            await site.run(app)
    else:
        await site.run(app)
    assert site.seen[:2] == ["answer", "staged"]
    assert site.seen[-1] == "job starts"
    assert site.results == RUN


@place("in the exit of a dependency with `yield`")
@statuses
async def test_in_the_exit_of_a_dependency(site: Site, status: int) -> None:
    """FastAPI leaves it before its answer until 0.117, and after it from 0.118 on."""

    async def dependency(photo: Upload) -> AsyncIterator[None]:
        try:
            yield
        finally:
            site.submit(photo)

    app = FastAPI()
    needed = Depends(dependency)

    @app.post("/", status_code=303)
    async def endpoint(_: None = needed) -> None:
        if status == 409:
            raise HTTPException(409)

    await site.run(site.served(app))
    if status == 303:
        assert sorted(site.seen[:2]) == ["answer", "staged"]
        assert site.seen[2:] == ["request ends", "job starts"]
        assert site.results == RUN
    else:
        assert "job starts" not in site.seen
        assert site.results in (DROPPED, [])


@place("in an exception handler of the app")
@statuses
async def test_in_an_exception_handler(site: Site, status: int) -> None:
    """The answer that it makes decides."""

    async def endpoint(request: Request) -> Response:
        await request.form()
        raise KeyError

    async def handle(request: Request, error: Exception) -> Response:
        site.submit(await photo_of(request))
        return JSONResponse({}, status_code=status)

    app = Starlette(
        routes=[Route("/", endpoint, methods=["POST"])], exception_handlers={KeyError: handle}
    )
    await site.run(site.served(app))
    assert site.seen == ["staged", *ACCEPTED][: 4 if status == 303 else 3]
    assert site.results == (RUN if status == 303 else DROPPED)


@place("in a task or a worker thread that the request started, while it is served")
@pytest.mark.parametrize("kind", ["task", "thread"])
@pytest.mark.parametrize("detached", [False, True])
async def test_in_a_task_of_the_request(site: Site, kind: str, detached: bool) -> None:
    """It has the request's context; a detached upload waits for the request as well."""

    def do(photo: Upload) -> None:
        if detached:
            with detach(photo) as upload:
                site.submit(upload)
        else:
            site.submit(photo)

    async def do_async(photo: Upload) -> None:
        do(photo)

    async def endpoint(request: Request) -> Response:
        photo = await photo_of(request)
        if kind == "task":
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(do_async, photo)
        else:
            await anyio.to_thread.run_sync(do, photo)
        return Response()

    await site.run(site.app(endpoint))
    assert site.seen == ["staged", *ACCEPTED]
    assert site.results == RUN


# Beside the request


@place("in a task that outlives the request, a detached upload")
@statuses
async def test_detached_in_a_task_that_outlives_the_request(site: Site, status: int) -> None:
    """Nobody asks for the answer any more: whoever detached it, decided."""
    ended = anyio.Event()

    async def later(upload: Upload) -> None:
        await ended.wait()
        with upload:
            site.submit(upload)

    async def endpoint(request: Request) -> Response:
        tasks.start_soon(later, detach(await photo_of(request)))
        return Response(status_code=status)

    async with site.uploads.running(), anyio.create_task_group() as tasks:
        await send_request(site.app(endpoint), BODY)
        ended.set()
    assert site.seen == ["request ends", "at once", "job starts"]
    assert site.results == RUN


@place("in a task that outlives the request, the request's own upload")
async def test_own_in_a_task_that_outlives_the_request(site: Site) -> None:
    ended = anyio.Event()

    async def later(photo: Upload) -> None:
        await ended.wait()
        site.submit(photo)

    async def endpoint(request: Request) -> Response:
        tasks.start_soon(later, await photo_of(request))
        return Response()

    async with site.uploads.running(), anyio.create_task_group() as tasks:
        await send_request(site.app(endpoint), BODY)
        ended.set()
    assert site.seen == ["request ends", "UploadClosed"]
    assert len(site.uploads.jobs) == 0


def in_own_thread(do: Callable[[Upload], object], upload: Upload) -> threading.Thread:
    """Start a thread that knows nothing of the request's context, on any Python."""
    thread = threading.Thread(target=Context().run, args=(do, upload))
    thread.start()
    return thread


@place("in a thread of your own, a detached upload")
@statuses
async def test_detached_in_a_thread(site: Site, status: int) -> None:
    """It starts at once, while the request is served still, and whatever it is answered."""

    def do(upload: Upload) -> None:
        with upload:
            site.submit(upload)

    async def endpoint(request: Request) -> Response:
        thread = in_own_thread(do, detach(await photo_of(request)))
        await anyio.to_thread.run_sync(thread.join)
        await anyio.wait_all_tasks_blocked()
        return Response(status_code=status)

    await site.run(site.app(endpoint))
    assert sorted(site.seen[:2]) == ["at once", "job starts"]
    assert site.seen[2:] == ["answer", "request ends"]
    assert site.results == RUN


@place("in a thread of your own, the request's own upload")
@statuses
async def test_own_in_a_thread(site: Site, status: int) -> None:
    """It knows its request, as long as that lasts."""

    async def endpoint(request: Request) -> Response:
        photo = await photo_of(request)
        thread = in_own_thread(site.submit, photo)
        await anyio.to_thread.run_sync(thread.join)
        late.append(photo)
        return Response(status_code=status)

    late: list[Upload] = []
    await site.run(site.app(endpoint))
    assert site.seen == ["staged", *ACCEPTED][: 4 if status == 303 else 3]
    assert site.results == (RUN if status == 303 else DROPPED)

    thread = in_own_thread(site.submit, late.pop())
    await anyio.to_thread.run_sync(thread.join)
    assert site.seen[-1] == "UploadClosed"
