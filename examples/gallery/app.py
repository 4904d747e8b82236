"""The app: two handlers, an endpoint that answers at once, and one to ask how the jobs stand."""

import hashlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Query
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles
from PIL import Image, ImageOps, UnidentifiedImageError
from pydantic import JsonValue

from examples.gallery.schemas import JobStatus, Receipt
from starlette_upload_keepalive import (
    Job,
    JobContext,
    JobState,
    Upload,
    UploadKeepAliveMiddleware,
    Uploads,
)

uploads = Uploads()


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
    """Keep the thumbnails for as long as the app runs; the last handlers end before this does."""
    with TemporaryDirectory(prefix="gallery-") as directory:
        app.state.thumbnails = Path(directory)
        yield


app = FastAPI(title="Gallery", lifespan=lifespan)


def thumbnail_path(job_id: str) -> Path:
    """Where the thumbnail of a job is kept: a name of our own, nothing of the client's."""
    directory: Path = app.state.thumbnails
    return directory / f"{job_id}.webp"


@uploads.handler()
def thumbnail(photo: Upload, job: JobContext) -> dict[str, JsonValue]:
    """Make a picture of at most 256 pixels a side. A plain function runs in a worker thread."""
    try:
        image = Image.open(photo.file)
    except UnidentifiedImageError:
        raise ValueError("not an image that Pillow can read") from None
    with image:
        ImageOps.exif_transpose(image, in_place=True)
        width, height = image.size
        image.thumbnail((256, 256))
        image.save(thumbnail_path(job.id))
    url = app.url_path_for("read_thumbnail", job_id=job.id)
    return {"width": width, "height": height, "thumbnail": url}


@uploads.handler()
async def checksum(file: Upload, job: JobContext) -> dict[str, JsonValue]:
    """Hash any file. A coroutine function runs on the event loop, so it takes small bites."""
    digest, size = hashlib.sha256(), 0
    async for chunk in file.chunks():
        digest.update(chunk)
        size += len(chunk)
        await job.progress(size / (file.size or size))
    return {"sha256": digest.hexdigest(), "size": size}


@app.post("/uploads", status_code=202)
async def receive(files: list[Upload]) -> list[Receipt]:
    """Take the files and answer at once: nothing here waits for a handler."""
    return [Receipt(filename=file.filename, size=file.size, jobs=submit(file)) for file in files]


def submit(file: Upload) -> list[JobStatus]:
    """Give a file to every handler that can do something with it."""
    jobs: list[Job[Any]] = [checksum.submit(file)]
    if (file.content_type or "").startswith("image/"):
        jobs.append(thumbnail.submit(file))
    return [JobStatus.of(job) for job in jobs]


@app.get("/jobs")
async def read_jobs(ids: Annotated[list[str] | None, Query(alias="id")] = None) -> list[JobStatus]:
    """How the jobs named stand; all that are remembered, oldest first, if none is named."""
    jobs = uploads.jobs if ids is None else map(uploads.jobs.get, ids)
    return [JobStatus.of(job) for job in jobs if job]


@app.get("/thumbnails/{job_id}")
async def read_thumbnail(job_id: str) -> FileResponse:
    """The picture that a job has made. Only ids that we gave out ourselves lead to a path."""
    job = uploads.jobs.get(job_id)
    if job is None or job.handler != thumbnail.name or job.state != JobState.SUCCEEDED:
        raise HTTPException(404)
    return FileResponse(
        thumbnail_path(job.id),
        media_type="image/webp",
        headers={"X-Content-Type-Options": "nosniff"},
    )


app.mount("/", StaticFiles(directory=Path(__file__).parent / "page", html=True))

app.add_middleware(UploadKeepAliveMiddleware, uploads=uploads)  # last, so that it is outermost
