"""The apps that real servers serve in the tests. They record in a file what happens in them."""

from __future__ import annotations

import gc
import hashlib
import json
import logging
import os
import re
import resource
import socket
import sqlite3
import sys
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qs

import anyio
from anyio.to_thread import current_default_thread_limiter
from fastapi import BackgroundTasks, Depends, FastAPI, Request, Response, UploadFile
from fastapi.responses import FileResponse, StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from starlette_upload_keepalive import (
    DirectorySpool,
    JobContext,
    Limits,
    Upload,
    UploadKeepAliveMiddleware,
    Uploads,
)
from tests.leak_checks import busy_threads, open_descriptors

DIRECTORY = Path(os.environ["SERVER_APP_DIRECTORY"])
DATABASE = DIRECTORY / "database"
HOST = "127.0.0.1"

logging.basicConfig(level=logging.INFO, stream=sys.stderr)
SPOOL = os.environ.get("SERVER_APP_SPOOL")
uploads = Uploads(
    directory=os.environ.get("SERVER_APP_UPLOADS"),
    grace_period=float(os.environ.get("SERVER_APP_GRACE_PERIOD", "30")),
    limits=Limits(**json.loads(os.environ.get("SERVER_APP_LIMITS", "{}"))),
    spool=DirectorySpool(SPOOL) if SPOOL else None,
)


def record(what: str, tag: str | None, **details: Any) -> None:
    """Write down what happened, to which upload, and in which process."""
    line = json.dumps({"what": what, "tag": tag, "pid": os.getpid(), **details}) + "\n"
    with (DIRECTORY / "records").open("a") as file:
        file.write(line)


def pass_gate(port: int, give_up: Callable[[], bool] = lambda: False) -> None:
    """Wait until a `tests.servers.Gate` opens."""
    with socket.create_connection((HOST, port)) as gate:
        gate.settimeout(0.01)
        while not give_up():
            with suppress(TimeoutError):
                gate.recv(1)
                return


async def pass_gate_async(port: int) -> None:
    """Wait until a `tests.servers.Gate` opens."""
    async with await anyio.connect_tcp(HOST, port) as gate:
        with suppress(anyio.EndOfStream):
            await gate.receive()


# Handlers that run by themselves


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@uploads.handler("photo")
def read_in_thread(photo: Upload) -> None:
    record("job", photo.filename, handler="read_in_thread", sha256=digest(photo.file.read()))


@uploads.handler("photo")
async def read_on_loop(photo: Upload) -> None:
    record("job", photo.filename, handler="read_on_loop", sha256=digest(await photo.read()))


@uploads.handler("photo", path="/orders")
def look_up_order(photo: Upload) -> None:
    with closing(sqlite3.connect(DATABASE)) as database:
        rows = database.execute("SELECT * FROM orders WHERE tag = ?", [photo.filename]).fetchall()
    record("order", photo.filename, rows=len(rows))


# Handlers that are submitted to


@uploads.handler()
def work_in_thread(photo: Upload, job: JobContext, *, gate: int) -> None:
    pass_gate(gate, give_up=lambda: job.cancelled)
    record("asked" if job.cancelled else "worked", photo.filename, pool=app.state.pool)


@uploads.handler()
def work_stubbornly(photo: Upload, *, gate: int) -> None:
    pass_gate(gate)
    record("returned", photo.filename)


@uploads.handler()
async def work_on_loop(photo: Upload, *, gate: int) -> None:
    try:
        await pass_gate_async(gate)
    except anyio.get_cancelled_exc_class():
        record("cancelled", photo.filename, pool=app.state.pool)
        raise
    record("worked", photo.filename, pool=app.state.pool)


# Endpoints


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
    """Open what handlers need, for as long as the app runs."""
    with closing(sqlite3.connect(DATABASE)) as database:
        database.execute("CREATE TABLE IF NOT EXISTS orders (tag TEXT)")
    app.state.pool = "open"
    yield
    app.state.pool = "closed"
    if gate := os.environ.get("SERVER_APP_GATE_AT_END"):
        await pass_gate_async(int(gate))
    record("pool closed", None)


app = FastAPI(lifespan=lifespan)
app.state.pool = "never opened"


@app.post("/status/{status}")
async def answer_with(status: int, photo: UploadFile, response: Response) -> None:
    response.status_code = status


@app.post("/size")
async def answer_with_size(file: UploadFile) -> int | None:
    """Take a file of which no handler knows."""
    return file.size


@app.post("/raise")
async def raise_error(photo: UploadFile) -> None:
    raise RuntimeError("as the test wants it")


@app.post("/discard")
async def discard(photo: Upload) -> None:
    photo.discard()


@app.post("/file")
async def answer_with_file(photo: UploadFile) -> FileResponse:
    return FileResponse(__file__)


