"""What `submit` does where no form is, in jobs and at shutdown: as the docs list it."""

from __future__ import annotations

import importlib
import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from starlette_upload_keepalive import (
    NotRunning,
    Upload,
    UploadKeepAliveMiddleware,
    detach,
)
from tests.asgi import http_scope, lifespan, send_request
from tests.submitting import (
    BODY,
    DROPPED,
    PLACES,
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


PAGE = Path(__file__).parents[1] / "docs" / "submitting.md"


async def test_the_table_and_the_tests_are_about_the_same_places() -> None:
    importlib.import_module("tests.test_submit_from_everywhere")  # names the other places
    table = re.search(r"^\| where .*\n\|-.*\n((?:\|.*\n)+)", PAGE.read_text(), re.MULTILINE)
    assert table
    assert {row.split(" | ")[0].lstrip("| ") for row in table[1].splitlines()} == PLACES


# In a job


@place("in a handler")
@pytest.mark.parametrize("run_in", ["thread", "loop"])
@pytest.mark.parametrize("fails", [False, True])
async def test_in_a_handler(site: Site, run_in: str, fails: bool) -> None:
    def parent(upload: Upload) -> None:
        site.submit(upload)
        if fails:
            raise ValueError
        site.seen.append("parent returns")

    async def async_parent(upload: Upload) -> None:
        parent(upload)

    handler = site.uploads.handler(name="parent")(parent if run_in == "thread" else async_parent)
    async with site.uploads.running():
        with Upload.from_bytes(b"data") as upload:
            handler.submit(upload)
    if fails:
        assert (site.seen, site.results) == (["staged"], DROPPED)
    else:
        assert site.seen == ["staged", "parent returns", "job starts"]
        assert site.results == RUN


@place("in a handler's own thread or task that outlives it, a detached upload")
async def test_in_what_a_handler_left_behind(site: Site) -> None:
    returned = anyio.Event()

    async def later(upload: Upload) -> None:
        await returned.wait()
        with upload:
            site.submit(upload)

    @site.uploads.handler()
    async def parent(upload: Upload) -> None:
        tasks.start_soon(later, detach(upload))

    async with site.uploads.running(), anyio.create_task_group() as tasks:
        with Upload.from_bytes(b"data") as upload:
            job = parent.submit(upload)
        await job.wait()
        returned.set()
    assert site.seen == ["at once", "job starts"]
    assert site.results == RUN


# Where no form is


@place(
    "where no form's request is served: a script, the app's startup, a WebSocket, another request"
)
@pytest.mark.parametrize("where", ["script", "startup", "websocket", "other request"])
async def test_where_no_form_is(site: Site, where: str) -> None:
    """Nothing is to be accepted there; a request without a form can't reject it."""

    def do() -> None:
        with Upload.from_bytes(b"data") as upload:
            site.submit(upload)

    @asynccontextmanager
    async def startup(_: Starlette) -> AsyncGenerator[None, None]:
        if where == "startup":
            do()
        yield

    async def websocket(socket: WebSocket) -> None:
        do()
        await socket.close()

    async def endpoint(request: Request) -> Response:
        do()
        return Response(status_code=409)

    routes = [WebSocketRoute("/ws", websocket), Route("/", endpoint)]
    app = UploadKeepAliveMiddleware(Starlette(routes=routes, lifespan=startup), site.uploads)
    async with lifespan(app):
        if where == "script":
            do()
        elif where == "websocket":
            scope = http_scope("/ws", content_type=None, type="websocket", subprotocols=[])
            await send_request(app, [{"type": "websocket.connect"}], scope)
        elif where == "other request":
            await send_request(app, b"", http_scope(content_type=None, method="GET"))
    assert site.seen == ["at once", "job starts"]
    assert site.results == RUN


# At shutdown, and without a runner


class Shutdown:
    """A handler that is at work when the app shuts down."""

    def __init__(self, site: Site, during: Callable[[], Awaitable[None]]) -> None:
        self.started = anyio.Event()
        self.shutting_down = anyio.Event()

        @site.uploads.handler()
        async def at_work(upload: Upload) -> None:
            self.started.set()
            await self.shutting_down.wait()
            await during()
            site.seen.append("first job ends")

        self.handler = at_work

    async def run(self, site: Site) -> None:
        """Shut an app down while the handler is at work."""

        async def let_go() -> None:
            await anyio.wait_all_tasks_blocked()
            self.shutting_down.set()

        @asynccontextmanager
        async def noting(_: Starlette) -> AsyncGenerator[None, None]:
            yield
            site.seen.append("app shuts down")

        app = UploadKeepAliveMiddleware(Starlette(lifespan=noting), site.uploads)
        async with anyio.create_task_group() as tasks, lifespan(app):
            with Upload.from_bytes(b"first") as upload:
                self.handler.submit(upload)
            await self.started.wait()
            tasks.start_soon(let_go)


@place("after shutdown began, in the grace period")
async def test_in_the_grace_period(site: Site) -> None:
    """It has what is left of the same grace period."""

    async def during() -> None:
        with Upload.from_bytes(b"data") as upload:
            site.submit(upload)

    await Shutdown(site, during).run(site)
    assert site.seen == ["staged", "first job ends", "job starts", "app shuts down"]
    assert site.results == RUN


@place("after the grace period, or in the app's own shutdown code")
async def test_in_the_shutdown_code(site: Site) -> None:
    @asynccontextmanager
    async def shutdown(_: Starlette) -> AsyncGenerator[None, None]:
        yield
        with Upload.from_bytes(b"data") as upload, pytest.raises(NotRunning):
            site.handler.submit(upload)

    async with lifespan(UploadKeepAliveMiddleware(Starlette(lifespan=shutdown), site.uploads)):
        pass
    assert len(site.uploads.jobs) == 0


@place("in a form's request, without a runner")
@statuses
async def test_in_a_request_without_a_runner(
    site: Site, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    """It runs within the request's own call, after the answer."""

    async def endpoint(request: Request) -> Response:
        site.submit(await photo_of(request))
        return Response(status_code=status)

    await send_request(site.app(endpoint), BODY, on_send=site.note)
    if status == 303:
        assert site.seen == ["staged", "answer", "job starts", "request ends"]
        assert "No lifespan was sent" in caplog.text
    else:
        assert site.seen == ["staged", "answer", "request ends"]
    assert site.results == (RUN if status == 303 else DROPPED)


@place("anywhere else, without a runner")
@pytest.mark.parametrize("where", ["here", "thread", "request, submit_now"])
async def test_elsewhere_without_a_runner(site: Site, where: str) -> None:
    raised: list[str] = []

    def do(upload: Upload) -> None:
        submit = site.handler.submit_now if "now" in where else site.handler.submit
        with pytest.raises(NotRunning, match="No runner is there"):
            submit(upload)
        raised.append(where)

    async def endpoint(request: Request) -> Response:
        do(await photo_of(request))
        return Response()

    with Upload.from_bytes(b"data") as upload:
        if where == "here":
            do(upload)
        elif where == "thread":
            await anyio.to_thread.run_sync(do, upload)
        else:
            await send_request(site.app(endpoint), BODY)
    assert raised == [where]
    assert len(site.uploads.jobs) == 0


@place("`submit_now()`, in any of these")
async def test_submit_now(site: Site) -> None:
    """It asks no answer: it is done before there is one."""

    async def endpoint(request: Request) -> Response:
        job = await site.handler.submit_now(await photo_of(request)).wait()
        return Response(job.result, status_code=409)

    await site.run(site.app(endpoint))
    assert site.seen == ["job starts", "answer", "request ends"]
