"""Handlers run for what was accepted, after the request, for as long as the app runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
import pytest
from anyio.lowlevel import checkpoint
from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from starlette_upload_keepalive import (
    Job,
    JobState,
    NotAccepted,
    NotRunning,
    Upload,
    UploadKeepAliveMiddleware,
    Uploads,
    WouldDeadlock,
)
from starlette_upload_keepalive.options import Start
from tests.asgi import (
    Answer,
    Part,
    file_part,
    http_scope,
    lifespan,
    multipart,
    send_request,
)

pytestmark = pytest.mark.anyio

Endpoint = Callable[..., Any]
BODY = multipart(file_part(b"data"))


@pytest.fixture
def uploads() -> Uploads:
    return Uploads()


def kept_alive(app: ASGIApp, uploads: Uploads | None = None) -> ASGIApp:
    return UploadKeepAliveMiddleware(app, uploads)


def starlette(endpoint: Endpoint, uploads: Uploads, path: str = "/{rest:path}") -> ASGIApp:
    return kept_alive(Starlette(routes=[Route(path, endpoint, methods=["POST"])]), uploads)


@asynccontextmanager
async def at_work(uploads: Uploads) -> AsyncGenerator[None, None]:
    """Run jobs in the block, and fail instead of hanging."""
    with anyio.fail_after(20):
        async with uploads.running():
            yield


def outcomes(uploads: Uploads) -> list[tuple[str, str, Any]]:
    return [(job.handler, job.state.value, job.result) for job in uploads.jobs]


async def reading(upload: Upload) -> str:
    await checkpoint()  # where a cancelled one would end
    return (await upload.read()).decode()


# Configuration


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"handler_threads": 0}, "handler_threads must be 1 or more, not 0."),
        ({"handler_tasks": 0}, "handler_tasks must be 1 or more, not 0."),
        ({"grace_period": -1}, "grace_period must be 0 seconds or more, not -1."),
        ({"grace_period": float("inf")}, "grace_period must be 0 seconds or more, not inf."),
        ({"grace_period": float("nan")}, "grace_period must be 0 seconds or more, not nan."),
        ({"job_history": -1}, "job_history must be 0 jobs or more, not -1."),
        ({"io_threads": 0}, "io_threads must be 1 or more, not 0."),
    ],
)
def test_option_out_of_range(option: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the message is compared
        Uploads(**option)
    assert str(caught.value) == message


# Which answers accept


async def answering(request: Request) -> Response:
    """Answer what the path says."""
    await request.form()
    return Response(status_code=int(request.path_params["rest"]))


@pytest.mark.parametrize(
    ("status", "automatic", "widened", "submitted"),
    [
        (200, True, True, True),
        (299, True, True, True),
        (303, False, True, True),
        (304, False, False, True),
        (400, False, False, False),
        (422, False, False, False),
        (500, False, False, False),
    ],
)
async def test_status_decides(
    uploads: Uploads, status: int, automatic: bool, widened: bool, submitted: bool
) -> None:
    """P4: 200 to 299 accepts, `accept` widens, and a submit is content below 400."""
    uploads.handler("photo", name="automatic")(reading)
    uploads.handler("photo", name="widened", accept={303})(reading)
    explicit = uploads.handler(name="explicit")(reading)

    async def endpoint(request: Request) -> Response:
        photo: Any = (await request.form())["photo"]
        explicit.submit(photo)
        return Response(status_code=status)

    async with at_work(uploads):
        answer = await send_request(starlette(endpoint, uploads), BODY)

    assert answer.status == status
    expected = [("automatic", automatic), ("widened", widened), ("explicit", submitted)]
    assert outcomes(uploads) == [
        (name, *(("succeeded", "data") if accepted else ("discarded", None)))
        for name, accepted in expected
    ]
    assert uploads.stats().open_uploads == 0


async def test_exception_in_the_endpoint(uploads: Uploads) -> None:
    uploads.handler("photo")(reading)

    async def endpoint(request: Request) -> Response:
        await request.form()
        raise ValueError

    async with at_work(uploads):
        with pytest.raises(ValueError):  # noqa: PT011
            await send_request(starlette(endpoint, uploads), BODY)

    assert outcomes(uploads) == [("reading", "discarded", None)]
    assert uploads.stats().open_uploads == 0


async def test_truncated_body(uploads: Uploads) -> None:
    uploads.handler("photo")(reading)

    async with at_work(uploads):
        answer = await send_request(starlette(answering, uploads), BODY[:-10], http_scope("/200"))

    assert answer.status == 400
    assert outcomes(uploads) == []
    assert uploads.stats().open_uploads == 0


class LostClient(Exception):
    pass


@pytest.mark.parametrize("lost_at", ["http.response.start", "http.response.body"])
@pytest.mark.parametrize("start", ["end", "response"])
async def test_accepted_job_runs_although_the_answer_does_not_arrive(
    uploads: Uploads, lost_at: str, start: Start
) -> None:
    """P4: what was accepted is released in every way the call can end."""
    uploads.handler("photo", start=start)(reading)

    async def lose(message: Message) -> None:
        if message["type"] == lost_at:
            raise LostClient

    async with at_work(uploads):
        with pytest.raises(LostClient):
            await send_request(
                starlette(answering, uploads), BODY, http_scope("/200"), on_send=lose
            )

    assert outcomes(uploads) == [("reading", "succeeded", "data")]


async def test_stream_that_raises_after_its_200(uploads: Uploads) -> None:
    uploads.handler("photo")(reading)

    async def broken() -> AsyncIterator[bytes]:
        yield b"some"
        raise LostClient

    async def endpoint(request: Request) -> Response:
        await request.form()
        return StreamingResponse(broken())

    async with at_work(uploads):
        with suppress(Exception):  # in a group on some versions of Starlette
            await send_request(starlette(endpoint, uploads), BODY)

    assert outcomes(uploads) == [("reading", "succeeded", "data")]


# Which files


async def test_selection(uploads: Uploads) -> None:
    def names(files: list[Upload]) -> list[str | None]:
        return [file.filename for file in files]

    async def name(file: Upload) -> str | None:
        return file.filename

    uploads.handler("photo", name="each")(name)
    uploads.handler("photo", name="all", many=True)(names)
    uploads.handler("photo", name="images", content_type="Image/*")(name)
    uploads.handler("photo", name="here", path="/{number:int}")(name)
    uploads.handler("photo", name="elsewhere", path="/photos")(name)
    uploads.handler("cv", name="other field")(name)
    body = multipart(
        Part("title", b"a field"),
        file_part(b"1", filename="a.png"),
        file_part(b"", filename="", content_type="application/octet-stream"),
        file_part(b"2", filename="b.txt", content_type="text/plain"),
        Part("cv", b"a field of that name"),
    )

    async with at_work(uploads):
        await send_request(starlette(answering, uploads), body, http_scope("/201"))

    assert [(name, result) for name, _, result in outcomes(uploads)] == [
        ("each", "a.png"),
        ("each", "b.txt"),
        ("all", ["a.png", "b.txt"]),
        ("images", "a.png"),
        ("here", "a.png"),
        ("here", "b.txt"),
    ]
    assert {job.field for job in uploads.jobs} == {"photo"}


@pytest.mark.parametrize("root_path", ["", "/mounted"])
async def test_path_is_that_of_the_routes(uploads: Uploads, root_path: str) -> None:
    uploads.handler("photo", path="/200")(reading)
    scope = http_scope(f"{root_path}/200", root_path=root_path)

    async with at_work(uploads):
        answer = await send_request(starlette(answering, uploads), BODY, scope)

    assert answer.status == 200
    assert outcomes(uploads) == [("reading", "succeeded", "data")]


async def test_form_that_is_parsed_after_the_answer(uploads: Uploads) -> None:
    """The answer has decided before there was a job."""
    uploads.handler("photo")(reading)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await Response(status_code=scope["wanted"])(scope, receive, send)
        await Request(scope, receive).form()

    async with at_work(uploads):
        for status in (200, 400):
            await send_request(kept_alive(app, uploads), BODY, http_scope(wanted=status))

    assert outcomes(uploads) == [
        ("reading", "succeeded", "data"),
        ("reading", "discarded", None),
    ]


# From FastAPI: endpoints, dependencies, background tasks


async def fastapi_request(app: FastAPI, uploads: Uploads, body: bytes = BODY) -> Answer:
    return await send_request(kept_alive(app, uploads), body)


@pytest.mark.parametrize(
    "place", ["endpoint", "sync endpoint", "dependency", "sync dependency", "background task"]
)
@pytest.mark.parametrize("veto", [False, True], ids=["submit", "veto"])
async def test_submit_and_veto(uploads: Uploads, place: str, veto: bool) -> None:
    """P4: `discard` keeps all jobs of a file from running, wherever it is called."""
    uploads.handler("photo", name="automatic")(reading)
    explicit = uploads.handler(name="explicit")(reading)
    app = FastAPI()
    here: list[str] = []

    def do(photo: Upload) -> None:
        here.append(place)
        explicit.submit(photo)
        if veto:
            photo.discard()
            with pytest.raises(NotAccepted, match="discarded"):
                explicit.submit(photo)

    async def do_async(photo: Upload) -> None:
        do(photo)

    nothing = Depends(lambda: None)
    dependency = Depends({"dependency": do_async, "sync dependency": do}.get(place, lambda: None))

    async def endpoint(photo: Upload, background: BackgroundTasks, _: None = dependency) -> None:
        if place == "endpoint":
            do(photo)
        if place == "background task":
            background.add_task(do, photo)

    def sync_endpoint(photo: Upload, _: None = nothing) -> None:
        do(photo)

    app.post("/")(sync_endpoint if place == "sync endpoint" else endpoint)
    async with at_work(uploads):
        answer = await fastapi_request(app, uploads)

    assert (answer.status, here) == (200, [place])
    expected = ("discarded", None) if veto else ("succeeded", "data")
    jobs = [("automatic", *expected), ("explicit", *expected)]
    assert outcomes(uploads) == jobs
    assert uploads.stats().open_uploads == 0


async def test_submit_after_a_rejecting_answer(uploads: Uploads) -> None:
    handler = uploads.handler()(reading)

    async def endpoint(request: Request) -> Response:
        photo: Any = (await request.form())["photo"]
        return Response(status_code=404, background=BackgroundTask(submit, photo))

    async def submit(photo: Upload) -> None:
        with pytest.raises(NotAccepted, match="answered with 404"):
            handler.submit(photo)
        jobs.append(handler.submit_now(photo))

    jobs: list[Job[Any]] = []
    async with at_work(uploads):
        await send_request(starlette(endpoint, uploads), BODY)

    assert [(job.state, job.result) for job in jobs] == [(JobState.SUCCEEDED, "data")]
    assert len(uploads.jobs) == 1


async def test_submit_now_asks_no_answer(uploads: Uploads) -> None:
    handler = uploads.handler()(reading)
    app = FastAPI()

    @app.post("/")
    async def endpoint(photo: Upload) -> None:
        job = await handler.submit_now(photo).wait()
        raise HTTPException(418, job.result)

    async with at_work(uploads):
        answer = await fastapi_request(app, uploads)

    assert (answer.status, answer.json) == (418, {"detail": "data"})


# When they start


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


# Running


async def test_running_is_shared(uploads: Uploads) -> None:
    handler = uploads.handler()(reading)
    with Upload.from_bytes(b"data") as upload:
        async with at_work(uploads):
            with pytest.raises(LostClient):
                async with uploads.running():
                    raise LostClient
            job = handler.submit(upload)  # the inner block's end was not the end
        assert job.state is JobState.SUCCEEDED

        with pytest.raises(NotRunning):
            handler.submit(upload)
        async with at_work(uploads):
            job = handler.submit(upload)
    assert job.state is JobState.SUCCEEDED


async def test_running_in_two_event_loops(uploads: Uploads) -> None:
    async def enter() -> None:
        async with uploads.running():
            pytest.fail("not reached")  # pragma: no cover

    def enter_in_thread() -> None:
        with pytest.raises(RuntimeError, match="run in another event loop: make one per app"):
            anyio.run(enter)

    async with at_work(uploads):
        await anyio.to_thread.run_sync(enter_in_thread)


async def test_drain_without_a_runner(uploads: Uploads) -> None:
    await uploads.drain()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_same_uploads_on_asyncio_and_on_trio(uploads: Uploads) -> None:
    """The same app is started twice in many a test suite."""

    @uploads.handler("photo")
    def in_thread(photo: Upload) -> int:
        return len(photo.file.read())

    @uploads.handler("photo")
    async def on_loop(photo: Upload) -> int:
        return len(await photo.read())

    app = starlette(answering, uploads)
    body = multipart(file_part(b"x" * 2_000_000))

    async def serve() -> None:
        async with lifespan(app):
            await send_request(app, body, http_scope("/200"))

    for backend in ("trio", "asyncio", "trio"):
        await anyio.to_thread.run_sync(partial(anyio.run, serve, backend=backend))

    each = [("in_thread", "succeeded", 2_000_000), ("on_loop", "succeeded", 2_000_000)]
    assert outcomes(uploads) == each * 3
    assert uploads.stats().open_uploads == 0


# The lifespan


class Events:
    """What happens at shutdown, in order."""

    def __init__(self, uploads: Uploads) -> None:
        self.seen: list[str] = []
        self.started = anyio.Event()
        self.proceed = anyio.Event()
        self.job: Job[Any] | None = None

        @uploads.handler("photo")
        async def handler(photo: Upload) -> None:
            self.started.set()
            try:
                await self.proceed.wait()
                self.seen.append("handler ends")
            except anyio.get_cancelled_exc_class():
                self.seen.append("handler is cancelled")
                raise

    @asynccontextmanager
    async def lifespan(self, app: object) -> AsyncGenerator[None, None]:
        yield
        self.seen.append("app shuts down")

    def app(self, uploads: Uploads) -> ASGIApp:
        routes = [Route("/{rest:path}", answering, methods=["POST"])]
        return kept_alive(Starlette(routes=routes, lifespan=self.lifespan), uploads)


async def test_jobs_finish_before_the_app_shuts_down(uploads: Uploads) -> None:
    """P8: handlers still have the app's pools."""
    events = Events(uploads)
    app = events.app(uploads)

    async def proceed() -> None:
        await anyio.wait_all_tasks_blocked()
        events.proceed.set()

    async with anyio.create_task_group() as tasks, lifespan(app):
        await send_request(app, BODY, http_scope("/200"))
        await events.started.wait()
        tasks.start_soon(proceed)

    assert events.seen == ["handler ends", "app shuts down"]


