"""The middleware: what it takes part in, when a request is accepted, and its lifespan."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from starlette_upload_keepalive import JobState, Upload, UploadKeepAliveMiddleware, Uploads
from starlette_upload_keepalive.options import Start
from starlette_upload_keepalive.stage import Stage, current_stage
from tests.asgi import (
    Answer,
    behind_base_http_middleware,
    echo_app,
    file_part,
    http_scope,
    in_messages,
    lifespan,
    multipart,
    send_request,
)

pytestmark = pytest.mark.anyio

BODY = multipart(file_part(b"abc"))


def begin(status: int) -> Message:
    return {"type": "http.response.start", "status": status, "headers": []}


def body(data: bytes = b"", *, more: bool = False) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": more}


def answering(*messages: Message, error: Exception | None = None) -> ASGIApp:
    """Make an app that parses its form, sends those messages, and then raises."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await Request(scope, receive).form()
        for message in messages:
            await send(message)
        if error is not None:
            raise error

    return app


async def plain_endpoint(request: Request) -> Response:
    await request.form()
    return PlainTextResponse("ok")


def counting(*, path: str | None = None, start: Start = "end") -> tuple[Uploads, list[bytes]]:
    """Make uploads with a handler of the field "photo", and the list of what it reads."""
    uploads = Uploads()
    seen: list[bytes] = []

    @uploads.handler("photo", path=path, start=start)
    async def read(photo: Upload) -> None:
        seen.append(await photo.read())

    return uploads, seen


def states(uploads: Uploads) -> list[JobState]:
    return [job.state for job in uploads.jobs]


def told(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.name == "starlette_upload_keepalive"]


# What it takes part in


@pytest.mark.parametrize("kind", ["websocket", "lifespan-of-the-future"])
async def test_other_scopes_pass_untouched(kind: str) -> None:
    """P10."""
    seen: list[Any] = []
    scope = {"type": kind, "headers": [(b"content-type", b"multipart/form-data; boundary=b")]}
    before = dict(scope)

    async def app(*given: Any) -> None:
        seen.extend(given)

    async def receive() -> Message:
        raise AssertionError("not asked for")

    async def send(_: Message) -> None: ...

    await UploadKeepAliveMiddleware(app)(scope, receive, send)
    assert scope == before
    assert seen[0] is scope
    assert seen[1] is receive
    assert seen[2] is send


async def test_the_scope_is_clean_again_after_the_call() -> None:
    scope = http_scope()
    before = dict(scope)
    await send_request(UploadKeepAliveMiddleware(echo_app()), BODY, scope)
    assert scope == before


async def test_messages_pass_in_order_and_unchanged() -> None:
    messages = [begin(200), body(b"a", more=True), body(b"b", more=True), body(b"c")]
    app = UploadKeepAliveMiddleware(answering(*messages))
    answer = await send_request(app, BODY)
    assert len(answer.messages) == 4
    assert all(sent is given for sent, given in zip(answer.messages, messages, strict=True))


# Accepting


@pytest.mark.parametrize(
    ("status", "accepted"),
    [(200, True), (204, True), (299, True), (199, False), (303, False), (404, False), (500, False)],
)
async def test_the_status_decides(status: int, accepted: bool) -> None:
    """P4."""
    uploads, seen = counting()
    app = UploadKeepAliveMiddleware(answering(begin(status), body()), uploads)
    async with uploads.running():
        await send_request(app, BODY)
        await uploads.drain()
    assert seen == ([b"abc"] if accepted else [])
    assert states(uploads) == [JobState.SUCCEEDED if accepted else JobState.DISCARDED]


@pytest.mark.parametrize(("first", "accepted"), [(200, True), (500, False)])
async def test_only_the_first_start_counts(first: int, accepted: bool) -> None:
    """P4: a server refuses the second; what it sent stands."""
    uploads, seen = counting()
    app = answering(begin(first), begin(700 - first), body())
    async with uploads.running():
        await send_request(UploadKeepAliveMiddleware(app, uploads), BODY)
        await uploads.drain()
    assert bool(seen) is accepted


