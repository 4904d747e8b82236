"""Jobs in processes of their own, and what is left of these."""

from __future__ import annotations

import os
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from starlette_upload_keepalive import Handler, Job, Uploads
from tests.stored import make_upload
from tests.timed import register

PATIENCE = 60  # seconds, which only a failure takes

Submit = Callable[..., Job[Any]]


@pytest.fixture(autouse=True)
def no_processes() -> Iterator[None]:
    """Fail a test that leaves a child of this process behind, alive or not."""
    before = children()
    yield
    assert children() - before == set()


def children() -> set[str]:
    """The processes that this one has started, and not reaped."""
    found = set[str]()
    for path in Path("/proc/self/task").glob("*/children"):
        with suppress(FileNotFoundError):  # a thread that has ended
            found.update(path.read_text().split())
    return found


def processed(
    uploads: Uploads, function: Callable[..., Any], **options: Any
) -> Handler[Any, Any, Any, Any]:
    """Make a handler that runs in a process of its own."""
    return register(uploads, function, run_in="process", **options)


@asynccontextmanager
async def submitting(
    uploads: Uploads, function: Callable[..., Any], data: bytes = b"data", **options: Any
) -> AsyncGenerator[Submit, None]:
    """Run jobs in the block, which gets what submits to that handler."""
    handler = processed(uploads, function, **options)
    with anyio.fail_after(PATIENCE):
        async with uploads.running():
            with make_upload(uploads.storage, data) as upload:

                def submit(**arguments: Any) -> Job[Any]:
                    return handler.submit_now(upload, **arguments)

                yield submit


async def run(
    uploads: Uploads, function: Callable[..., Any], *, options: Any = None, **arguments: Any
) -> Job[Any]:
    """Run one job to its end."""
    async with submitting(uploads, function, b"data", **(options or {})) as submit:
        return await submit(**arguments).wait()


async def told(job: Job[Any]) -> list[int]:
    """Wait until a handler has told some numbers as its progress."""
    while job.progress is None:
        assert not job.done, job.error
        await anyio.to_thread.run_sync(threading.Event().wait, 0.001)
    return [int(number) for number in job.progress.message.split()]


async def gone(*pids: int) -> None:
    """Wait until processes have ended."""
    while any(map(is_alive, pids)):
        await anyio.to_thread.run_sync(threading.Event().wait, 0.001)


def is_alive(pid: int) -> bool:
    """Tell whether a process is there, and not only for its parent to ask what became of it."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def my_temporary_files(uploads: Uploads) -> list[str]:
    """What lies where the files of uploads do."""
    return os.listdir(uploads.storage.directory)