async def test_jobs_are_cancelled_before_the_app_shuts_down() -> None:
    uploads = Uploads(grace_period=0)
    events = Events(uploads)
    app = events.app(uploads)

    async with lifespan(app):
        await send_request(app, BODY, http_scope("/200"))
        await events.started.wait()

    assert events.seen == ["handler is cancelled", "app shuts down"]
    assert [state for _, state, _ in outcomes(uploads)] == ["cancelled"]


async def test_two_middlewares_share_one_lifespan(uploads: Uploads) -> None:
    uploads.handler("photo")(reading)
    app = kept_alive(starlette(answering, uploads), uploads)

    async with lifespan(app):
        await send_request(app, BODY, http_scope("/200"))

    assert outcomes(uploads) == [("reading", "succeeded", "data")]


# Without a lifespan


async def test_without_a_lifespan_jobs_run_within_the_request(
    uploads: Uploads, caplog: pytest.LogCaptureFixture
) -> None:
    answered = False

    @uploads.handler()
    async def child(photo: Upload) -> bool:
        return answered

    @uploads.handler("photo", start="response")
    def parent(photo: Upload) -> str:
        return child.submit(photo).id

    async def note(message: Message) -> None:
        nonlocal answered
        answered = message["type"] == "http.response.body"

    app = starlette(answering, uploads)
    with anyio.fail_after(20):
        for _ in range(2):
            await send_request(app, BODY, http_scope("/200"), on_send=note)
            assert all(job.state is JobState.SUCCEEDED for job in uploads.jobs)

    children = [
        uploads.jobs.get(str(job.result)) for job in uploads.jobs if job.handler == "parent"
    ]
    assert [job.result for job in children if job] == [True, True]
    told = [record.getMessage() for record in caplog.records if "starlette" in record.name]
    assert [message.partition(" to ")[0] for message in told] == ["No lifespan was sent"]
    assert uploads.stats().open_uploads == 0


