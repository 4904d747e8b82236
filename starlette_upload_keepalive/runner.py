"""Claims jobs and runs them, in worker threads and on the event loop."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
from anyio import CancelScope
from anyio.abc import TaskGroup
from anyio.from_thread import BlockingPortal
from anyio.lowlevel import current_token

from .job import MAX_RESULT_SIZE, Job, JobState, RunIn, through_json
from .spool import MemorySpool
from .stage import Stage, current_stage
from .threads import WorkerThreads

logger = logging.getLogger("starlette_upload_keepalive")


class Runner:
    """Runs jobs for as long as `running` lasts. Made anew for each event loop.

    Args:
        threads: Where plain functions run.
        max_threads: How many of them run at once.
        max_tasks: How many ``async`` functions run at once.
        grace_period: The seconds that jobs get to finish; no limit if None.
        expects_more: Whether requests still hold jobs that will be published.
    """

    def __init__(
        self,
        *,
        threads: WorkerThreads,
        max_threads: int,
        max_tasks: int,
        grace_period: float | None,
        expects_more: Callable[[], bool] = lambda: False,
    ) -> None:
        self._threads = threads
        self._grace_period = grace_period
        self._expects_more = expects_more
        self._free: dict[RunIn, int] = {"thread": max_threads, "loop": max_tasks}
        self._spool = MemorySpool()
        self._running: dict[Job[Any], CancelScope] = {}
        self._loop_thread: int | None = None
        self._loop: object = None
        self._tasks: TaskGroup | None = None
        self._portal: BlockingPortal | None = None
        self._changed: anyio.Event | None = None
        self._cancelling = False

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None, None]:
        """Take jobs until the block ends, and drain then.

        Cancellation: the jobs are cancelled too, without a grace period.
        """
        failure: BaseException | None = None
        try:
            async with BlockingPortal() as portal, anyio.create_task_group() as tasks:
                self._loop_thread, self._loop = threading.get_ident(), current_token()
                self._portal, self._tasks = portal, tasks
                try:
                    try:
                        yield
                    except anyio.get_cancelled_exc_class():
                        raise
                    except BaseException as error:  # noqa: BLE001
                        failure = error  # the task group would wrap it
                    await self.stop()
                finally:
                    self._tasks = None
        finally:
            self._lose_the_rest()
        if failure is not None:
            raise failure

    @property
    def in_this_loop(self) -> bool:
        """Whether the caller runs in its event loop."""
        if threading.get_ident() != self._loop_thread:
            return False
        try:
            return current_token() == self._loop
        except RuntimeError:  # pragma: no cover - a callback of the loop, with an older anyio
            return True

    def publish(self, job: Job[Any]) -> bool:
        """Let a job wait for its turn. From any thread.

        Returns:
            Whether it was taken: False if `running` has ended or not begun.
        """
        portal = self._portal
        if self._tasks is None or portal is None:
            return False
        if threading.get_ident() == self._loop_thread:
            return self.in_this_loop and self._take(job)
        try:
            return portal.call(self._take, job)
        except RuntimeError:  # it ended meanwhile
            return False

    async def drain(self, expects_more: Callable[[], bool] = lambda: False) -> None:
        """Let all jobs finish, and cancel those that have not after the grace period.

        Args:
            expects_more: Whether jobs are still to be published, to be waited for.

        Cancellation: leaves the jobs to be cancelled by the end of `running`.
        """
        with anyio.move_on_after(self._grace_period):
            while self._busy or expects_more():
                await self._change()
        self._cancelling = True
        try:
            self._lose_waiting()
            for job, scope in self._running.items():
                job.cancel_requested = True
                scope.cancel()
            while self._busy:
                await self._change()
        finally:
            self._cancelling = False

    async def stop(self) -> None:
        """Drain, also what requests still hold, and take no job any more. Again does nothing.

        Cancellation: leaves the jobs to be cancelled by the end of `running`.
        """
        if self._tasks is not None:
            await self.drain(self._expects_more)
            self._tasks = None

    def notice(self) -> None:
        """Let those who wait for a change look again."""
        if self._changed is not None:
            self._changed.set()
            self._changed = None

    @property
    def _busy(self) -> bool:
        return bool(self._running or len(self._spool))

    async def _change(self) -> None:
        if self._changed is None:
            self._changed = anyio.Event()
        await self._changed.wait()

    def _lose_waiting(self) -> None:
        for run_in in self._free:
            while (job := self._spool.claim(run_in)) is not None:
                _lose(job)

    def _lose_the_rest(self) -> None:
        self._lose_waiting()
        # asyncio never begins a task that is cancelled before its first step.
        for job in self._running:
            _lose(job)
        self._running.clear()

    def _take(self, job: Job[Any]) -> bool:
        if self._tasks is None or self._cancelling:
            return False
        job.state = JobState.WAITING
        self._spool.publish(job)
        self._start_waiting(self._tasks)
        return True

    def _start_waiting(self, tasks: TaskGroup) -> None:
        for run_in in self._free:
            while self._free[run_in] and (job := self._spool.claim(run_in)) is not None:
                self._free[run_in] -= 1
                self._running[job] = CancelScope()
                # In the context that the job was submitted in.
                job.context.run(tasks.start_soon, self._run, job)

    async def _run(self, job: Job[Any]) -> None:
        try:
            await self._attempt(job, self._running[job])
        finally:
            if not job.done:
                _lose(job, close=False)
            del self._running[job]
            self._free[job.run_in] += 1
            if self._tasks is not None:
                self._start_waiting(self._tasks)
            self.notice()

    async def _attempt(self, job: Job[Any], scope: CancelScope) -> None:
        stage = Stage()  # for the jobs that this one submits
        current_stage.set(stage)
        for upload in job.uploads:
            upload._origin = stage
        job.begin()
        try:
            with scope:
                value = await self._call(job)
                job.result = through_json(value, f"The result of {job.handler}", MAX_RESULT_SIZE)
                stage.decide(200)
        except BaseException as error:
            if _is_shutdown(error, job):
                raise
            logger.exception(
                "Job %s of handler %s failed: field %r, files %r.",
                job.id,
                job.handler,
                job.field,
                job.filenames,
            )
            job.fail(error)
        finally:
            for child in stage.end():
                if not self.publish(child):  # it is not the runner that serves the app
                    _lose(child)
        if not job.done and not scope.cancelled_caught:
            job.finish(JobState.SUCCEEDED)

    async def _call(self, job: Job[Any]) -> Any:
        """Call the handler; whoever worked on the files lets go of them."""
        if job.run_in == "loop":
            try:
                return await job.invoke(job)
            finally:
                job.close_uploads()
        try:
            value, error = await self._threads.run(
                partial(_outcome, job), let_go=job.close_uploads, abandon_on_cancel=True
            )
        except anyio.get_cancelled_exc_class():
            job.cancel_requested = True  # perhaps natively, so that nobody has asked it yet
            raise
        if error is None:
            return value
        try:
            raise error
        finally:
            del error  # else its traceback would keep all that the handler had in hand


def _outcome(job: Job[Any]) -> tuple[Any, BaseException | None]:
    try:
        return job.invoke(job), None
    except BaseException as error:  # noqa: BLE001 - a SystemExit must not end the thread
        return None, error


def _is_shutdown(error: BaseException, job: Job[Any]) -> bool:
    """Whether the task is being cancelled, unlike a handler that raises what cancels it."""
    if not isinstance(error, anyio.get_cancelled_exc_class()):
        return False
    # A native cancel has no deadline.
    return job.cancel_requested or anyio.current_effective_deadline() == -math.inf


def _lose(job: Job[Any], *, close: bool = True) -> None:
    """Tell that a job will not be finished."""
    job.cancel_requested = True  # its thread may be at work
    if close:
        job.close_uploads()
    logger.error(
        "Job %s of handler %s is lost, the app was shut down first%s: field %r, files %r.",
        job.id,
        job.handler,
        "" if close or job.run_in == "loop" else " (its thread goes on until it returns)",
        job.field,
        job.filenames,
    )
    job.finish(JobState.CANCELLED)
