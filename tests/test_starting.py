"""When jobs start, who can wait for them, and that they outlive their request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextvars import ContextVar
from typing import Any

import anyio
import pytest
from fastapi import Depends, FastAPI
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Message

from starlette_upload_keepalive import Job, JobState, Upload, Uploads, WouldDeadlock
from starlette_upload_keepalive.jobs.options import Start
from tests.asgi import http_scope, send_request
from tests.running import at_work
from tests.sites import BODY, fastapi_request, outcomes, reading, starlette

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("start", "order"),
    [
        ("end", ["answer", "background", "handler"]),
        ("response", ["answer", "handler", "background"]),
    ],
)
async def test_start(uploads: Uploads, start: Start, order: list[str]) -> None:
    events: list[str] = []

    @uploads.handler("photo", start=start)
    async def handler(photo: Upload) -> None:
        events.append("handler")

    async def background() -> None:
        await anyio.wait_all_tasks_blocked()
        events.append("background")

    async def endpoint(request: Request) -> Response:
        await request.form()
        return Response(background=BackgroundTask(background))

    async def note(message: Message) -> None:
        if message["type"] == "http.response.body":
            events.append("answer")

    async with at_work(uploads):
        await send_request(starlette(endpoint, uploads), BODY, on_send=note)

    assert events == order


@pytest.mark.parametrize("kind", ["automatic", "submitted", "submitted in a thread"])
async def test_handler_sees_what_dependencies_have_committed(uploads: Uploads, kind: str) -> None:
    """P5: a row that is committed when a `yield` dependency is left is there."""
    committed: list[str] = []

    async def transaction() -> AsyncIterator[list[str]]:
        rows: list[str] = []
        yield rows
        await anyio.wait_all_tasks_blocked()  # a handler that is too early has its chance
        committed.extend(rows)

    async def see(photo: Upload) -> list[str]:
        return committed.copy()

    handler = uploads.handler("photo" if kind == "automatic" else None)(see)
    rows_dependency = Depends(transaction)
    app = FastAPI()

    def sync_endpoint(photo: Upload, rows: list[str] = rows_dependency) -> None:
        rows.append("row")
        if kind != "automatic":
            handler.submit(photo)

    async def endpoint(photo: Upload, rows: list[str] = rows_dependency) -> None:
        sync_endpoint(photo, rows)

    app.post("/")(sync_endpoint if kind == "submitted in a thread" else endpoint)
    async with at_work(uploads):
        await fastapi_request(app, uploads)

    assert outcomes(uploads) == [("see", "succeeded", ["row"])]


async def test_job_is_only_staged_until_the_end(uploads: Uploads) -> None:
    handler = uploads.handler(name="at end")(reading)
    early = uploads.handler(name="at response", start="response")(reading)

    async def endpoint(request: Request) -> Response:
        photo: Any = (await request.form())["photo"]
        jobs.extend([handler.submit(photo), early.submit(photo)])
        return Response(background=BackgroundTask(look))

    async def look() -> None:
        await jobs[1].wait()
        states.extend(job.state for job in jobs)

    jobs: list[Job[Any]] = []
    states: list[JobState] = []
    async with at_work(uploads):
        await send_request(starlette(endpoint, uploads), BODY)

    assert states == [JobState.STAGED, JobState.SUCCEEDED]
    assert [job.state for job in jobs] == [JobState.SUCCEEDED] * 2


# Waiting for a job


@pytest.mark.parametrize("whose", ["others", "late"])
async def test_request_can_not_wait_for_a_job_that_nobody_expected(
    uploads: Uploads, whose: str
) -> None:
    """Of a handler that the middleware does not know, or that came while the request was served."""
    raised: list[str] = []

    async def endpoint(request: Request) -> Response:
        photo: Any = (await request.form())["photo"]
        job = uploads.handler()(reading).submit(photo)
        with pytest.raises(WouldDeadlock):
            await job.wait()
        raised.append(whose)
        return Response()

    async with at_work(uploads):
        await send_request(starlette(endpoint, uploads if whose == "late" else Uploads()), BODY)

    assert raised == [whose]


@pytest.mark.parametrize("place", ["endpoint", "background task", "stream", "child task"])
async def test_request_can_not_wait_for_its_own_job(uploads: Uploads, place: str) -> None:
    handler = uploads.handler()(reading)
    raised: list[str] = []

    async def wait() -> None:
        with pytest.raises(WouldDeadlock):
            await jobs[0].wait()
        raised.append(place)

    async def stream() -> AsyncIterator[bytes]:
        await wait()
        yield b"done"

    async def endpoint(request: Request) -> Response:
        photo: Any = (await request.form())["photo"]
        jobs.append(handler.submit(photo))
        if place == "endpoint":
            await wait()
        if place == "child task":
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(wait)
        if place == "stream":
            return StreamingResponse(stream())
        return Response(background=BackgroundTask(wait) if place == "background task" else None)

    jobs: list[Job[Any]] = []
    async with at_work(uploads):
        await send_request(starlette(endpoint, uploads), BODY)

    assert raised == [place]
    assert jobs[0].state is JobState.SUCCEEDED


@pytest.mark.parametrize("place", ["another request", "detached task"])
async def test_others_can_wait_for_it(uploads: Uploads, place: str) -> None:
    handler = uploads.handler()(reading)
    jobs: list[Job[Any]] = []
    results: list[Any] = []

    async def wait() -> None:
        results.append((await jobs[0].wait()).result)

    async def endpoint(request: Request) -> Response:
        if request.url.path == "/wait":
            await wait()
            return Response()
        photo: Any = (await request.form())["photo"]
        jobs.append(handler.submit(photo))
        if place == "another request":
            waiting = http_scope("/wait", content_type=None)
            app_tasks.start_soon(send_request, app, b"", waiting)
        else:
            app_tasks.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        return Response()

    app = starlette(endpoint, uploads)
    async with at_work(uploads), anyio.create_task_group() as app_tasks:
        app_tasks.start_soon(send_request, app, BODY)

    assert results == ["data"]


# Context variables


async def test_automatic_job_runs_in_the_context_of_the_middleware(uploads: Uploads) -> None:
    who: ContextVar[str] = ContextVar("who", default="nobody")

    async def see(photo: Upload) -> str:
        seen = who.get()
        who.set("another handler")
        return seen

    uploads.handler("photo", name="first")(see)
    uploads.handler("photo", name="second")(see)
    explicit = uploads.handler(name="explicit")(see)

    async def endpoint(request: Request) -> Response:
        who.set("endpoint")
        photo: Any = (await request.form())["photo"]
        explicit.submit(photo)
        return Response()

    who.set("server")
    async with at_work(uploads):
        await send_request(starlette(endpoint, uploads), BODY)

    assert [(name, result) for name, _, result in outcomes(uploads)] == [
        ("first", "server"),
        ("second", "server"),
        ("explicit", "endpoint"),
    ]


# Cancelled requests


@pytest.mark.parametrize("running", [True, False], ids=["runner", "no runner"])
async def test_job_survives_the_cancelled_request(uploads: Uploads, running: bool) -> None:
    """P4, P2: an accepted job runs although its request is cancelled after the answer."""
    uploads.handler("photo")(reading)

    async def endpoint(request: Request) -> Response:
        await request.form()
        return Response(background=BackgroundTask(anyio.sleep_forever))

    async def request() -> None:
        with anyio.CancelScope() as scope:

            async def cancel(message: Message) -> None:
                if message["type"] == "http.response.body":
                    scope.cancel()

            await send_request(starlette(endpoint, uploads), BODY, on_send=cancel)

    if running:
        async with at_work(uploads):
            await request()
    else:
        await request()

    assert outcomes(uploads) == [("reading", "succeeded", "data")]
    assert uploads.stats().open_uploads == 0


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("running", [True, False], ids=["runner", "no runner"])
async def test_job_survives_the_natively_cancelled_request(uploads: Uploads, running: bool) -> None:
    uploads.handler("photo")(reading)
    answered = asyncio.Event()

    async def wait() -> None:
        answered.set()
        await anyio.sleep_forever()

    async def endpoint(request: Request) -> Response:
        await request.form()
        return Response(background=BackgroundTask(wait))

    async def request() -> None:
        task = asyncio.create_task(send_request(starlette(endpoint, uploads), BODY))
        await answered.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    if running:
        async with at_work(uploads):
            await request()
    else:
        await request()

    assert outcomes(uploads) == [("reading", "succeeded", "data")]
    assert uploads.stats().open_uploads == 0


async def test_cancelled_before_the_answer(uploads: Uploads) -> None:
    uploads.handler("photo")(reading)

    async def endpoint(request: Request) -> Response:
        await request.form()
        scope.cancel()
        await anyio.sleep_forever()
        return Response()  # pragma: no cover

    async with at_work(uploads):
        with anyio.CancelScope() as scope:
            await send_request(starlette(endpoint, uploads), BODY)

    assert outcomes(uploads) == [("reading", "discarded", None)]
    assert uploads.stats().open_uploads == 0