async def test_mounted_app_with_handlers_of_its_own(uploads: Uploads) -> None:
    """Its lifespan is never sent, and a middleware further out ends the request."""
    uploads.handler("photo", name="thumbnail")(reading)
    outer = Uploads()

    @outer.handler(name="thumbnail")
    def another_of_that_name(photo: Upload) -> None:
        pytest.fail("not reached")  # pragma: no cover

    mounted = Mount("/mounted", starlette(answering, uploads))
    app = kept_alive(Starlette(routes=[mounted]), outer)

    async with lifespan(app):
        await send_request(app, BODY, http_scope("/mounted/200"))

    assert outcomes(uploads) == [("thumbnail", "succeeded", "data")]
    assert outer.stats().open_uploads == 0


async def test_request_cancelled_while_its_jobs_run_within_it(
    uploads: Uploads, caplog: pytest.LogCaptureFixture
) -> None:
    @uploads.handler("photo")
    async def handler(photo: Upload) -> None:
        scope.cancel()
        await anyio.sleep_forever()

    with anyio.CancelScope() as scope:
        await send_request(starlette(answering, uploads), BODY, http_scope("/200"))

    assert [state for _, state, _ in outcomes(uploads)] == ["cancelled"]
    assert "is lost" in caplog.text
    assert uploads.stats().open_uploads == 0


