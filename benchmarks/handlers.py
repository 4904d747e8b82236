"""A small upload and one trivial handler, beside FastAPI's BackgroundTasks doing the same.

In process: raw ASGI calls, no server. The clock stops when the last file has
been handled, not when the last answer is out.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from fastapi import BackgroundTasks, FastAPI, UploadFile
from starlette.types import Message

from starlette_upload_keepalive import Upload, UploadKeepAliveMiddleware, Uploads

from .forms import Form, Part, noise
from .measure import Bench, Contender, Unit, WrongResult

CLIENTS = 8
FILE = Part("file", noise(2000), "small.bin")
WORK = f"Upload and handle {len(FILE.data)} bytes"


async def run(bench: Bench) -> None:
    """Race the apps, called by a few clients at once."""
    requests = bench.pick(100, quick=2) * CLIENTS
    for kind, apps in APPS.items():
        async with AsyncExitStack() as running:
            contenders: list[Contender] = []
            for name, make in apps.items():
                served = make()
                await running.enter_async_context(served.uploads.running())
                contenders.append(_contender(name, served, requests))
            await bench.race(
                f"{WORK}, {kind}, in process, {CLIENTS} requests at once",
                Unit("requests/s", requests, is_rate=True),
                contenders,
            )


def _contender(name: str, served: Served, requests: int) -> Contender:
    form = Form.of([FILE])
    expected = 0

    async def send(message: Message) -> None:
        if message.get("status", 202) != 202:
            raise WrongResult(f"{name}: the answer is {message['status']}.")

    async def client() -> None:
        for _ in range(requests // CLIENTS):
            await served.app(form.scope(), form.receive(), send)
            await asyncio.sleep(0)  # the next request comes with another turn of the event loop

    async def run() -> None:
        nonlocal expected
        expected += requests
        await asyncio.gather(*(client() for _ in range(CLIENTS)))
        await served.tally.reached(expected)
        served.tally.check(name, expected)

    return Contender(name, run, check=run)


class Tally:
    """Counts what handlers were given, in any thread."""

    def __init__(self) -> None:
        self.files = 0
        self.size = 0
        self._lock = threading.Lock()
        self._waiting: list[tuple[int, Callable[[], object]]] = []

    def add(self, data: bytes) -> None:
        """Count a file."""
        with self._lock:
            self.files += 1
            self.size += len(data)
            for files, tell in self._waiting:
                if self.files == files:
                    tell()

    async def reached(self, files: int) -> None:
        """Wait until that many files are counted."""
        loop, event = asyncio.get_running_loop(), asyncio.Event()
        waiting = (files, lambda: loop.call_soon_threadsafe(event.set))
        with self._lock:
            if self.files >= files:
                return
            self._waiting.append(waiting)
        await event.wait()
        with self._lock:
            self._waiting.remove(waiting)

    def check(self, name: str, files: int) -> None:
        """Raise `WrongResult` unless that many files were counted, all of them whole."""
        if (self.files, self.size) != (files, files * len(FILE.data)):
            raise WrongResult(f"{name}: {self.size} bytes in {self.files} files, not {files}.")


@dataclass
class Served:
    """An app under test.

    Attributes:
        app: Takes one file at "/", and answers 202.
        tally: What was handled of it.
        uploads: Ours; unused by the apps that do without.
    """

    app: FastAPI = field(default_factory=FastAPI)
    tally: Tally = field(default_factory=Tally)
    uploads: Uploads = field(default_factory=Uploads)


# The apps, as a user would write them


def _background_async() -> Served:
    served = Served()

    async def handle(file: UploadFile) -> None:
        served.tally.add(await file.read())

    @served.app.post("/", status_code=202)
    async def upload(file: UploadFile, background: BackgroundTasks) -> None:
        background.add_task(handle, file)

    return served


def _ours_async() -> Served:
    served = Served()

    @served.uploads.handler("file")
    async def handle(file: Upload) -> None:
        served.tally.add(await file.read())

    return _with_middleware(served)


def _background_def() -> Served:
    served = Served()

    def handle(file: UploadFile) -> None:
        served.tally.add(file.file.read())

    @served.app.post("/", status_code=202)
    async def upload(file: UploadFile, background: BackgroundTasks) -> None:
        background.add_task(handle, file)

    return served


def _ours_def() -> Served:
    served = Served()

    @served.uploads.handler("file")
    def handle(file: Upload) -> None:
        served.tally.add(file.file.read())

    return _with_middleware(served)


def _endpoint_async() -> Served:
    served = Served()

    @served.app.post("/", status_code=202)
    async def upload(file: UploadFile) -> None:
        served.tally.add(await file.read())

    return served


def _endpoint_def() -> Served:
    served = Served()

    @served.app.post("/", status_code=202)
    def upload(file: UploadFile) -> None:
        served.tally.add(file.file.read())

    return served


def _with_middleware(served: Served) -> Served:
    @served.app.post("/", status_code=202)
    async def upload(file: UploadFile) -> None: ...

    served.app.add_middleware(UploadKeepAliveMiddleware, uploads=served.uploads)
    return served


APPS: dict[str, dict[str, Callable[[], Served]]] = {
    "async def": {
        "BackgroundTasks": _background_async,
        "this package": _ours_async,
        "in the endpoint, nothing afterwards": _endpoint_async,
    },
    "def": {
        "BackgroundTasks": _background_def,
        "this package": _ours_def,
        "in the endpoint, nothing afterwards": _endpoint_def,
    },
}
