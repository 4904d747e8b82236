"""Jobs at work for tests: handlers that wait, and what is left of jobs."""

from __future__ import annotations

import queue
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.to_thread
import pytest

from starlette_upload_keepalive import Handler, Job, Upload, Uploads

AnyHandler = Handler[Any, Any, Any, Any]
PATIENCE = 20  # seconds, which only a failure takes


@asynccontextmanager
async def at_work(uploads: Uploads) -> AsyncGenerator[None, None]:
    """Run jobs in the block, and fail instead of hanging."""
    with anyio.fail_after(PATIENCE):
        async with uploads.running():
            yield


class Gate:
    """Handlers that wait, in a thread or on the event loop, until they may go on."""

    def __init__(self, uploads: Uploads, run_in: str) -> None:
        self.started: queue.SimpleQueue[int] = queue.SimpleQueue()
        self.opened = threading.Event()
        self.opened_on_loop = anyio.Event()
        self.at_once = 0
        self.most_at_once = 0

        def thread_handler(upload: Upload, number: int) -> int:
            self._start(number)
            self.opened.wait(PATIENCE)
            self.at_once -= 1
            return number

        async def loop_handler(upload: Upload, number: int) -> int:
            self._start(number)
            await self.opened_on_loop.wait()
            self.at_once -= 1
            return number

        registered: Any = thread_handler if run_in == "thread" else loop_handler
        self.handler: AnyHandler = uploads.handler(name="gate")(registered)

    def _start(self, number: int) -> None:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        self.started.put(number)

    async def starts(self, count: int) -> list[int]:
        """Wait until that many handlers have started."""
        return [await anyio.to_thread.run_sync(self._next) for _ in range(count)]

    def _next(self) -> int:
        return self.started.get(timeout=PATIENCE)

    def open(self) -> None:
        self.opened.set()
        self.opened_on_loop.set()


both_kinds = pytest.mark.parametrize("run_in", ["thread", "loop"])


def lost(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what was logged of lost jobs."""
    return [record.getMessage() for record in caplog.records if "is lost" in record.getMessage()]


def closed_event(job: Job[Any], monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Return what is set once the thread of a job has let go of its files."""
    closed = threading.Event()
    close: Callable[[Upload], None] = Upload._let_go

    def close_and_tell(upload: Upload) -> None:
        close(upload)
        if upload._view.owner_name == f"attempt 1 of the job {job.id}":
            closed.set()

    monkeypatch.setattr(Upload, "_let_go", close_and_tell)
    return closed
