"""What becomes of jobs in one event loop: turns, attempts, delays, ends."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import copy_context
from functools import partial
from typing import Any

import anyio
from anyio import CancelScope
from anyio.abc import TaskGroup

from starlette_upload_keepalive.events import JobOverran
from starlette_upload_keepalive.exceptions import Discard, RetryLater
from starlette_upload_keepalive.files.threads import WorkerThreads

from .alarms import Alarm, Alarms
from .attempt import Outcome, Stopped, attempt
from .callbacks import call_back, callback_of
from .job import Job
from .job_state import JobState
from .options import RunIn
from .retry import check_seconds, verb_in
from .stage import Stage
from .turns import Turns


class Executor:
    """Runs the jobs it is given, each in its turn. All of it is called in the event loop.

    Args:
        threads: Where plain functions run.
        callback_threads: Where plain callbacks run, apart from those: no job waits for them.
        max_threads: How many of them run at once.
        max_tasks: How many ``async`` functions run at once.
        retries: Whether a job may wait for another attempt.
        publish: Takes a job that a handler has submitted; False if it can't.
    """

    def __init__(
        self,
        *,
        threads: WorkerThreads,
        callback_threads: WorkerThreads,
        max_threads: int,
        max_tasks: int,
        retries: bool,
        publish: Callable[[Job[Any]], bool],
    ) -> None:
        self._threads = threads
        self._callback_threads = callback_threads
        self._retries = retries
        self._publish = publish
        self._turns: dict[RunIn, Turns] = {"thread": Turns(max_threads), "loop": Turns(max_tasks)}
        self._running: dict[Job[Any], CancelScope] = {}
        self._delayed: dict[Job[Any], Alarm] = {}
        self._alarms = Alarms()
        self._tasks: TaskGroup | None = None
        self._ringing: CancelScope | None = None
        self._context = copy_context()
        self._changed: anyio.Event | None = None
        self._is_stopping = False
        self._in_haste = 0
        self.set_end(math.inf)

    def start(self, tasks: TaskGroup) -> None:
        """Run jobs in a task group, until `close`."""
        self._tasks = tasks

    def close(self) -> None:
        """Start no more. Jobs that the cancelled task group has not ended are lost."""
        self._tasks = None
        if self._ringing is not None:
            self._ringing.cancel()
        self.notice()

    # Jobs come, and are told to go

    def add(self, job: Job[Any]) -> bool:
        """Let a job wait for its turn; False if no more are taken."""
        if self._tasks is None or self._is_stopping:
            return False
        if job.done:  # cancelled before it came here
            return True
        if job not in self._running:  # else it goes on once its callback has ended
            job._wait_for_turn()
            self._turns[job._work.run_in].add(job)
            self._start_waiting()
        return True

    def cancel(self, job: Job[Any]) -> bool:
        """End a job: at once, or by asking its thread; False if it is done."""
        if job.done:
            return False
        waits = self._turns[job._work.run_in].remove(job) or self._take_delayed(job)
        scope = None if waits else self._running.get(job)
        if scope is None:
            job._cancel("asked")
            self.notice()
        else:
            job._stop("asked")
            if job._work.run_in == "loop":
                scope.cancel()
        return True

    def hurry(self, job: Job[Any]) -> bool:
        """Let a job wait for its turn that is delayed; False if it is not."""
        if not self._take_delayed(job):
            return False
        self.add(job)
        return True

    def hurry_all(self) -> None:
        """Let all jobs wait for their turn that are delayed."""
        for job in list(self._delayed):
            self.hurry(job)

    @contextmanager
    def haste(self) -> Generator[None, None, None]:
        """Make every further attempt at once, for as long as the block lasts."""
        self._in_haste += 1
        self.hurry_all()
        try:
            yield
        finally:
            self._in_haste -= 1

    def set_end(self, time: float) -> None:
        """Let no attempt begin after that, in the event loop's seconds."""
        self._ends: dict[RunIn, float] = {"thread": time, "loop": time}

    def ask_threads(self) -> None:
        """Ask the threads to stop, and begin nothing more in one until `set_end`."""
        self._ends["thread"] = -math.inf
        for job in self._running:
            if job._work.run_in == "thread":
                job._stop("shutdown")

    async def stop_all(self) -> None:
        """Lose the jobs that wait, cancel those on the event loop, leave the threads behind.

        Cancellation: leaves the rest to `lose_the_rest`.
        """
        self._is_stopping = True
        try:
            self._stop_all()
            self.notice()
            while self.busy:
                await self.change()
        finally:
            self._is_stopping = False

    def lose_the_rest(self) -> None:
        """Tell of the jobs that the cancelled task group has not ended."""
        self._stop_all()
        # asyncio never begins a task that is cancelled before its first step.
        for job in self._running:
            job._cancel("shutdown")
        self._running.clear()

    def _stop_all(self) -> None:
        for turns in self._turns.values():
            for job in turns.take_all():
                job._cancel("shutdown")
        for job in list(self._delayed):
            self._take_delayed(job)
            job._cancel("shutdown")
        for job, scope in self._running.items():
            job._stop("shutdown")
            scope.cancel()

    # How it is

    @property
    def busy(self) -> bool:
        """Whether a job waits or runs."""
        return bool(self._running or self._delayed or any(self._turns.values()))

    @property
    def calling_back(self) -> list[Job[Any]]:
        """The jobs that are done but for their callback."""
        return [job for job in self._running if job.done]

    def places_taken(self, run_in: RunIn) -> int:
        """Count the threads, or the tasks, that are at work. From any thread."""
        return self._turns[run_in].busy

    @property
    def oldest_waiting(self) -> float | None:
        """Since when the job waits that has waited longest. From any thread."""
        since = [turns.oldest for turns in self._turns.values()]
        return min((each for each in since if each is not None), default=None)

    @property
    def awaited(self) -> bool:
        """Whether somebody waits for a change. From any thread."""
        return self._changed is not None

    def notice(self) -> None:
        """Let those who wait for a change look again."""
        if self._changed is not None:
            self._changed.set()
            self._changed = None

    async def change(self) -> None:
        """Wait until a job is done, or something else is worth a look.

        Cancellation: nothing is lost.
        """
        if self._changed is None:
            self._changed = anyio.Event()
        await self._changed.wait()

    # From waiting to done

    def _start_waiting(self) -> None:
        if self._tasks is None:
            return
        for turns in self._turns.values():
            while (job := turns.claim()) is not None:
                self._running[job] = CancelScope()
                # In the context that the job was submitted in.
                job._context.run(self._tasks.start_soon, self._run, job)

    async def _run(self, job: Job[Any]) -> None:
        outcome: Outcome | None = None
        try:
            outcome = await self._attempt(job)
            try:
                self._settle(job, outcome)
            except BaseException as error:  # noqa: BLE001 - to look at what was raised may raise
                self._take_delayed(job)
                if not job.done:
                    job._fail(error)
            if job.done:
                call = callback_of(job, outcome.error)
                if call is not None:
                    scope = self._running[job] = CancelScope()
                    await call_back(job, call, scope, self._callback_threads)
        except BaseException:
            if anyio.current_effective_deadline() == -math.inf:  # else it is the handler's own
                self.close()
            raise
        finally:
            outcome = None  # else this frame and the error's traceback would keep each other
            if job.state in (JobState.WAITING, JobState.RUNNING):
                job._cancel("shutdown", thread_goes_on=job._work.run_in == "thread")
            del self._running[job]
            self._turns[job._work.run_in].leave(job)
            if self._is_wanted_again(job) and not self.add(job):
                job._cancel("shutdown")
            self._start_waiting()
            self.notice()

    def _is_wanted_again(self, job: Job[Any]) -> bool:
        """Whether a callback or a hook has asked for it while it could not be added yet."""
        if job.state is JobState.DELAYED:
            return job not in self._delayed
        return job.state is JobState.STAGED

    async def _attempt(self, job: Job[Any]) -> Outcome:
        too_late = self._ends[job._work.run_in] == -math.inf
        if too_late or job._stop_reason is not None:  # since it was given its turn
            return Outcome(error=Stopped())
        stage = Stage(job.id)
        overrun = self._watch(job)
        try:
            return await attempt(job, stage, self._running[job], self._threads)
        finally:
            if overrun is not None:
                self._alarms.cancel(overrun)
            for child in stage.end():
                if not self._publish(child):  # it is not the runner that serves the app
                    child._cancel("shutdown")

    def _settle(self, job: Job[Any], outcome: Outcome) -> None:
        error = outcome.error
        if error is None:
            job._succeed(outcome.result)
        elif isinstance(error, Stopped):
            asked = job._stop_reason == "asked"
            job._cancel("asked" if asked else "shutdown", thread_goes_on=outcome.thread_goes_on)
        elif job._stop_reason == "asked":
            job._cancel("asked", error=error)
        elif isinstance(verb := verb_in(error), Discard):
            job._give_up(verb.reason)
        elif (wait := self._wait_before_next(job, error, verb)) is None:
            job._fail(error)
        elif anyio.current_time() + wait > self._ends[job._work.run_in]:
            job._cancel("shutdown", error=error)
        else:
            self._delayed[job] = self._after(wait, partial(self.hurry, job))
            job._delay(wait, error)

    def _wait_before_next(
        self, job: Job[Any], error: BaseException, verb: RetryLater | None
    ) -> float | None:
        """Return the seconds until the next attempt; None if there is none."""
        if not self._retries or self._is_stopping:
            return None
        if verb is not None:
            check_seconds("seconds", verb.seconds, zero=True)  # it may have been changed
            return 0 if self._in_haste else verb.seconds
        job._failures += 1
        retry = job._work.options.retry
        if retry is None or job._failures >= retry.attempts or not retry.covers(error):
            return None
        return 0 if self._in_haste else retry.wait(job._failures, random.random())  # noqa: S311

    def _take_delayed(self, job: Job[Any]) -> bool:
        alarm = self._delayed.pop(job, None)
        if alarm is None:
            return False
        self._alarms.cancel(alarm)
        return True

    def _watch(self, job: Job[Any]) -> Alarm | None:
        """Ask a thread to stop that takes too long."""
        timeout = job._work.options.timeout
        if timeout is None or job._work.run_in == "loop":
            return None
        return self._after(timeout, partial(self._overran, job, timeout))

    def _overran(self, job: Job[Any], timeout: float) -> None:
        job._stop("timeout")
        job._tell(JobOverran, timeout_seconds=timeout)

    def _after(self, seconds: float, call: Callable[[], object]) -> Alarm:
        alarm = self._alarms.after(seconds, call)
        if self._ringing is None and self._tasks is not None:
            self._ringing = CancelScope()
            # Not in the context of the job that happens to be the first.
            self._context.run(self._tasks.start_soon, self._ring, self._ringing)
        return alarm

    async def _ring(self, scope: CancelScope) -> None:
        try:
            with scope:
                await self._alarms.ring()
        finally:
            self._ringing = None