async def test_early_hints_decide_nothing() -> None:
    uploads, seen = counting(start="response")
    hint: Message = {"type": "http.response.early_hint", "links": [b"</a.css>"]}
    app = UploadKeepAliveMiddleware(answering(hint, begin(500), body()), uploads)
    async with uploads.running():
        answer = await send_request(app, BODY)
        await uploads.drain()
    assert answer.messages[0] is hint
    assert seen == []


async def test_it_decides_before_the_answer_is_passed_on() -> None:
    """P4: so that a failing server finds it decided, and who submits later too."""
    uploads, _ = counting()
    at_start: list[JobState] = []

    async def on_send(message: Message) -> None:
        if message["type"] == "http.response.start":
            at_start.extend(states(uploads))

    app = UploadKeepAliveMiddleware(answering(begin(404), body()), uploads)
    await send_request(app, BODY, on_send=on_send)
    assert at_start == [JobState.DISCARDED]


@pytest.mark.parametrize(
    ("sent", "accepted"),
    [
        ([], False),
        ([begin(200)], True),
        ([begin(200), body(b"a", more=True)], True),
        ([begin(200), body()], True),
        ([begin(500), body()], False),
    ],
)
async def test_an_exception_changes_nothing_about_what_was_answered(
    sent: list[Message], accepted: bool
) -> None:
    """P4: what was accepted is released however the call ends."""
    uploads, seen = counting()
    app = UploadKeepAliveMiddleware(answering(*sent, error=KeyError("late")), uploads)
    async with uploads.running():
        with pytest.raises(KeyError, match="late"):
            await send_request(app, BODY)
        await uploads.drain()
    assert bool(seen) is accepted
    assert uploads.stats().open_uploads == 0


@pytest.mark.parametrize("fails_at", ["http.response.start", "http.response.body"])
async def test_an_accepted_file_survives_a_server_that_fails_to_send(fails_at: str) -> None:
    """P4: the client may have it, so the job runs."""
    uploads, seen = counting()

    async def on_send(message: Message) -> None:
        if message["type"] == fails_at:
            raise OSError("the client is gone")

    app = UploadKeepAliveMiddleware(answering(begin(200), body()), uploads)
    async with uploads.running():
        with pytest.raises(OSError, match="the client is gone"):
            await send_request(app, BODY, on_send=on_send)
        await uploads.drain()
    assert seen == [b"abc"]


@pytest.mark.parametrize(
    "last", [body(), {"type": "http.response.pathsend", "path": "/a"}], ids=["body", "pathsend"]
)
async def test_a_job_that_starts_with_the_response_does_so(last: Message) -> None:
    uploads, seen = counting(start="response")
    job_done = anyio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await Request(scope, receive).form()
        await send(begin(200))
        await send(body(b"a", more=True))
        await anyio.wait_all_tasks_blocked()
        assert seen == []
        await send(last)
        (job,) = uploads.jobs
        await job.wait()
        job_done.set()

    async with uploads.running():
        await send_request(UploadKeepAliveMiddleware(app, uploads), BODY)
    assert job_done.is_set()
    assert seen == [b"abc"]


async def test_a_job_starts_with_the_end_of_the_call_by_default() -> None:
    """P5: dependencies have been left by then."""
    uploads, seen = counting()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await answering(begin(200), body())(scope, receive, send)
        await anyio.wait_all_tasks_blocked()
        assert seen == []

    async with uploads.running():
        await send_request(UploadKeepAliveMiddleware(app, uploads), BODY)
        await uploads.drain()
    assert seen == [b"abc"]


@pytest.mark.parametrize("start_option", ["end", "response"])
async def test_a_form_parsed_after_the_answer_still_counts(start_option: Start) -> None:
    """P4: a background task of the app asks for it; without a lifespan too."""
    uploads, seen = counting(start=start_option)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(begin(200))
        await send(body())
        await Request(scope, receive).form()

    await send_request(UploadKeepAliveMiddleware(app, uploads), BODY)
    assert seen == [b"abc"]
    assert uploads.stats().open_uploads == 0


