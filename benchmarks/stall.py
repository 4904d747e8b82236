"""How long others wait: the event loop's stalls while a large file is stored, and while it closes.

``python -m benchmarks.stall APP SPEED`` is a worker, which is asked over a pipe. In its
event loop are one request, and a task that wants to run each millisecond.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import NamedTuple

from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from starlette_upload_keepalive import Upload, UploadKeepAliveMiddleware, Uploads

from . import slow_disk
from .forms import MB, Form, ignore
from .measure import MILLISECONDS, Bench, Contender, WrongResult
from .ticking import Tick, quantile, run_precisely, ticking
from .worker import Worker, serve

APPS = {"Starlette": "stock", "this package": "kept"}
DISCARDING = {"this package, discarded": "discarded"}
IDLE = {"an idle event loop": "idle"}


class Stalls(NamedTuple):
    """What a request did to its event loop, in seconds.

    Attributes:
        p50: By how much each second tick came late, or less, while the file was stored.
        p99: Of a hundred ticks, all but one.
        p999: Of a thousand ticks, all but one.
        worst: Each of them.
        ending: The time from the end of the endpoint to the end of the ASGI call.
        while_closed: By how much a tick came late, at most, from the end of the endpoint until
            nothing of the file was left.
    """

    p50: float
    p99: float
    p999: float
    worst: float
    ending: float
    while_closed: float


STORING = ("p50", "p99", "p999", "worst")
CLOSING = ("p999", "worst", "ending", "while_closed")
TITLES = {
    "p50": "stall, p50",
    "p99": "stall, p99",
    "p999": "stall, p99.9",
    "worst": "stall, max",
    "ending": "the call, from the end of the endpoint on",
    "while_closed": "stall until nothing is left, max",
}


async def run(bench: Bench) -> None:
    """Store a large file on a slow disk, and one on this machine's own, to be closed there."""
    size = bench.pick(1000 * MB, quick=4 * MB)
    disk = f"a disk of {slow_disk.BYTES_PER_SECOND / MB:g} MB/s"
    if bench.slow_disk:
        disk = "a disk that is slow indeed"
    title = f"Store {size / MB:g} MB on {disk}"
    await _race(bench, title, STORING, size, {**APPS, **IDLE}, slow=True)
    await _race(bench, f"Store and close {size / MB:g} MB", CLOSING, size, {**APPS, **DISCARDING})


async def _race(
    bench: Bench,
    title: str,
    fields: Sequence[str],
    size: int,
    apps: dict[str, str],
    *,
    slow: bool = False,
) -> None:
    speed = "slow" if slow and bench.slow_disk is None else "own"
    env = {**os.environ, "TMPDIR": str(bench.slow_disk)} if slow and bench.slow_disk else None
    with ExitStack() as stack:
        contenders = [
            _contender(
                name,
                stack.enter_context(Worker("-m", "benchmarks.stall", app, speed, env=env)),
                fields,
                size,
            )
            for name, app in apps.items()
        ]
        units = [MILLISECONDS.of(TITLES[field]) for field in fields]
        await bench.race(title, units, contenders)


def _contender(name: str, worker: Worker, fields: Sequence[str], size: int) -> Contender:
    async def run() -> Sequence[float]:
        stalls = Stalls(*worker.ask(size=size))
        return [getattr(stalls, field) for field in fields]

    return Contender(name, run, check=run)


# The worker


class Endpoint:
    """Stores the file of a request.

    Args:
        discard: Whether to veto the job that is staged for it.
    """

    def __init__(self, *, discard: bool) -> None:
        self.size = 0
        self.ended = 0.0
        self._discard = discard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with Request(scope, receive).form() as form:
            file = form["file"]
            if isinstance(file, UploadFile):
                self.size = file.size or 0
            if isinstance(file, Upload) and self._discard:
                file.discard()
            self.ended = time.perf_counter()


async def measure(app: str, size: int) -> Stalls:
    """Send a file to an app, and watch the event loop."""
    uploads = Uploads()
    jobs: list[Upload] = []
    if app == "discarded":
        uploads.handler("file")(jobs.append)
    endpoint = Endpoint(discard=app == "discarded")
    served: ASGIApp = endpoint
    if app != "stock":
        served = UploadKeepAliveMiddleware(endpoint, uploads=uploads)
    form = Form.huge(size)
    next_message = form.receive()

    async def receive() -> Message:
        await asyncio.sleep(0)  # each message comes with another turn of the event loop
        return await next_message()

    async with uploads.running(), ticking() as ticks:
        await served(form.scope(), receive, ignore)
        returned = time.perf_counter()
        await asyncio.to_thread(uploads.storage.closer.drain)
    if endpoint.size != size or jobs:
        raise WrongResult(f"{app}: {endpoint.size} bytes of {size} are stored, {jobs} has run.")
    return _stalls(ticks, endpoint.ended, returned)


async def rest(seconds: float) -> Stalls:
    """Watch an event loop that does nothing else."""
    async with ticking() as ticks:
        await asyncio.sleep(seconds)
    return _stalls(ticks, ended=ticks[-1].due, returned=ticks[-1].due)


def _stalls(ticks: Sequence[Tick], ended: float, returned: float) -> Stalls:
    stored = [tick.late for tick in ticks if tick.due <= ended]
    closed = [tick.late for tick in ticks if tick.due + tick.late >= ended]
    return Stalls(
        p50=quantile(stored, 0.5),
        p99=quantile(stored, 0.99),
        p999=quantile(stored, 0.999),
        worst=quantile(stored, 1),
        ending=returned - ended,
        while_closed=quantile(closed, 1),
    )


def main(app: str, speed: str) -> None:
    """Answer questions about one app."""
    disk = slow_disk.slow_down() if speed == "slow" else None

    def answer(size: int) -> Stalls:
        if app == "idle":
            return run_precisely(lambda: rest(size / slow_disk.BYTES_PER_SECOND))
        stalls = run_precisely(lambda: measure(app, size))
        if disk is not None:
            # All but what Starlette has in memory when it moves to disk.
            if disk.written < size / 2:
                raise WrongResult(f"{app} has not written by what is slowed down.")
            disk.written = 0
        return stalls

    serve(answer)


if __name__ == "__main__":
    main(*sys.argv[1:])
