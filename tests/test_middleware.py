"""The middleware: what it takes part in, and when a request is accepted."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

from starlette_upload_keepalive import JobState, UploadKeepAliveMiddleware
from starlette_upload_keepalive.jobs.options import Start
from tests.answering import BODY, answering, begin, body, counting, states
from tests.asgi import echo_app, http_scope, send_request

pytestmark = pytest.mark.anyio


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