@pytest.mark.parametrize("start_option", ["end", "response"])
async def test_a_form_parsed_after_a_rejection_runs_nothing(start_option: Start) -> None:
    """P4."""
    uploads, seen = counting(start=start_option)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(begin(400))
        await send(body())
        await Request(scope, receive).form()

    async with uploads.running():
        await send_request(UploadKeepAliveMiddleware(app, uploads), BODY)
        await uploads.drain()
    assert seen == []
    assert states(uploads) == [JobState.DISCARDED]
    assert uploads.stats().open_uploads == 0


# Several of them


async def test_twice_with_the_same_uploads_runs_each_job_once() -> None:
    uploads, seen = counting()
    app = Starlette(
        routes=[Route("/", plain_endpoint, methods=["POST"])],
        middleware=[Middleware(UploadKeepAliveMiddleware, uploads=uploads)] * 2,
    )
    async with lifespan(app):
        assert (await send_request(app, BODY)).status == 200
    assert seen == [b"abc"]


@behind_base_http_middleware
@pytest.mark.parametrize("asks_first", [False, True])
async def test_two_with_different_uploads_each_run_their_own(asks_first: bool) -> None:
    """Even if something in between asks for the form before the inner one comes into play."""
    outer, seen_by_outer = counting()
    inner, seen_by_inner = counting()

    class Asking(BaseHTTPMiddleware):
        async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
            if asks_first:
                await request.form()
            return await call_next(request)

    app = Starlette(
        routes=[Route("/", plain_endpoint, methods=["POST"])],
        middleware=[
            Middleware(UploadKeepAliveMiddleware, uploads=outer),
            Middleware(Asking),
            Middleware(UploadKeepAliveMiddleware, uploads=inner),
        ],
    )
    async with lifespan(app):
        assert (await send_request(app, BODY)).status == 200
    assert (seen_by_outer, seen_by_inner) == ([b"abc"], [b"abc"])


