"""Takes jobs for as long as it runs, from any thread, and drains at the end."""

from __future__ import annotations

import math
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar

import anyio
from anyio.abc import TaskGroup
from anyio.from_thread import BlockingPortal
from anyio.lowlevel import checkpoint, current_token

from starlette_upload_keepalive.exceptions import NotRunning
from starlette_upload_keepalive.files.threads import WorkerThreads

from .executor import Executor
from .job import Job
from .keeper import Keeper
from .options import RunIn
from .stage import NOT_RUNNING

T = TypeVar("T")

_NOTICE = 3.0
"""The most seconds that threads get to stop before the grace period ends."""


class Runner:
    """Runs jobs for as long as `running` lasts. Made anew for each event loop.

    Args:
        threads: Where plain functions run.
        callback_threads: Where plain callbacks run, apart from those: no job waits for them.
        places: How many handlers run at once, wherever they do.
        grace_period: The seconds that jobs get to finish; no limit if None. In the last
            tenth of it, and the last 3 at most, threads are asked to stop.
        retries: Whether a job may wait for another attempt.
        expects_more: Whether requests still hold jobs that will be published.
        keeper: Keeps the jobs in a spool, if that is durable.
    """

    def __init__(
        self,
        *,
        threads: WorkerThreads,
        callback_threads: WorkerThreads,
        places: Mapping[RunIn, int],
        grace_period: float | None,
        retries: bool = True,
        expects_more: Callable[[], bool] = lambda: False,
        keeper: Keeper | None = None,
    ) -> None:
        self.keeper: Keeper | None = keeper
        self.executor: Executor = Executor(
            threads=threads,
            callback_threads=callback_threads,
            places=places,
            retries=retries,
            runner=self,
            keeper=keeper,
        )
        self._grace_period: float = math.inf if grace_period is None else grace_period
        self._expects_more = expects_more
        self._loop_thread: int | None = None
        self._loop: object = None
        self._portal: BlockingPortal | None = None
        self._is_open = False
        # Of threads, which the portal must outlast: one that comes as it ends is not let go.
        self._calls = 0
        self._lock = threading.Lock()

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None, None]:
        """Take jobs until the block ends, and drain then.

        Cancellation: the jobs are cancelled too, without a grace period.
        """
        failure: BaseException | None = None
        try:
            async with BlockingPortal() as portal, anyio.create_task_group() as tasks:
                self._loop_thread, self._loop = threading.get_ident(), current_token()
                self._portal, self._is_open = portal, True
                ended = anyio.CancelScope()
                tasks.start_soon(_be_cancelled_with, tasks, ended)
                self.executor.start(tasks)
                try:
                    try:
                        yield
                    except anyio.get_cancelled_exc_class():
                        raise
                    except BaseException as error:  # noqa: BLE001
                        failure = error  # the task group would wrap it
                    await self.stop()
                finally:
                    self._shut()
                    self.executor.close()
                    ended.cancel()
                    with anyio.CancelScope(shield=True):
                        while self._calls:
                            await checkpoint()
        finally:
            self.executor.lose_the_rest()
            if self.keeper is not None:
                await self.keeper.wait_for_releases()
        if failure is not None:
            raise failure

    @property
    def in_this_loop(self) -> bool:
        """Whether the caller runs in its event loop."""
        if not self.in_this_thread:
            return False
        try:
            return current_token() == self._loop
        except RuntimeError:  # pragma: no cover - a callback of the loop, with an older anyio
            return True

    @property
    def in_this_thread(self) -> bool:
        """Whether its event loop belongs to the caller's thread, at work or not."""
        return threading.get_ident() == self._loop_thread

    @property
    def is_open(self) -> bool:
        """Whether it takes jobs."""
        return self._is_open

    def publish(self, job: Job[Any]) -> bool:
        """Let a job wait for its turn. From any thread.

        Another event loop does not wait for this one, which may wait for it in
        turn: it is told that the job was taken, and the job is lost if it was not.

        Returns:
            Whether it was taken: False if `running` has ended or not begun.
        """
        if self._is_open and self._in_another_loop:
            job._runner = self  # who waits for it there is told so
            self._post(partial(self._take, job), otherwise=partial(job._cancel, "shutdown"))
            return True
        return self.call(partial(self._take, job), instead=False)

    def notice(self) -> None:
        """Let those who wait for jobs look again. From any thread; never waits."""
        if self.in_this_thread and not self.executor.changes.awaited:
            return
        if self.in_this_loop:
            self.executor.changes.notice()
        elif self._is_open:
            self._post(self.executor.changes.notice)

    def cancel(self, job: Job[Any]) -> bool:
        """End a job: at once, or by asking its thread; False if it is done. From any thread."""
        return self.call(partial(self.executor.cancel, job), instead=False)

    def hurry(self, job: Job[Any]) -> bool:
        """Let a job that is delayed wait for its turn; False if it is not. From any thread."""
        return self.call(partial(self.executor.hurry, job), instead=False)

    def call(self, call: Callable[[], T], *, instead: T) -> T:
        """Make a call in the event loop. From any thread.

        Args:
            call: What to call.
            instead: What to return if `running` has ended or not begun.
        """
        if self.in_this_thread:
            return call() if self._is_open and self.in_this_loop else instead
        with self._lock:
            portal = self._portal if self._is_open else None
            if portal is None:
                return instead
            self._calls += 1
        try:
            return portal.call(call)
        except RuntimeError:  # it has ended all the same: its task was cancelled natively
            return instead
        finally:
            with self._lock:
                self._calls -= 1

    def wait_for(self, call: Callable[[], Awaitable[T]]) -> T:
        """Wait for an async call in the event loop. From any other thread.

        Args:
            call: What to call.

        Raises:
            NotRunning: `running` has ended or not begun.
        """
        with self._lock:
            portal = self._portal if self._is_open else None
            if portal is None:
                raise NotRunning(NOT_RUNNING)
            self._calls += 1  # until it has begun: for what it does the portal waits by itself
        try:
            waiting = portal.start_task_soon(call)
        finally:
            with self._lock:
                self._calls -= 1
        return waiting.result()

    async def drain(self, expects_more: Callable[[], bool] = lambda: False) -> None:
        """Let all jobs finish, and cancel those that have not after the grace period.

        One that waits for its next attempt has it at once, rather than be lost.
        Threads are asked to stop shortly before the end: who may kill the
        process comes next, and would hit them at work.

        Args:
            expects_more: Whether jobs are still to be published, to be waited for.

        Cancellation: leaves the jobs to be cancelled by the end of `running`.
        """
        executor = self.executor

        async def all_done() -> None:
            while executor.busy or expects_more():
                await executor.changes.wait()

        try:
            with anyio.move_on_after(self._grace_period) as grace:
                await checkpoint()  # start nothing more if this is cancelled already
                executor.set_end(grace.deadline)
                executor.hurry_all()
                notice = min(self._grace_period / 10, _NOTICE)
                with anyio.CancelScope(deadline=grace.deadline - notice):
                    await all_done()
                executor.ask_threads()
                await all_done()
            await executor.stop_all()
        finally:
            executor.set_end(math.inf)

    async def stop(self) -> None:
        """Drain, also what requests still hold, and take no job any more. Again does nothing.

        Cancellation: leaves the jobs to be cancelled by the end of `running`.
        """
        if self._is_open:
            self.executor.stop_claiming()
            await self.drain(self._expects_more)
            self._shut()

    def _shut(self) -> None:
        with self._lock:
            self._is_open = False

    def _take(self, job: Job[Any]) -> bool:
        job._runner = self
        return self._is_open and self.executor.add(job)

    @property
    def _in_another_loop(self) -> bool:
        if self.in_this_thread:
            return False
        try:
            current_token()
        except RuntimeError:
            return False
        return True

    def _post(
        self, call: Callable[[], object], otherwise: Callable[[], object] = lambda: None
    ) -> None:
        """Make a call in the event loop without waiting for it, or another if that has ended."""

        def wait_for_it() -> None:
            if not self.call(lambda: call() is not False, instead=False):
                otherwise()

        # anyio has no way into another event loop that does not wait until it is there.
        threading.Thread(target=wait_for_it, name="upload-keepalive-post", daemon=True).start()


async def _be_cancelled_with(tasks: TaskGroup, ended: anyio.CancelScope) -> None:
    """Cancel a task group at once when `asyncio.run` cancels each task by itself.

    What the group is in may take long to get there, and its jobs would seem to have failed.

    Args:
        tasks: The group.
        ended: Cancelled when the group has nothing more to do.
    """
    try:
        with ended:
            await anyio.sleep_forever()
    except anyio.get_cancelled_exc_class():
        tasks.cancel_scope.cancel()
        raise
