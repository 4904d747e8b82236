"""For tests: run an app's jobs to their end, find uploads left open, check a spool."""

from __future__ import annotations

from functools import partial
from typing import Any

import anyio

from .exceptions import NotRunning, WouldDeadlock
from .files.owner import REQUEST
from .files.storage import OpenBlob
from .jobs.current_stage import current_stage
from .jobs.job import Job
from .jobs.job_state import JobState
from .jobs.runner import Runner
from .spool_contract.checking import check_spool
from .uploads import Uploads

__all__ = ["assert_all_closed", "check_spool", "finish_jobs", "finish_jobs_sync"]


async def finish_jobs(uploads: Uploads, timeout: float = 10.0) -> list[Job[Any]]:  # noqa: ASYNC109
    """Run all jobs to their end; those that are delayed without their delay.

    It waits for requests that are under way too, for jobs that handlers submit,
    and for callbacks. A job that fails is no error here: look at what is returned.

    Args:
        uploads: Whose jobs, running in this event loop.
        timeout: After how many seconds to give up. The jobs go on.

    Returns:
        The jobs that were to run since `running` was entered, the oldest first,
        as far as they are remembered. Without it, those that have run within
        their requests.

    Raises:
        TimeoutError: It names the jobs and requests that have not ended.
        NotRunning: Jobs are left, and no runner is there.
        RuntimeError: The uploads run in another event loop.
        WouldDeadlock: The caller is what would be waited for.

    Cancellation: the jobs go on.
    """
    runner = _runner_of(uploads)
    if runner is None:
        return _check_nothing_is_left(uploads)
    if not runner.in_this_loop:
        raise RuntimeError(
            "These uploads run in another event loop. Call finish_jobs_sync(uploads); in an "
            "async test: await anyio.to_thread.run_sync(finish_jobs_sync, uploads)."
        )
    return await _finish(uploads, runner, timeout)


def finish_jobs_sync(uploads: Uploads, timeout: float = 10.0) -> list[Job[Any]]:
    """Do what `finish_jobs` does, for an app whose event loop runs in another thread.

    That of Starlette's ``TestClient`` does, and that of a server in a thread.

    Args:
        uploads: As for `finish_jobs`.
        timeout: As for `finish_jobs`.

    Returns:
        As `finish_jobs` does.

    Raises:
        TimeoutError: As for `finish_jobs`.
        NotRunning: As for `finish_jobs`.
        RuntimeError: The event loop is one of this thread.
        WouldDeadlock: As for `finish_jobs`.
    """
    runner = _runner_of(uploads)
    if runner is None:
        return _check_nothing_is_left(uploads)
    if runner.in_this_thread:
        raise RuntimeError(
            "These uploads run in the event loop of this thread, which can't go on while it waits "
            "here. In an async test: await finish_jobs(uploads)."
        )
    return runner.wait_for(partial(_finish, uploads, runner, timeout))


def assert_all_closed(uploads: Uploads) -> None:
    """Check that nobody owns an upload any more.

    Call it when the jobs have finished, or once the app was shut down. The
    files that `Uploads(keep_failed=...)` keeps are owned by their jobs until then.

    Args:
        uploads: Whose uploads: those of forms, and those that were made with
            ``storage=uploads.storage``.

    Raises:
        AssertionError: It names who owns each upload that is open.
    """
    __tracebackhide__ = True  # pytest shows the caller's line
    blobs = uploads.storage.blobs
    if blobs:
        count = "1 upload is" if len(blobs) == 1 else f"{len(blobs)} uploads are"
        raise AssertionError(_listed(f"{count} open", [_describe(blob, uploads) for blob in blobs]))


# Jobs


def _runner_of(uploads: Uploads) -> Runner | None:
    stage = current_stage.get()
    if stage is not None and not stage.ended:
        raise WouldDeadlock(
            "Jobs can't be finished from within a request or a job: it would wait for itself. "
            "Do it in the test."
        )
    runner = uploads._runner
    return runner if runner is not None and runner.is_open else None


async def _finish(uploads: Uploads, runner: Runner, seconds: float) -> list[Job[Any]]:
    executor = runner.executor
    with anyio.move_on_after(seconds) as limit, executor.haste():
        while runner.is_open and (executor.busy or uploads._intakes):
            await executor.changes.wait()
    if limit.cancelled_caught:
        left = [*_left(uploads), *map(_describe_callback, executor.calling_back)]
        raise TimeoutError(_listed(f"After {seconds:g} s there are still", left))
    if not runner.is_open:
        return _check_nothing_is_left(uploads)
    return [job for job in uploads.jobs if job._runner is runner]


def _check_nothing_is_left(uploads: Uploads) -> list[Job[Any]]:
    left = _left(uploads)
    if left:
        advice = (
            "No runner is there to wait for. Start the app with its lifespan (`with TestClient(app)"
            " as client:`), or enter `async with uploads.running():`. There are still"
        )
        raise NotRunning(_listed(advice, left))
    return [job for job in uploads.jobs if job._runner is not None]


def _left(uploads: Uploads) -> list[str]:
    return [
        *(f"{REQUEST} {intake.request}" for intake in list(uploads._intakes)),
        *(_describe_job(job) for job in uploads.jobs if not job.done),
    ]


def _describe_job(job: Job[Any]) -> str:
    files = ", ".join(map(repr, job.filenames))
    error = "" if job.error is None else f", after {job.error}"
    return f"{job.handler} of {files}: {job.state.value}, attempt {job.attempt}{error} ({job.id})"


def _describe_callback(job: Job[Any]) -> str:
    return f"the callback of {_describe_job(job)}"


# Uploads


def _describe(blob: OpenBlob, uploads: Uploads) -> str:
    place = "in memory" if blob.in_memory else "on disk"
    owners = "; ".join(_describe_owner(owner, uploads) for owner in blob.owners)
    return f"{blob.size:,} bytes {place}, owned by {owners}"


def _describe_owner(owner: str, uploads: Uploads) -> str:
    job = uploads.jobs.get(owner.rpartition(" ")[2])
    if job is None:
        under_way = owner.startswith(REQUEST)
        return f"{owner} ({'finish_jobs() waits for it' if under_way else 'which has to close it'})"
    if not job.done:
        advice = "finish_jobs() waits for it"
    elif job.state is JobState.FAILED:
        advice = "keep_failed keeps it until the app is shut down"
    else:
        advice = "its thread goes on"
    return f"{owner} of {job.handler}, {job.state.value} ({advice})"


def _listed(title: str, lines: list[str]) -> str:
    return "\n- ".join([f"{title}:", *lines])