async def test_no_job_is_taken_once_the_app_shuts_down(uploads: Uploads) -> None:
    """P8: what the app's own shutdown code submits would outlast the grace period."""
    refused: list[NotRunning] = []

    @uploads.handler()
    def never(upload: Upload) -> None:
        pytest.fail("not reached")  # pragma: no cover

    @asynccontextmanager
    async def submit_at_the_end(_: Starlette) -> AsyncGenerator[None, None]:
        yield
        with Upload.from_bytes(b"data") as upload:
            try:
                never.submit(upload)
            except NotRunning as error:
                refused.append(error)

    app = Starlette(lifespan=submit_at_the_end)
    app.add_middleware(UploadKeepAliveMiddleware, uploads=uploads)
    async with lifespan(app):
        pass
    assert len(refused) == 1


async def test_a_request_that_holds_its_jobs_has_one_grace_period(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """P8: the end of the lifespan does not wait for it once more."""
    uploads = Uploads(grace_period=0)
    waits: list[float | None] = []
    move_on_after = anyio.move_on_after

    def counted(delay: float | None, shield: bool = False) -> anyio.CancelScope:
        waits.append(delay)
        return move_on_after(delay, shield=shield)

    @uploads.handler("photo")
    def never(photo: Upload) -> None:
        pytest.fail("not reached")  # pragma: no cover

    async def endpoint(request: Request) -> Response:
        await request.form()

        async def stream() -> AsyncIterator[bytes]:
            yield b"answered"
            await anyio.sleep_forever()

        return StreamingResponse(stream())

    app = Starlette(routes=[Route("/", endpoint, methods=["POST"])])
    app.add_middleware(UploadKeepAliveMiddleware, uploads=uploads)
    async with anyio.create_task_group() as tasks:
        async with lifespan(app):
            tasks.start_soon(send_request, app, multipart(file_part(b"data")))
            await anyio.wait_all_tasks_blocked()
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(anyio, "move_on_after", counted)
                assert uploads._runner is not None
                await uploads._runner.stop()
                await uploads._runner.stop()
        tasks.cancel_scope.cancel()
    assert waits == [0]
