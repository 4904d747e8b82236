"""Several middlewares, apps mounted in others, and requests within a job."""

from __future__ import annotations

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route

from starlette_upload_keepalive import JobState, Upload, UploadKeepAliveMiddleware, Uploads
from starlette_upload_keepalive.jobs.current_stage import current_stage
from starlette_upload_keepalive.jobs.stage import Stage
from tests.answering import BODY, answering, begin, body, counting, plain_endpoint, told
from tests.asgi import (
    behind_base_http_middleware,
    file_part,
    http_scope,
    lifespan,
    multipart,
    send_request,
)

pytestmark = pytest.mark.anyio


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


@behind_base_http_middleware
async def test_an_inner_handler_has_its_max_size_although_the_form_was_read_before() -> None:
    """P7: the outer one has parsed it, and knew no limits of those further in."""
    sizes: list[int | None] = []
    inner = Uploads()

    @inner.handler("photo", max_size=3)
    async def count(photo: Upload) -> None:
        sizes.append(photo.size)

    async def read_form(request: Request, call_next: RequestResponseEndpoint) -> Response:
        await request.form()
        return await call_next(request)

    app = Starlette(
        routes=[Route("/", plain_endpoint, methods=["POST"])],
        middleware=[
            Middleware(UploadKeepAliveMiddleware),
            Middleware(BaseHTTPMiddleware, dispatch=read_form),
            Middleware(UploadKeepAliveMiddleware, uploads=inner),
        ],
    )
    async with inner.running():
        for data in (b"abc", b"abcd"):
            sent = await send_request(app, multipart(file_part(data)))
            assert sent.status == 200
        await inner.drain()
    assert sizes == [3]
    assert inner.stats().jobs[JobState.DISCARDED] == 1
    assert inner.stats().open_uploads == 0