@pytest.mark.parametrize("outer_runs", [True, False])
async def test_a_mounted_app_runs_its_own_handlers(
    outer_runs: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """P6: its lifespan is never sent, and another one of ours stands around it.

    The handlers bear the same name, so that one must not be taken for the other.
    """
    outer, seen_by_outer = counting(path="/elsewhere")
    inner, seen_by_inner = counting()
    mounted = Starlette(
        routes=[Route("/", plain_endpoint, methods=["POST"])],
        middleware=[Middleware(UploadKeepAliveMiddleware, uploads=inner)],
    )
    app = Starlette(
        routes=[Mount("/sub", mounted)],
        middleware=[Middleware(UploadKeepAliveMiddleware, uploads=outer)],
    )
    if outer_runs:
        async with lifespan(app):
            assert (await send_request(app, BODY, http_scope("/sub/"))).status == 200
    else:
        assert (await send_request(app, BODY, http_scope("/sub/"))).status == 200
    assert (seen_by_outer, seen_by_inner) == ([], [b"abc"])
    assert len(told(caplog)) == 1


@pytest.mark.parametrize(
    ("path", "root", "runs"),
    [
        ("/photos", "", True),
        ("/photos/", "", False),
        ("/photos/1", "", False),
        ("/api/photos", "/api", True),
        ("/api/photos", "/api/", True),
        ("/api/photos", "", False),
        ("/apiphotos", "/api", False),
        # A server behind a proxy that strips the prefix sends the path without it.
        ("/photos", "/api", True),
    ],
)
async def test_the_path_is_that_of_a_route(path: str, root: str, runs: bool) -> None:
    uploads, seen = counting(path="/photos")
    app = UploadKeepAliveMiddleware(answering(begin(200), body()), uploads)
    async with uploads.running():
        await send_request(app, BODY, http_scope(path, root_path=root))
        await uploads.drain()
    assert bool(seen) is runs


async def test_in_a_mounted_app_the_path_is_that_of_its_own_routes() -> None:
    uploads, seen = counting(path="/photos")
    mounted = Starlette(
        routes=[Route("/photos", plain_endpoint, methods=["POST"])],
        middleware=[Middleware(UploadKeepAliveMiddleware, uploads=uploads)],
    )
    app = Starlette(routes=[Mount("/sub", mounted)])
    async with uploads.running():
        assert (await send_request(app, BODY, http_scope("/sub/photos"))).status == 200
        await uploads.drain()
    assert seen == [b"abc"]


async def test_a_request_that_a_job_makes_to_an_app_leaves_the_job_its_own_stage() -> None:
    """What the job submits afterwards still waits for the job, and not for the request."""
    stage = Stage()
    token = current_stage.set(stage)
    try:
        await send_request(UploadKeepAliveMiddleware(answering(begin(200), body())), BODY)
        assert current_stage.get() is stage
    finally:
        current_stage.reset(token)


# The lifespan


async def test_the_lifespan_runs_jobs_and_drains() -> None:
    """P8: the app learns of the shutdown when the jobs are done."""
    events: list[str] = []
    uploads = Uploads()
    go_on = anyio.Event()

    @uploads.handler("photo")
    async def work(photo: Upload) -> None:
        await go_on.wait()
        events.append("worked")

    @asynccontextmanager
    async def app_lifespan(_: Starlette) -> AsyncGenerator[None, None]:
        events.append("started")
        yield
        events.append("stopped")

    app = Starlette(
        routes=[Route("/", plain_endpoint, methods=["POST"])],
        middleware=[Middleware(UploadKeepAliveMiddleware, uploads=uploads)],
        lifespan=app_lifespan,
    )

    async def once_the_app_shuts_down() -> None:
        await anyio.wait_all_tasks_blocked()
        go_on.set()

    async with anyio.create_task_group() as tasks, lifespan(app):
        await send_request(app, BODY)
        assert events == ["started"]
        tasks.start_soon(once_the_app_shuts_down)
    assert events == ["started", "worked", "stopped"]


async def test_a_lifespan_can_be_had_again() -> None:
    uploads, seen = counting()
    app = UploadKeepAliveMiddleware(
        Starlette(routes=[Route("/", plain_endpoint, methods=["POST"])]), uploads
    )
    for _ in range(2):
        async with lifespan(app):
            await send_request(app, BODY)
    assert seen == [b"abc", b"abc"]


async def test_a_startup_that_fails_is_told_unchanged() -> None:
    failing = True

    @asynccontextmanager
    async def app_lifespan(_: Starlette) -> AsyncGenerator[None, None]:
        if failing:
            raise KeyError("no database")
        yield

    app = UploadKeepAliveMiddleware(Starlette(lifespan=app_lifespan))
    messages = [{"type": "lifespan.startup"}]
    sent: list[str] = []

    async def receive() -> Message:
        await checkpoint()
        return messages.pop()

    async def send(message: Message) -> None:
        sent.append(message["type"])

    with pytest.raises(KeyError, match="no database"):
        await app({"type": "lifespan", "state": {}}, receive, send)
    assert sent == ["lifespan.startup.failed"]


async def test_an_app_that_knows_no_lifespan_says_so_itself() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise NotImplementedError(scope["type"])

    async def receive() -> Message:
        raise AssertionError("not asked for")

    async def send(_: Message) -> None: ...

    with pytest.raises(NotImplementedError, match=r"^lifespan$"):
        await UploadKeepAliveMiddleware(app)({"type": "lifespan"}, receive, send)


async def test_without_a_lifespan_jobs_run_in_their_request_and_the_log_says_so_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    uploads, seen = counting()
    app = UploadKeepAliveMiddleware(answering(begin(200), body()), uploads)
    for _ in range(2):
        await send_request(app, BODY)
    assert seen == [b"abc", b"abc"]
    (record,) = told(caplog)
    assert record.levelno == logging.WARNING
    assert "No lifespan was sent" in record.getMessage()


async def test_without_jobs_nothing_is_said_of_the_lifespan(
    caplog: pytest.LogCaptureFixture,
) -> None:
    answer = await send_request(
        UploadKeepAliveMiddleware(answering(begin(200), body(b"ok"))), in_messages(BODY)
    )
    assert isinstance(answer, Answer)
    assert answer.body == b"ok"
    assert told(caplog) == []
