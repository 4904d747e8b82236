"""The app that real servers serve in the tests of handlers in processes of their own."""

from __future__ import annotations

import os
from typing import Any

from fastapi import FastAPI

from starlette_upload_keepalive import DirectorySpool, Upload, UploadKeepAliveMiddleware, Uploads
from tests import process_handlers
from tests.processing import processed

SPOOL = os.environ.get("SERVER_APP_SPOOL")
uploads = Uploads(grace_period=0.2, spool=DirectorySpool(SPOOL) if SPOOL else None)
handlers = {
    name: processed(uploads, getattr(process_handlers, name))
    for name in ("tells_attempt", "segfaults", "descriptors", "tells_and_waits")
}
app = FastAPI()


@app.get("/state")
async def ready() -> None:
    pass


@app.post("/{handler}", status_code=202)
async def submit(handler: str, photo: Upload) -> str:
    return handlers[handler].submit(photo).id


@app.get("/jobs/{job_id}")
async def show(job_id: str) -> dict[str, Any]:
    job = uploads.jobs.get(job_id)
    assert job is not None
    progress = None if job.progress is None else job.progress.message
    return {
        "state": job.state.value,
        "result": job.result,
        "error": job.error,
        "progress": progress,
    }


app.add_middleware(UploadKeepAliveMiddleware, uploads=uploads)
