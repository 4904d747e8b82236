"""`uploads.stats()` tells how much is going on."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from starlette_upload_keepalive import Job, Upload, Uploads
from tests.clock import Clock, anyio_backend, clock
from tests.running import Gate
from tests.stored import make_upload
from tests.timed import at_work, events, until, uploads

__all__ = ["anyio_backend", "clock", "events", "uploads"]

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("first", ["thread", "loop"])
async def test_the_oldest_that_waits_for_a_thread_or_a_task(
    uploads: Uploads, clock: Clock, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    """The time is that of the system, which may be asked from any thread."""
    now = 1000.0
    gates = {"thread": Gate(uploads, "thread")}

    @uploads.handler(max_concurrency=1)
    async def sleep(upload: Upload) -> None:
        await anyio.sleep_forever()

    submits: dict[str, Callable[[Upload], Job[Any]]] = {
        "thread": lambda upload: gates["thread"].handler.submit_now(upload, 0),
        "loop": sleep.submit_now,
    }
    monkeypatch.setattr(time, "monotonic", lambda: now)
    async with at_work(uploads) as upload:
        assert uploads.stats().oldest_waiting_seconds is None
        jobs = [submits["thread"](upload) for _ in range(8)] + [submits["loop"](upload)]
        await clock.settle()
        assert uploads.stats().oldest_waiting_seconds is None
        assert (uploads.stats().busy_threads, uploads.stats().busy_tasks) == (8, 1)
        for run_in in sorted(submits, reverse=first == "thread"):
            now += 5
            jobs.append(submits[run_in](upload))
        now += 3
        assert uploads.stats().oldest_waiting_seconds == 8
        uploads.jobs.cancel(jobs[-2].id)
        assert uploads.stats().oldest_waiting_seconds == 3
        monkeypatch.undo()
        gates["thread"].open()
        for job in jobs:
            uploads.jobs.cancel(job.id)
        await until(clock, lambda: all(job.done for job in jobs))


async def test_bytes_in_memory_and_on_disk() -> None:
    uploads = Uploads(memory_max_size=0, hooks=[])
    with make_upload(uploads.storage, b"12345"):
        stats = uploads.stats()
        assert (stats.open_uploads, stats.memory_bytes, stats.disk_bytes) == (1, 0, 5)
    uploads.storage.closer.drain()
    uploads = Uploads(hooks=[])
    with make_upload(uploads.storage, b"123"):
        stats = uploads.stats()
        assert (stats.open_uploads, stats.memory_bytes, stats.disk_bytes) == (1, 3, 0)