@app.post("/stream")
async def answer_with_stream(photo: UploadFile, gate: int | None = None) -> StreamingResponse:
    async def stream() -> AsyncIterator[bytes]:
        yield b"first"
        if gate is not None:
            await pass_gate_async(gate)
        yield b"second"

    return StreamingResponse(stream())


@app.post("/broken-stream")
async def answer_with_broken_stream(photo: UploadFile) -> StreamingResponse:
    async def stream() -> AsyncIterator[bytes]:
        yield b"first"
        raise RuntimeError("as the test wants it")

    return StreamingResponse(stream())


@app.post("/background")
async def answer_first(photo: UploadFile, background: BackgroundTasks, gate: int) -> None:
    background.add_task(pass_gate_async, gate)


@app.post("/left")
async def answer_to_nobody(request: Request, photo: UploadFile, gate: int) -> None:
    """Answer once the server knows that the client has gone."""
    await pass_gate_async(gate)
    while (await request.receive())["type"] != "http.disconnect":
        pass
    record("client gone", photo.filename)


@app.post("/work", status_code=202)
async def work(photo: Upload, gate: int) -> list[str]:
    return [
        work_in_thread.submit(photo, gate=gate).id,
        work_on_loop.submit(photo, gate=gate).id,
    ]


@app.post("/stubborn-work", status_code=202)
async def stubborn_work(photo: Upload, gate: int) -> list[str]:
    return [work_stubbornly.submit(photo, gate=gate).id]


async def transaction(gate: int) -> AsyncGenerator[sqlite3.Connection]:
    with closing(sqlite3.connect(DATABASE)) as database:
        yield database
        await pass_gate_async(gate)
        database.commit()


@app.post("/orders", status_code=202)
async def order(
    photo: UploadFile, database: Annotated[sqlite3.Connection, Depends(transaction)]
) -> None:
    database.execute("INSERT INTO orders VALUES (?)", [photo.filename])


@app.get("/asleep")
def sleep(gate: int) -> None:
    pass_gate(gate)


@app.get("/jobs")
async def jobs(tag: str) -> dict[str, str]:
    """The state of each job of one upload, by handler."""
    return {job.handler: job.state.value for job in uploads.jobs if tag in job.filenames}


@app.get("/state")
async def state() -> dict[str, Any]:
    """What is open. Equal to what it was before, if all of a request is gone."""
    gc.collect()
    descriptors = Counter(re.sub(r"\d+", "N", what) for _, what in open_descriptors())
    for of_the_server in ["socket:[N]", "/dev/null"]:  # it opens and closes them as it likes
        descriptors.pop(of_the_server, None)
    threads = Counter(thread.name for thread in busy_threads())
    threads.pop("AnyIO worker thread", None)  # kept for the next call; those at work are:
    ours = [each.limiter() for each in [uploads.storage.threads, uploads._threads]]
    at_work = [limiter for limiter in [current_default_thread_limiter(), *ours] if limiter]
    return {
        "descriptors": descriptors,
        "threads": threads,
        "threads at work": sum(limiter.borrowed_tokens for limiter in at_work),
        "temporary files": sorted(os.listdir(DIRECTORY / "temporary")),
        "open blobs": uploads.stats().open_uploads,
        "memory": uploads.stats().memory_bytes,
    }


@app.get("/process")
async def process() -> int:
    """The process that answers."""
    return os.getpid()


@app.get("/peak")
async def peak() -> int:
    """The most bytes of memory that the process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


app.add_middleware(UploadKeepAliveMiddleware, uploads=uploads)


class Recorder:
    """Records when the request of an upload begins and ends, and when the shutdown begins."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def receive_recording() -> Message:
            message = await receive()
            if message["type"] == "lifespan.shutdown":
                record("shutdown", None)
            return message

        status = None

        async def send_recording(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        if scope.get("method") != "POST":
            await self.app(scope, receive_recording, send)
            return
        tag = parse_qs(scope["query_string"].decode()).get("tag", [None])[0]
        record("begin", tag)
        try:
            await self.app(scope, receive, send_recording)
        finally:
            record("end", tag, status=status)


recorded = Recorder(app)


# The app with nothing but the middleware line


alone = FastAPI()


@alone.get("/state")
async def ready() -> None:
    pass


@alone.post("/background")
async def read_in_background(photo: UploadFile, background: BackgroundTasks) -> None:
    async def read() -> None:
        record("background", photo.filename, sha256=digest(await photo.read()))

    def read_again() -> None:
        photo.file.seek(0)
        record("background", photo.filename, sha256=digest(photo.file.read()))

    background.add_task(read)
    background.add_task(read_again)


alone.add_middleware(UploadKeepAliveMiddleware)
