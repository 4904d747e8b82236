"""What is submitted while a request is served waits for its answer, whatever the upload is."""

from __future__ import annotations

import contextvars
import gc
import weakref
from pathlib import Path
from typing import Any

import anyio
import pytest
from fastapi import FastAPI, HTTPException, UploadFile
from fastapi.encoders import jsonable_encoder
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route

from starlette_upload_keepalive import (
    Job,
    JobContext,
    JobState,
    Upload,
    UploadKeepAliveMiddleware,
    Uploads,
    detach,
)
from tests.asgi import file_part, http_scope, multipart, send_request

pytestmark = pytest.mark.anyio

kinds = pytest.mark.parametrize("kind", ["its own", "detached", "derived"])


@kinds
@pytest.mark.parametrize("status", [202, 409])
async def test_it_runs_if_the_request_is_accepted(kind: str, status: int) -> None:
    """P4: for a detached and a derived upload too."""
    uploads = Uploads()
    jobs: list[Job[Any]] = []
    states: list[JobState] = []

    @uploads.handler()
    def length(file: Upload) -> int:
        return len(file.file.read())

    app = FastAPI()

    @app.post("/", status_code=202)
    async def endpoint(photo: Upload) -> None:
        if kind == "its own":
            jobs.append(length.submit(photo))
        else:
            with detach(photo) if kind == "detached" else Upload.from_bytes(b"abc") as other:
                jobs.append(length.submit(other))
        states.append(jobs[0].state)
        if status == 409:
            raise HTTPException(409)

    app.add_middleware(UploadKeepAliveMiddleware, uploads=uploads)
    async with uploads.running():
        answer = await send_request(app, multipart(file_part(b"abc")))
        assert answer.status == status
        job = await jobs[0].wait()
    assert states == [JobState.STAGED]
    assert (job.state, job.result) == (
        (JobState.SUCCEEDED, 3) if status == 202 else (JobState.DISCARDED, None)
    )
    assert uploads.stats().open_uploads == 0


class Session:
    """Stands for what a request keeps in its context."""


session: contextvars.ContextVar[Session | None] = contextvars.ContextVar("session", default=None)


@pytest.mark.parametrize("status", [202, 409])
async def test_a_job_that_is_done_holds_nothing_of_its_request(status: int) -> None:
    """P5: the history has it for long."""
    uploads = Uploads()
    held: list[weakref.ref[Session]] = []

    @uploads.handler("photo")
    async def automatic(photo: Upload) -> None: ...

    @uploads.handler()
    async def explicit(photo: Upload) -> None: ...

    async def endpoint(request: Request) -> Response:
        photo = (await request.form())["photo"]
        assert isinstance(photo, Upload)
        explicit.submit(photo)
        return Response(status_code=status)

    keep_alive = UploadKeepAliveMiddleware(
        Starlette(routes=[Route("/", endpoint, methods=["POST"])]), uploads
    )

    async def with_session(scope: Any, receive: Any, send: Any) -> None:
        kept = Session()
        held.append(weakref.ref(kept))
        session.set(kept)
        try:
            await keep_alive(scope, receive, send)
        finally:
            session.set(None)

    async with uploads.running():
        await send_request(with_session, multipart(file_part(b"abc")))
        await uploads.drain()
        await anyio.wait_all_tasks_blocked()
        gc.collect()
        assert [each() for each in held] == [None]
    assert len(uploads.jobs) == 2


async def test_a_job_can_not_be_answered_with() -> None:
    """FastAPI would answer with its arguments and all that it is made of."""
    uploads = Uploads()

    @uploads.handler()
    def secret(file: Upload, token: str) -> None: ...

    async with uploads.running():
        with Upload.from_bytes(b"abc") as upload:
            job = secret.submit(upload, token="not to be told")
        with pytest.raises(ValueError, match="__dict__"):
            jsonable_encoder(job)
        await job.wait()


@pytest.mark.parametrize("further_out", [False, True])
async def test_a_path_is_that_of_the_app_that_names_it(further_out: bool) -> None:
    outer, inner = Uploads(), Uploads()
    ran: list[str] = []

    @inner.handler("photo", path="/photos")
    def below(photo: Upload) -> None:
        ran.append("below")

    @outer.handler("photo", path="/api/photos")
    def above(photo: Upload) -> None:
        ran.append("above")

    async def endpoint(request: Request) -> Response:
        await request.form()
        return Response()

    mounted = UploadKeepAliveMiddleware(
        Starlette(routes=[Route("/photos", endpoint, methods=["POST"])]), inner
    )
    app: Any = Starlette(routes=[Mount("/api", mounted)])
    if further_out:
        app = UploadKeepAliveMiddleware(app, outer)
    async with inner.running(), outer.running():
        body = multipart(file_part(b"abc"))
        await send_request(app, body, scope=http_scope("/api/photos"))
    assert sorted(ran) == (["above", "below"] if further_out else ["below"])


@pytest.mark.parametrize("annotation", ["JobContext | None", "Optional[JobContext]"])
async def test_an_optional_context_is_given(annotation: str) -> None:
    uploads = Uploads()
    given: list[JobContext | None] = []

    def handler(file: Upload, job: Any = None) -> None:
        given.append(job)

    handler.__annotations__["job"] = annotation
    submitted = uploads.handler()(handler)
    async with uploads.running():
        with Upload.from_bytes(b"abc") as upload:
            submitted.submit(upload)
    assert [type(each) for each in given] == [JobContext]


async def test_a_directory_that_is_gone_is_the_apps_fault(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Divergence 3: a 500 with its cause in the log, not a 400 without."""
    directory = tmp_path / "uploads"
    directory.mkdir()
    uploads = Uploads(directory=directory)
    app = FastAPI()

    @app.post("/")
    async def endpoint(photo: UploadFile) -> None: ...

    app.add_middleware(UploadKeepAliveMiddleware, uploads=uploads)
    directory.rmdir()
    large = multipart(file_part(bytes(2_000_000)))
    assert (await send_request(app, large)).status == 500
    assert "could not be stored" in caplog.text
    assert str(directory) in caplog.text
    assert (await send_request(app, multipart(file_part(b"small")))).status == 200
    directory.mkdir()
    assert (await send_request(app, large)).status == 200


@pytest.mark.parametrize("value", [1.5, True, "1", None])
@pytest.mark.parametrize(
    "option", ["memory_max_size", "memory_budget", "handler_threads", "handler_tasks"]
)
async def test_an_option_that_is_no_whole_number_is_named(option: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"^{option} must be .* not {value!r}"):
        Uploads(**{option: value})  # type: ignore[arg-type]
