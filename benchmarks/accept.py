"""A small upload until its answer, when the file and its job are safe on the disk.

Beside what a user would do instead: save the file and hand its path to Celery, with a Redis
that syncs each command, or to huey on SQLite. And beside the disk itself.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio.to_thread
from anyio import CapacityLimiter
from fastapi import FastAPI, UploadFile
from starlette.types import Message

from starlette_upload_keepalive import (
    DirectorySpool,
    Upload,
    UploadKeepAliveMiddleware,
    Uploads,
)

from .forms import Form, Part, noise
from .measure import Bench, Contender, Unit, WrongResult

if TYPE_CHECKING:
    from collections.abc import Sequence

FILE = Part("file", noise(2000), "small.bin")
CLIENTS = (1, 64)

Post = Callable[[], Awaitable[None]]


async def run(bench: Bench) -> None:
    """Race them, called by one client and by many at once."""
    for clients in CLIENTS:
        async with AsyncExitStack() as running:
            folder = Path(running.enter_context(tempfile.TemporaryDirectory()))
            contenders: list[Contender] = []
            for name, make in CONTENDERS.items():
                place = folder / secrets.token_hex(4)
                place.mkdir(mode=0o700)
                post = await running.enter_async_context(make(place))
                if post is not None:
                    requests = bench.pick(200, quick=1) * max(1, clients // 8)
                    contenders.append(_contender(name, post, clients, requests))
            who = "one client" if clients == 1 else f"{clients} clients at once"
            await bench.race(
                f"Accept an upload of {len(FILE.data)} bytes with one job, {who}",
                [
                    Unit("requests/s", 1, is_rate=True),
                    Unit("ms", 1e3, is_rate=False, what="until the answer"),
                ],
                contenders,
            )


def _contender(name: str, post: Post, clients: int, requests: int) -> Contender:
    """Have clients send requests; a run returns the seconds of one, by all and by each."""

    async def client(latencies: list[float]) -> None:
        for _ in range(max(1, requests // clients)):
            start = time.perf_counter()
            await post()
            latencies.append(time.perf_counter() - start)

    async def run() -> Sequence[float]:
        latencies: list[float] = []
        start = time.perf_counter()
        await asyncio.gather(*(client(latencies) for _ in range(clients)))
        seconds = time.perf_counter() - start
        return seconds / len(latencies), sorted(latencies)[len(latencies) // 2]

    return Contender(name, run, check=run)


def _posting(app: Any, name: str) -> Post:
    form = Form.of([FILE])

    async def send(message: Message) -> None:
        if message.get("status", 202) != 202:
            raise WrongResult(f"{name}: the answer is {message['status']}.")

    async def post() -> None:
        await app(form.scope(), form.receive(), send)

    return post


# Ours


@asynccontextmanager
async def _ours(uploads: Uploads) -> AsyncGenerator[Post, None]:
    app = FastAPI()

    @uploads.handler("file")
    async def handle(file: Upload) -> None: ...

    @app.post("/", status_code=202)
    async def upload(file: UploadFile) -> None: ...

    app.add_middleware(UploadKeepAliveMiddleware, uploads=uploads)
    async with uploads.running():
        yield _posting(app, "this package")


def _in_memory(place: Path) -> Any:
    del place
    return _ours(Uploads())


def _directory_spool(place: Path) -> Any:
    return _ours(Uploads(spool=DirectorySpool(place)))


# What a user would do instead


@asynccontextmanager
async def _saving(
    place: Path, hand_over: Callable[[str], object], name: str
) -> AsyncGenerator[Post, None]:
    """Save the file, synced, and hand its path to a queue."""
    app = FastAPI()

    @app.post("/", status_code=202)
    def upload(file: UploadFile) -> None:
        path = place / secrets.token_hex(16)
        with path.open("wb") as target:
            shutil.copyfileobj(file.file, target)
            target.flush()
            os.fsync(target.fileno())
        _sync_directory(place)
        hand_over(str(path))

    yield _posting(app, name)


@asynccontextmanager
async def _celery(place: Path) -> AsyncGenerator[Post | None, None]:
    program = shutil.which("redis-server")
    if program is None:
        print("\nCelery is left out: there is no redis-server.")
        yield None
        return
    celery: Any = importlib.import_module("celery")
    with _redis(program) as socket:
        queue = celery.Celery(broker=f"redis+socket://{socket}")
        task = queue.task(name="handle")(_handle)
        async with _saving(place, task.delay, "Celery") as post:
            yield post
        queue.close()
        importlib.import_module("kombu.pools").reset()  # its connections outlive it otherwise


@contextmanager
def _redis(program: str) -> Generator[str, None, None]:
    """Run a Redis that syncs each command before it answers. The path of its socket is short."""
    with tempfile.TemporaryDirectory(prefix="redis-") as folder:
        options = ["--port", "0", "--unixsocket", f"{folder}/socket", "--dir", folder]
        options += ["--appendonly", "yes", "--appendfsync", "always", "--save", ""]
        with subprocess.Popen([program, *options], stdout=subprocess.PIPE, text=True) as server:
            try:
                any("ready to accept" in line.lower() for line in server.stdout or [])
                yield f"{folder}/socket"
            finally:
                server.terminate()


@asynccontextmanager
async def _huey(place: Path) -> AsyncGenerator[Post, None]:
    huey: Any = importlib.import_module("huey")
    queue = huey.SqliteHuey(filename=str(place / "huey.db"), fsync=True)
    task = queue.task()(_handle)
    async with _saving(place, task, "huey") as post:
        yield post
    queue.storage.close()


def _handle(path: str) -> None:
    """Nobody runs it: only its hand-over is measured."""


# The disk itself


@asynccontextmanager
async def _bare_fsync(place: Path) -> AsyncGenerator[Post, None]:
    """Write a file and sync it and its directory, in a thread: the least that any could do."""
    limiter = CapacityLimiter(64)

    async def post() -> None:
        await anyio.to_thread.run_sync(partial(_write_synced, place), limiter=limiter)

    yield post


def _write_synced(place: Path) -> None:
    with (place / secrets.token_hex(16)).open("xb") as file:
        file.write(FILE.data)
        file.flush()
        os.fsync(file.fileno())
    _sync_directory(place)


def _sync_directory(place: Path) -> None:
    fd = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


CONTENDERS: dict[str, Callable[[Path], Any]] = {
    "this package, directory spool": _directory_spool,
    "this package, in memory": _in_memory,
    "saved, path to Celery, Redis syncs always": _celery,
    "saved, path to huey on SQLite": _huey,
    "one file and its directory synced": _bare_fsync,
}
