"""Jobs run for the lifespan of their app; without one, within their request."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Message

from starlette_upload_keepalive import (
    Job,
    JobState,
    NotRunning,
    Upload,
    UploadKeepAliveMiddleware,
    Uploads,
)
from tests.asgi import file_part, http_scope, lifespan, multipart, send_request
from tests.sites import BODY, answering, kept_alive, outcomes, reading, starlette

pytestmark = pytest.mark.anyio


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
