"""A job in a process of its own, from submitting it to its result.

What a new Python takes is beneath all of it.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack
from typing import Any

from fastapi import FastAPI

from starlette_upload_keepalive import Handler, Upload, UploadKeepAliveMiddleware, Uploads

from . import light_handler
from .forms import noise
from .measure import MILLISECONDS, Bench, Contender, WrongResult

DATA = noise(2000)

app = FastAPI()
uploads = Uploads()
app.add_middleware(UploadKeepAliveMiddleware, uploads=uploads)


@uploads.handler(run_in="process")
def size_beside_an_app(file: Upload) -> int:
    """Count the bytes of a file."""
    return len(file.file.read())


async def run(bench: Bench) -> None:
    """Race what a process starts with."""
    in_thread = uploads.handler(name="in a thread")(light_handler.size)
    in_process = uploads.handler(name="light", run_in="process")(light_handler.size)
    async with AsyncExitStack() as running:
        await running.enter_async_context(uploads.running())
        await bench.race(
            f"One job for {len(DATA)} bytes",
            MILLISECONDS,
            [
                _python("a new Python that does nothing", ""),
                _python("a new Python that imports UploadFile", "import starlette.datastructures"),
                _job("this package, in a process", in_process),
                _job("this package, in a process that imports an app", size_beside_an_app),
                _job("this package, in a thread", in_thread),
            ],
        )


def _python(name: str, code: str) -> Contender:
    async def run() -> None:
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", code)
        if await process.wait() != 0:
            raise WrongResult(f"{name}: it has failed.")

    return Contender(name, run, check=run)


def _job(name: str, handler: Handler[Any, Any, [], int]) -> Contender:
    async def run() -> None:
        with Upload.from_bytes(DATA) as upload:
            job = await handler.submit_now(upload).wait()
        if job.result != len(DATA):
            raise WrongResult(f"{name}: {job.result}, {job.error}.")

    return Contender(name, run, check=run)
