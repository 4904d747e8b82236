"""One attempt at a job: calls its handler once, and tells what came of it."""

from __future__ import annotations

import math
from typing import Any

import anyio
from anyio import CancelScope
from anyio.lowlevel import checkpoint

from starlette_upload_keepalive.exceptions import HandlerTimeout
from starlette_upload_keepalive.files.threads import WorkerThreads
from starlette_upload_keepalive.files.upload import Upload, let_go_of_all

from .arguments import MAX_RESULT_SIZE, through_json
from .calling import Outcome, ends_with_thread, in_thread
from .current_stage import current_stage
from .in_process import call_in_process
from .job import Job
from .stage import Stage


class Stopped(Exception):
    """Why a handler ended early, if it was asked to and not for its timeout."""


async def attempt(
    job: Job[Any], stage: Stage, scope: CancelScope, threads: WorkerThreads
) -> Outcome:
    """Call a job's handler with uploads of its own.

    Args:
        job: The job.
        stage: Where the jobs wait that its handler submits; they are accepted if it returns.
        scope: Cancelled by whoever ends the attempt early.
        threads: Where plain functions run.

    Cancellation: a thread is left behind, and lets go of the uploads when it returns.
    """
    begun = job._begin()
    current_stage.set(stage)
    try:
        with begun:
            result = await _call(job, stage, scope, threads)
    except BaseException as error:
        if await _task_is_cancelled(error, job):
            raise
        left_behind = job._work.run_in == "thread" and scope.cancelled_caught
        return Outcome(error=error, thread_goes_on=left_behind)
    stage.decide(200)
    return Outcome(result)


async def _call(job: Job[Any], stage: Stage, scope: CancelScope, threads: WorkerThreads) -> Any:
    """Call the handler. Raises what it raised, or that it has stopped."""
    with scope:
        return await _CALLS[job._work.run_in](job, job._open_uploads(stage), scope, threads)
    raise _why_stopped(job)


async def _call_on_loop(
    job: Job[Any], uploads: list[Upload], scope: CancelScope, threads: WorkerThreads
) -> Any:
    del threads
    timeout = job._work.options.timeout
    try:
        if timeout is not None:
            scope.deadline = anyio.current_time() + timeout
        value = await job._work.invoke(job, uploads)
    finally:
        scope.deadline = math.inf  # what follows is not the handler's
        let_go_of_all(uploads)
    return _checked(job, value)


async def _call_in_thread(
    job: Job[Any], uploads: list[Upload], scope: CancelScope, threads: WorkerThreads
) -> Any:
    del scope  # a thread can't be cancelled, only asked and left behind
    _, let_go = ends_with_thread(job, uploads)
    try:
        outcome = await in_thread(
            lambda: _checked(job, job._work.invoke(job, uploads)), threads, let_go=let_go
        )
    except anyio.get_cancelled_exc_class():
        job._stop("shutdown")  # perhaps natively, so that nobody has asked it yet
        raise
    try:
        if job._stop_seen:
            raise _why_stopped(job) from outcome.error
        return outcome.value()
    finally:
        del outcome  # as in there


_CALLS = {"thread": _call_in_thread, "loop": _call_on_loop, "process": call_in_process}


def _checked(job: Job[Any], value: Any) -> Any:
    return through_json(value, f"The result of {job.handler}", MAX_RESULT_SIZE)


def _why_stopped(job: Job[Any]) -> Exception:
    if job._stop_reason in (None, "timeout"):
        return HandlerTimeout(
            f"The handler {job.handler} took longer than its timeout of "
            f"{job._work.options.timeout:g} s."
        )
    return Stopped(f"The handler {job.handler} was asked to stop.")


async def _task_is_cancelled(error: BaseException, job: Job[Any]) -> bool:
    if not _is_cancel(error) or task_is_cancelled(error, job):
        return _is_cancel(error)
    # At its end `asyncio.run` cancels each task by itself, in any order: who tells the jobs of it
    # may come after them.
    with CancelScope(shield=True):
        await checkpoint()
    return task_is_cancelled(error, job)


def _is_cancel(error: BaseException) -> bool:
    # By its type: what the handler has raised may raise when it is asked for its class.
    return issubclass(type(error), anyio.get_cancelled_exc_class())


def task_is_cancelled(error: BaseException, job: Job[Any]) -> bool:
    """Tell what cancels this task from an error that its handler has raised."""
    if not _is_cancel(error):
        return False
    # A native cancel has no deadline.
    return job._stop_reason == "shutdown" or anyio.current_effective_deadline() == -math.inf
