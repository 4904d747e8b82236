"""Jobs of a directory spool in processes of their own: what is counted, and what stays."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from starlette_upload_keepalive import JobState, Retry
from tests import process_handlers
from tests.processing import PATIENCE, gone, no_processes, processed
from tests.spooled import durable, enqueue, entries, files_left, make_root, names
from tests.stored import make_upload
from tests.test_process_ends import killed_app

__all__ = ["no_processes"]

pytestmark = pytest.mark.anyio


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_root(tmp_path)


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (process_handlers.segfaults, {}),
        (process_handlers.exits, {"status": 9}),
        (process_handlers.kills_itself, {"signal_number": 9}),
    ],
)
async def test_crash_of_a_worker_is_a_failure_and_no_crash(
    root: Path, function: Any, arguments: Any
) -> None:
    """It is tried as often as ``retry=`` says, and not given up as what has ended the app."""
    uploads = durable(root)
    handler = processed(uploads, function, retry=Retry(4, wait_initial=0), on_crash="fail")
    with anyio.fail_after(PATIENCE):
        async with uploads.running():
            job = await (await enqueue(handler, **arguments)).wait()
    assert job.state is JobState.FAILED
    assert job.error is not None
    assert job.error.startswith("HandlerCrashed: ")
    (dead,) = entries(root, "dead")
    standing = dead.standing
    assert (standing.attempts, standing.failures, standing.crashes) == (4, 3, 0)
    assert (root / "dead" / dead.name / "0").read_bytes() == b"data"


async def test_success_after_a_crash(root: Path) -> None:
    uploads = durable(root)
    handler = processed(uploads, process_handlers.succeeds_next, retry=Retry(2, wait_initial=0))
    with anyio.fail_after(PATIENCE):
        async with uploads.running():
            job = await (await enqueue(handler)).wait()
    assert (job.state, job.result) == (JobState.SUCCEEDED, 2)
    (done,) = entries(root, "done")
    assert (done.standing.attempts, done.standing.crashes) == (2, 0)
    assert files_left(root) == []


async def test_job_cut_off_by_a_shutdown_loses_no_try(root: Path) -> None:
    uploads = durable(root, grace_period=0)
    handler = processed(uploads, process_handlers.tells_and_waits)
    with anyio.fail_after(PATIENCE):
        async with uploads.running():
            job = await enqueue(handler)
            while job.progress is None:
                await anyio.to_thread.run_sync(threading.Event().wait, 0.001)
    (back,) = entries(root, "ready")
    standing = back.standing
    assert (standing.attempts, standing.failures, standing.crashes) == (1, 0, 0)
    assert files_left(root) == [f"ready/{back.name}/0", f"ready/{back.name}/job.json"]


@pytest.mark.parametrize("function", ["tells_and_waits", "holds_the_interpreter"])
async def test_app_is_killed(function: str, root: Path, tmp_path: Path) -> None:
    """That counts as a crash of the job; whoever takes it over finds nothing else in its way."""
    pids = await anyio.to_thread.run_sync(killed_app, 9, tmp_path, function, str(root))
    left = [name for name in names(root, "claimed") if name.startswith("upload-worker-")]
    assert len(left) == 1  # what it has left behind is swept below
    with anyio.fail_after(PATIENCE):
        await gone(*pids)
        uploads = durable(root)
        processed(uploads, process_handlers.tells_attempt, name="work")
        async with uploads.running():
            while not names(root, "done"):
                await anyio.to_thread.run_sync(threading.Event().wait, 0.001)
    (done,) = entries(root, "done")
    standing = done.standing
    assert (standing.attempts, standing.failures, standing.crashes) == (2, 0, 1)
    assert names(root, "claimed") == names(root, "owners") == names(root, "trash") == []
    assert files_left(root) == []


async def test_worker_gets_nothing_that_is_open_in_the_app(root: Path) -> None:
    """No socket of it, no lock of its spool, no file of another upload; even if it lets others."""
    uploads = durable(root, memory_max_size=0)
    handler = processed(uploads, process_handlers.descriptors)
    with anyio.fail_after(PATIENCE), socket.socket() as listening:
        os.set_inheritable(listening.fileno(), True)
        async with uploads.running():
            with (
                make_upload(uploads.storage, b"of another") as other,
                make_upload(uploads.storage, b"its own") as upload,
            ):
                assert not other._view.blob.in_memory
                job = await (await handler.enqueue(upload)).wait()
    opened: Any = job.result
    assert opened.pop("0") == os.devnull
    assert {opened.pop(fd) for fd in ("1", "2")} == {
        os.readlink(f"/proc/self/fd/{fd}") for fd in (1, 2)
    }
    # What is left is the upload's file, and its ends of what it talks to the app by.
    file, lifeline, channel = sorted(opened.values())
    assert file.startswith(f"{root}/claimed/")
    assert [lifeline.partition(":")[0], channel.partition(":")[0]] == ["pipe", "socket"]
