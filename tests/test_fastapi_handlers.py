"""Endpoints, dependencies and background tasks of FastAPI submit, and veto."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import Response

from starlette_upload_keepalive import Job, JobState, NotAccepted, Upload, Uploads
from tests.asgi import send_request
from tests.running import at_work
from tests.sites import BODY, fastapi_request, outcomes, reading, starlette

pytestmark = pytest.mark.anyio


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
