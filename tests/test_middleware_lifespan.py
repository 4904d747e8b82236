"""The middleware runs jobs for as long as the lifespan, and passes it on unchanged."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
import pytest
from anyio.lowlevel import checkpoint
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from starlette_upload_keepalive import Upload, UploadKeepAliveMiddleware, Uploads
from tests.answering import BODY, answering, begin, body, counting, plain_endpoint, told
from tests.asgi import Answer, in_messages, lifespan, send_request

pytestmark = pytest.mark.anyio


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
