"""Calls a handler's ``on_success`` or ``on_error``, once its job is done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from anyio import CancelScope

from starlette_upload_keepalive.events import CallbackFailed
from starlette_upload_keepalive.files.threads import WorkerThreads

from .attempt import Stopped, task_is_cancelled
from .calling import in_thread
from .job import Job
from .job_state import JobState
from .signature import runs_in

OnSuccess = Callable[[Job[Any]], object]
OnError = Callable[[Job[Any], BaseException], object]


@dataclass(frozen=True)
class Callback:
    """What is to be called for what became of a job.

    Attributes:
        name: Which of the two.
        call: Calls it.
    """

    name: Literal["on_success", "on_error"]
    call: Callable[[], object]


def callback_of(job: Job[Any], error: BaseException | None) -> Callback | None:
    """Return what the handler was registered with for what became of a job, if anything.

    Args:
        job: The job, which is done.
        error: What the handler raised, if it did.
    """
    options = job._work.options
    if job.state is JobState.SUCCEEDED and options.on_success is not None:
        return Callback("on_success", partial(options.on_success, job))
    if job.state is JobState.FAILED and options.on_error is not None and error is not None:
        return Callback("on_error", partial(options.on_error, job, error))
    return None


async def call_back(
    job: Job[Any], callback: Callback, scope: CancelScope, threads: WorkerThreads
) -> None:
    """Call it. What it raises is told to the hooks, and changes nothing for the job.

    Args:
        job: The job.
        callback: What to call.
        scope: Cancelled by whoever ends this early.
        threads: Where plain functions run.

    Cancellation: a thread is left behind.
    """
    name = callback.name
    try:
        with scope:
            await _call(callback.call, threads)
    except BaseException as raised:
        if task_is_cancelled(raised, job):
            raise
        job._tell(CallbackFailed, callback=name, error=raised)
    if scope.cancelled_caught:
        cut_off = Stopped(f"The app was shut down before {name} had ended.")
        job._tell(CallbackFailed, callback=name, error=cut_off)


async def _call(call: Callable[[], Any], threads: WorkerThreads) -> None:
    if runs_in(call) == "loop":
        await call()
    else:
        (await in_thread(call, threads)).value()
