"""Limits go together with those of Starlette, FastAPI, and apps around and further in."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from starlette_upload_keepalive import (
    FieldLimits,
    Limits,
    Upload,
    UploadKeepAliveMiddleware,
    UploadRefused,
    Uploads,
)
from starlette_upload_keepalive.quantities import MIB
from tests.asgi import (
    STARLETTE,
    behind_base_http_middleware,
    file_part,
    http_scope,
    in_messages,
    multipart,
    send_request,
)
from tests.limited import app_with, form_sizes, send

pytestmark = pytest.mark.anyio


async def test_an_app_may_answer_in_a_form_of_its_own() -> None:
    async def refused(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, UploadRefused)
        return JSONResponse({"code": type(error).__name__}, error.status_code)

    app = Starlette(
        routes=[Route("/", form_sizes, methods=["POST"])],
        exception_handlers={UploadRefused: refused},
    )
    app.add_middleware(UploadKeepAliveMiddleware, uploads=Uploads(limits=Limits(max_file_size=1)))
    sent = await send(app, multipart(file_part(b"xy")))
    assert (sent.answer.status, sent.answer.json) == (413, {"code": "FileTooLarge"})


async def test_in_fastapi_a_refusal_is_json() -> None:
    fastapi = pytest.importorskip("fastapi")
    app = fastapi.FastAPI()

    async def endpoint(photo: Upload) -> None: ...

    app.post("/")(endpoint)
    app.add_middleware(
        UploadKeepAliveMiddleware, uploads=Uploads(limits=Limits(max_request_size=100))
    )
    sent = await send(app, multipart(file_part(bytes(100))))
    detail = "The request is too large: it may have 100 bytes at most."
    assert (sent.answer.status, sent.answer.json) == (413, {"detail": detail})


@pytest.mark.skipif(STARLETTE < (1, 10), reason="earlier ones have no such limit")
async def test_the_limit_of_starlette_goes_on_working() -> None:
    app: Any = Starlette(
        routes=[Route("/", form_sizes, methods=["POST"], max_body_size=1000)],  # type: ignore[call-arg,unused-ignore]
    )
    app.add_middleware(UploadKeepAliveMiddleware)
    body = multipart(file_part(bytes(1000)))
    sent = await send(app, body, length=len(body))
    assert (sent.answer.status, sent.received) == (413, 0)
    assert (await send(app, body)).answer.status == 413
    assert (await send(app, multipart(file_part(bytes(500))))).answer.status == 200


async def test_the_limits_of_request_form_go_on_working() -> None:
    async def endpoint(request: Request) -> JSONResponse:
        await request.form(max_files=1, max_fields=1)
        return JSONResponse(None)

    app = Starlette(routes=[Route("/", endpoint, methods=["POST"])])
    app.add_middleware(UploadKeepAliveMiddleware)
    two = multipart(file_part(b"x"), file_part(b"x"))
    sent = await send(app, two)
    assert (sent.answer.status, sent.answer.text) == (
        400,
        "Too many files. Maximum number of files is 1.",
    )


async def test_what_is_not_read_as_a_form_is_not_limited() -> None:
    async def endpoint(request: Request) -> JSONResponse:
        return JSONResponse(len(await request.body()))

    app = Starlette(routes=[Route("/", endpoint, methods=["POST"])])
    app.add_middleware(
        UploadKeepAliveMiddleware, uploads=Uploads(limits=Limits(max_request_size=10))
    )
    body = multipart(file_part(bytes(100)))
    assert (await send(app, body, length=len(body))).answer.json == len(body)


async def test_the_limits_of_an_app_further_in_hold_for_its_fields() -> None:
    inner_uploads = Uploads(fields=[FieldLimits("photo", path="/photos", max_size=10)])

    inner = app_with(inner_uploads, "/photos")
    app = Starlette(routes=[Mount("/inner", inner)])
    app.add_middleware(UploadKeepAliveMiddleware, uploads=Uploads())
    sent = await send(app, multipart(file_part(bytes(11))), path="/inner/photos")
    assert sent.answer.status == 413
    sent = await send(app, multipart(file_part(bytes(10))), path="/inner/photos")
    assert sent.answer.status == 200


@behind_base_http_middleware
@pytest.mark.parametrize("length", [500, 5 * MIB, None])
async def test_a_client_that_is_too_slow_for_an_app_behind_a_base_http_middleware(
    length: int | None,
) -> None:
    """The refusal is raised outside of the task group that its receive() waits in."""

    async def pass_on(request: Request, call_next: RequestResponseEndpoint) -> Response:
        return await call_next(request)

    app = Starlette(
        routes=[Route("/", form_sizes, methods=["POST"])],
        middleware=[
            Middleware(
                UploadKeepAliveMiddleware, uploads=Uploads(limits=Limits(receive_timeout=0.01))
            ),
            Middleware(BaseHTTPMiddleware, dispatch=pass_on),
        ],
    )
    scope = http_scope()
    if length is not None:
        scope["headers"].append((b"content-length", str(length).encode()))
    answer = await send_request(app, in_messages(multipart(file_part(bytes(100))))[:-1], scope)
    assert answer.status == 408
    assert answer.text == "The upload is too slow. Nothing has come for 0.01 seconds."
