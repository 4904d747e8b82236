"""Jobs of one app, by a clock that a test advances."""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.to_thread
import pytest

from starlette_upload_keepalive import Handler, Job, Upload, Uploads
from starlette_upload_keepalive.events import JobEvent
from tests.clock import Clock
from tests.stored import make_upload

Submit = Callable[..., Job[Any]]


@pytest.fixture
def events() -> list[JobEvent]:
    """What hooks are told."""
    return []


@pytest.fixture
def uploads(events: list[JobEvent]) -> Generator[Uploads, None, None]:
    """The uploads of an app, which are all closed in the end."""
    made = Uploads(hooks=[events.append])
    yield made
    made.storage.closer.drain()
    stats = made.stats()
    assert (stats.open_uploads, stats.memory_bytes, stats.disk_bytes) == (0, 0, 0)
    assert (stats.busy_threads, stats.busy_tasks) == (0, 0)


@asynccontextmanager
async def at_work(uploads: Uploads, data: bytes = b"data") -> AsyncGenerator[Upload, None]:
    """Run jobs in the block, which gets an upload to submit."""
    async with uploads.running():
        with make_upload(uploads.storage, data) as upload:
            yield upload


def register(
    uploads: Uploads, function: Callable[..., Any], **options: Any
) -> Handler[Any, Any, Any, Any]:
    """Make a handler of a function of any kind."""
    decorate: Callable[..., Callable[[Any], Handler[Any, Any, Any, Any]]] = uploads.handler
    return decorate(**options)(function)


@asynccontextmanager
async def submitting(uploads: Uploads, **options: Any) -> AsyncGenerator[Submit, None]:
    """Run jobs in the block, which gets what submits to a handler of these options."""
    async with at_work(uploads) as upload:

        def submit(function: Callable[..., Any]) -> Job[Any]:
            handler = register(uploads, function, **options)
            return handler.submit_now(upload)

        yield submit


async def until(clock: Clock, is_so: Callable[[], bool]) -> None:
    """Wait until something is so that threads bring about."""
    for _ in range(20_000):
        await clock.settle()
        if is_so():
            return
        await anyio.to_thread.run_sync(threading.Event().wait, 0.001)
    raise AssertionError("It did not happen.")
