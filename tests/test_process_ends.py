"""A process is killed when its handler is to stop, with all that it has started."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from anyio.lowlevel import checkpoint

from starlette_upload_keepalive import DirectorySpool, Job, JobState, Retry, Uploads
from starlette_upload_keepalive.events import JobCancelled, JobEvent, JobOverran, JobReleased
from starlette_upload_keepalive.processes import worker_process
from starlette_upload_keepalive.processes.worker_process import WorkerProcess
from tests import process_handlers
from tests.pages import ROOT
from tests.processing import (
    PATIENCE,
    children,
    gone,
    is_alive,
    my_temporary_files,
    no_processes,
    processed,
    run,
    submitting,
    told,
)
from tests.spooled import make_root
from tests.stored import make_upload
from tests.timed import events, uploads

__all__ = ["events", "no_processes", "uploads"]

pytestmark = pytest.mark.anyio

_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h

waits = process_handlers.tells_and_waits


async def check_gone(uploads: Uploads, pids: list[int]) -> None:
    """Nothing is left of a process, nor of those that it has started."""
    worker, child = pids
    assert str(worker) not in children()
    assert not is_alive(worker)
    with anyio.fail_after(PATIENCE):
        await gone(child)
    assert my_temporary_files(uploads) == []


async def test_cancelled(uploads: Uploads, events: list[JobEvent]) -> None:
    async with submitting(uploads, waits) as submit:
        job = submit()
        pids = await told(job)
        assert all(map(is_alive, pids))
        assert uploads.jobs.cancel(job.id)
        await job.wait()
        assert job.state is JobState.CANCELLED
        await check_gone(uploads, pids)
    assert [event.reason for event in events if isinstance(event, JobCancelled)] == ["asked"]


async def test_cancelled_before_it_has_started(uploads: Uploads) -> None:
    async with submitting(uploads, waits) as submit:
        job = submit()
        while job.state is not JobState.RUNNING:
            await checkpoint()
        uploads.jobs.cancel(job.id)
        await job.wait()
        assert (job.state, job.progress) == (JobState.CANCELLED, None)


async def test_killed_while_it_is_started() -> None:
    """Whoever cancels does not wait until there is a process."""
    process = WorkerProcess()
    process.kill()
    status = await anyio.to_thread.run_sync(
        lambda: process.run(b"", lambda _: False, fds=[], environment=os.environ)
    )
    assert status == -signal.SIGKILL
    process.kill()  # nothing, for it has ended


@pytest.fixture
def subreaper() -> Iterator[None]:
    """Be given the processes that lose their parent, as the first of a container is."""
    prctl = ctypes.CDLL(None).prctl
    assert prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    yield
    assert prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0) == 0


@pytest.mark.usefixtures("subreaper")
async def test_first_process_of_a_container(uploads: Uploads) -> None:
    """Nobody else would reap what a handler has left."""
    before = children()
    job = await run(uploads, process_handlers.leaves_grandchildren)
    assert job.error is None
    assert children() == before


async def test_no_descriptor_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is open by then is closed. The test fails by a ResourceWarning if it is not."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(24, "Too many open files")

    for function in ("os.pipe", "socket.socketpair", "subprocess.Popen"):
        with monkeypatch.context() as patched:
            patched.setattr(function, refuse)
            process = WorkerProcess()
            with pytest.raises(OSError, match="Too many open files") as failed:
                process.run(b"", lambda _: False, fds=[], environment=os.environ)
    assert str(failed.value) == (
        "[Errno 24] No process could be started for the handler: Too many open files"
    )


@pytest.mark.parametrize("lost", ["order", "lifeline"])
def test_app_was_killed_first(lost: str) -> None:
    """Before it could give an order, or before the process has asked to end with it."""
    ours, theirs = socket.socketpair()
    lifeline, held = os.pipe()
    with ours, theirs, open(lifeline), open(held, "w") as life:
        if lost == "lifeline":
            life.close()
        fds = [theirs.fileno(), lifeline]
        command = [sys.executable, "-c", worker_process._START, *map(str, [*fds, *sys.path])]
        process = subprocess.Popen(command, pass_fds=fds, cwd=ROOT, start_new_session=True)
        if lost == "order":
            ours.shutdown(socket.SHUT_WR)
        assert process.wait(PATIENCE) == 0


async def test_timeout(uploads: Uploads, events: list[JobEvent]) -> None:
    retry = Retry(2, wait_initial=0, retry_on=TimeoutError)
    async with submitting(uploads, waits, timeout=1.5, retry=retry) as submit:
        job = submit()
        pids = await told(job)
        await job.wait()
        assert (job.state, job.attempt) == (JobState.FAILED, 2)
        assert job.error == (
            "HandlerTimeout: The handler tells_and_waits took longer than its timeout of 1.5 s."
        )
        await check_gone(uploads, pids)
    assert not [event for event in events if isinstance(event, JobOverran)]


async def test_end_of_the_grace_period(events: list[JobEvent]) -> None:
    uploads = Uploads(grace_period=0, hooks=[events.append])
    async with submitting(uploads, waits) as submit:
        job = submit()
        pids = await told(job)
    assert job.state is JobState.CANCELLED
    await check_gone(uploads, pids)
    (lost,) = [event for event in events if isinstance(event, JobCancelled)]
    assert (lost.reason, lost.thread_goes_on) == ("shutdown", False)


async def test_scope_of_the_app_is_cancelled(uploads: Uploads) -> None:
    jobs, pids = list[Job[Any]](), list[int]()
    with anyio.CancelScope() as scope:
        async with submitting(uploads, waits) as submit:
            jobs.append(submit())
            pids += await told(jobs[0])
            scope.cancel()
            await anyio.sleep_forever()
    assert jobs[0].state is JobState.CANCELLED
    await check_gone(uploads, pids)


@pytest.mark.parametrize("alone", [False, True])
def test_native_cancel(uploads: Uploads, events: list[JobEvent], *, alone: bool) -> None:
    """As that of all tasks at the end of ``asyncio.run``; or of its own alone."""
    handler = processed(uploads, waits)
    jobs, pids = list[Job[Any]](), list[int]()

    async def serve() -> None:
        async with uploads.running():
            with make_upload(uploads.storage, b"data") as upload:
                jobs.append(handler.submit_now(upload))
                pids.extend(await told(jobs[0]))
                at_work.set()
                await asyncio.Event().wait()

    async def main() -> None:
        task = asyncio.create_task(serve())
        await asyncio.wait_for(at_work.wait(), PATIENCE)
        assert not task.done()
        for each in asyncio.all_tasks():
            if "Executor._run" in each.get_name():  # the first of those that are cancelled
                each.cancel()
        if alone:
            await jobs[0].wait()

    at_work = asyncio.Event()
    asyncio.run(main())
    assert jobs[0].state is JobState.CANCELLED
    # Its thread is on its own now: it waits for the process, and removes its files.
    assert jobs[0]._thread_ended is not None
    assert jobs[0]._thread_ended.wait(PATIENCE)
    anyio.run(check_gone, uploads, pids)


async def test_durable_job_is_back_in_its_spool(tmp_path: Path, events: list[JobEvent]) -> None:
    """And has used up no retry."""
    root = make_root(tmp_path)

    def made(function: Any, grace_period: float) -> tuple[Uploads, Any]:
        spool = DirectorySpool(root)
        uploads = Uploads(spool=spool, grace_period=grace_period, hooks=[events.append])
        return uploads, processed(uploads, function, name="work")

    uploads, handler = made(waits, 0)
    with anyio.fail_after(PATIENCE):
        async with uploads.running():
            with make_upload(uploads.storage, b"data") as upload:
                job = await handler.enqueue(upload)
            pids = await told(job)
        assert [type(event) for event in events][-1] is JobReleased
        assert not any(map(is_alive, pids[:1]))
        uploads, handler = made(process_handlers.tells_attempt, 30)
        async with uploads.running():
            while (found := await uploads.jobs.find(job.id)) is None or not found.done:
                await anyio.to_thread.run_sync(threading.Event().wait, 0.001)
    assert (found.state, found.result) == (JobState.SUCCEEDED, [2, "data"])


def killed_app(signal_number: int, directory: Path, *arguments: str) -> list[int]:
    """Kill an app, which leaves its files behind; return the processes that it had."""
    app = subprocess.Popen(
        [sys.executable, "-m", "tests.process_parent", *arguments],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(directory)},
    )
    with app:
        try:
            assert app.stdout is not None
            pids = [int(pid) for pid in app.stdout.readline().split()]
            assert len(pids) == sum(map(is_alive, pids)) == 2
            assert os.readlink(f"/proc/{pids[0]}/fd/0") == os.devnull  # not what the app reads
            app.send_signal(signal_number)
        except BaseException:
            app.kill()
            raise
    return pids


@pytest.mark.parametrize("function", ["tells_and_waits", "holds_the_interpreter"])
@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGTERM])
async def test_it_ends_with_the_app(signal_number: int, function: str, tmp_path: Path) -> None:
    """However that is killed, and whatever it does; with all that it has started."""
    pids = await anyio.to_thread.run_sync(killed_app, signal_number, tmp_path, function)
    with anyio.fail_after(PATIENCE):
        await gone(*pids)
