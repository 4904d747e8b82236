"""What becomes of jobs in one event loop: turns, attempts, delays, ends."""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import anyio
from anyio import CancelScope
from anyio.abc import TaskGroup

from starlette_upload_keepalive.events import JobOverran
from starlette_upload_keepalive.exceptions import ProcessDied
from starlette_upload_keepalive.files.threads import WorkerThreads

from .alarms import Alarm, Alarms
from .attempt import Stopped, attempt
from .callbacks import call_back, callback_of
from .calling import Outcome
from .changes import Changes
from .job import Job
from .job_state import JobState
from .keeper import Keeper
from .options import RunIn
from .parked_job import ParkedJob
from .parking import Parking
from .stage import Stage
from .turns import Turns
from .verdict import Circumstances, Verdict, verdict_on
from .work import JobRunner, Work


class Executor:
    """Runs the jobs it is given, each in its turn. All of it is called in the event loop.

    Args:
        threads: Where plain functions run.
        callback_threads: Where plain callbacks run, apart from those: no job waits for them.
        places: How many handlers run at once, wherever they do.
        retries: Whether a job may wait for another attempt.
        runner: Whose jobs they are.
        keeper: Keeps them in a spool, where those wait that have no place here.
    """

    def __init__(
        self,
        *,
        threads: WorkerThreads,
        callback_threads: WorkerThreads,
        places: Mapping[RunIn, int],
        retries: bool,
        runner: JobRunner,
        keeper: Keeper | None = None,
    ) -> None:
        self.changes: Changes = Changes()
        self._threads = threads
        self._callback_threads = callback_threads
        self._retries = retries
        self._runner = runner
        self._keeper = keeper
        self._turns: dict[RunIn, Turns[Job[Any] | ParkedJob]] = {
            run_in: Turns(limit) for run_in, limit in places.items()
        }
        self._running: dict[Job[Any], CancelScope] = {}
        self._delayed: dict[Job[Any], Alarm] = {}
        self._alarms = Alarms()
        self._parking = None if keeper is None else Parking(keeper, self, self._alarms)
        self._tasks: TaskGroup | None = None
        self._is_stopping = False
        self._in_haste = 0
        self.set_end(math.inf)

    def start(self, tasks: TaskGroup) -> None:
        """Run jobs in a task group, until `close`."""
        self._tasks = tasks
        self._alarms.start(tasks)
        if self._parking is not None:
            self._parking.start(tasks)

    def close(self) -> None:
        """Start no more. Jobs that the cancelled task group has not ended are lost."""
        self._tasks = None
        self._alarms.stop()
        if self._parking is not None:
            self._parking.stop()
        self.changes.notice()

    def stop_claiming(self) -> None:
        """Leave to others what waits in the spool."""
        if self._parking is not None:
            self._parking.close()

    # Jobs come, and are told to go

    def add(self, job: Job[Any]) -> bool:
        """Let a job wait for its turn; False if no more are taken."""
        if self._tasks is None or self._is_stopping:
            return False
        if job.done:  # cancelled before it came here
            self._note_end(job)
            return True
        if job not in self._running:  # else it goes on once its callback has ended
            job._wait_for_turn()
            self._turns[job._work.run_in].add(job)
            self.start_waiting()
            if self._parking is not None and job not in self._running:
                self._parking.stay(job)
        return True

    def cancel(self, job: Job[Any]) -> bool:
        """End a job: at once, or by asking its thread; False if it is done."""
        if job.done:
            return False
        if self._parking is not None and self._parking.cancel(job):
            return True
        waits = self._turns[job._work.run_in].remove(job) or self._take_delayed(job)
        scope = None if waits else self._running.get(job)
        if scope is None and self._keeper is not None and not job._has_uploads:
            return False  # it was given back: whoever has it may run it
        if scope is None:
            job._cancel("asked")
            self._note_end(job)
            self.changes.notice()
        else:
            job._stop("asked")
            if job._work.run_in != "thread":
                scope.cancel()
        return True

    def hurry(self, job: Job[Any]) -> bool:
        """Let a job wait for its turn that is delayed; False if it is not."""
        if self._take_delayed(job):
            return self.add(job)
        return self._parking is not None and self._parking.hurry(job.id)

    def hurry_all(self) -> None:
        """Let all jobs wait for their turn that are delayed."""
        for job in list(self._delayed):
            self.hurry(job)
        if self._parking is not None:
            self._parking.hurry_all()

    @contextmanager
    def haste(self) -> Generator[None, None, None]:
        """Make every further attempt at once, for as long as the block lasts."""
        self._in_haste += 1
        self.hurry_all()
        try:
            yield
        finally:
            self._in_haste -= 1

    def look_soon(self) -> None:
        """Look at once for what waits in the spool: something does."""
        if self._parking is not None:
            self._parking.look_soon()

    def set_end(self, time: float) -> None:
        """Let no attempt begin after that, in the event loop's seconds."""
        self._ends: dict[RunIn, float] = dict.fromkeys(self._turns, time)

    def ask_threads(self) -> None:
        """Ask the threads to stop, and begin nothing more in one until `set_end`."""
        self._ends["thread"] = -math.inf
        for job in self._running:
            if job._work.run_in == "thread":
                job._stop("shutdown")

    async def stop_all(self) -> None:
        """Lose the jobs that wait, cancel those that can be, leave the threads behind.

        Those that wait in the spool go on waiting there.

        Cancellation: leaves the rest to `lose_the_rest`.
        """
        self._is_stopping = True
        try:
            self._stop_all()
            self.changes.notice()
            while self._running or (self._parking is not None and self._parking.moving):
                await self.changes.wait()
        finally:
            self._is_stopping = False
            self.start_waiting()  # what stays in the spool

    def lose_the_rest(self) -> None:
        """Tell of the jobs that the cancelled task group has not ended."""
        self._stop_all()
        # asyncio never begins a task that is cancelled before its first step.
        for job in self._running:
            self._lose(job)
        self._running.clear()

    def _stop_all(self) -> None:
        for turns in self._turns.values():
            for waiting in turns.take_all():
                if isinstance(waiting, Job):
                    self._lose(waiting)
                else:
                    turns.add(waiting)
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
        parked = self._parking is not None and self._parking.busy
        return bool(parked or self._running or self._delayed or any(self._turns.values()))

    @property
    def calling_back(self) -> list[Job[Any]]:
        """The jobs that are done but for their callback."""
        return [job for job in self._running if job.done]

    def places_taken(self, run_in: RunIn) -> int:
        """Count those that are at work there. From any thread."""
        return self._turns[run_in].busy

    @property
    def oldest_waiting(self) -> float | None:
        """Since when the job waits that has waited longest. From any thread."""
        since = [turns.oldest for turns in self._turns.values()]
        return min((each for each in since if each is not None), default=None)

    # From waiting to done

    def start_waiting(self) -> None:
        """Give free places to those whose turn it is."""
        if self._tasks is None or self._is_stopping:
            return
        for turns in self._turns.values():
            while (waiting := turns.claim()) is not None:
                if isinstance(waiting, Job):
                    self._start(waiting, self._tasks)
                else:  # none stands in for a job but what the parking has lined up
                    cast("Parking", self._parking).claim(waiting, self._tasks)

    def wait_here(self, job: Job[Any]) -> None:
        """Let a job wait for its turn that the spool did not take back."""
        if self._is_stopping:
            self._lose(job)
        else:
            self._turns[job._work.run_in].add(job)
            self.start_waiting()

    def start_claimed(self, job: Job[Any] | None, parked: ParkedJob) -> None:
        """Start a job that has its place already, or free the place if it was not to be had."""
        if job is not None and self._tasks is not None and not self._is_stopping:
            job._runner = self._runner
            self._start(job, self._tasks)
        else:
            self._turns[parked._work.run_in].leave(parked)
            if job is not None:
                self._lose(job)
            self.start_waiting()
        self.changes.notice()

    def turns_of(self, work: Work) -> Turns[Job[Any] | ParkedJob]:
        """Return where its jobs wait."""
        return self._turns[work.run_in]

    def _start(self, job: Job[Any], tasks: TaskGroup) -> None:
        self._running[job] = CancelScope()
        job._context.run(tasks.start_soon, self._run, job)  # that which it was submitted in

    async def _run(self, job: Job[Any]) -> None:
        outcome: Outcome | None = None
        try:
            stage = Stage(job.id, attempt=job.attempt)
            try:
                outcome = await self._attempt(job, stage)
                # What is to be tried again later waits in the spool, whatever ends here.
                ends = self._keeper is None
                left = self._ends[job._work.run_in] - anyio.current_time() if ends else math.inf
                retries = self._retries and not (ends and self._is_stopping)
                circumstances = Circumstances(retries, self._in_haste > 0, left)
                verdict = verdict_on(job, outcome.error, circumstances)
                keeper = self._keeper
                parked = await keeper.note(job, outcome, verdict, stage) if keeper else None
            finally:
                self._publish_children(stage)
            try:
                self._settle(job, outcome, verdict, parked)
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
            if job.state in (JobState.WAITING, JobState.RUNNING) and job._has_uploads:
                self._lose(job, thread_goes_on=job._work.run_in == "thread")
            del self._running[job]
            self._turns[job._work.run_in].leave(job)
            if self._is_wanted_again(job) and not self.add(job):
                job._cancel("shutdown")
            self.start_waiting()
            self.changes.notice()

    def _is_wanted_again(self, job: Job[Any]) -> bool:
        """Whether a callback or a hook has asked for it while it could not be added yet."""
        if job.state is JobState.DELAYED:
            return job not in self._delayed and job._has_uploads
        return job.state is JobState.STAGED

    async def _attempt(self, job: Job[Any], stage: Stage) -> Outcome:
        too_late = self._ends[job._work.run_in] == -math.inf
        if too_late or job._stop_reason is not None:  # since it was given its turn
            return Outcome(error=Stopped())
        if job._crashes >= job._work.options.most_crashes:
            return Outcome(error=ProcessDied(job._crashes))
        if self._keeper is not None:
            await self._keeper.start(job)
        overrun = self._watch_time(job)
        try:
            return await attempt(job, stage, self._running[job], self._threads)
        finally:
            if overrun is not None:
                self._alarms.cancel(overrun)

    def _publish_children(self, stage: Stage) -> None:
        for child in stage.end():
            if not self._runner.publish(child):  # it is not the runner that serves the app
                child._cancel("shutdown")

    def _settle(
        self, job: Job[Any], outcome: Outcome, verdict: Verdict, parked: ParkedJob | None
    ) -> None:
        error = outcome.error if verdict.error is None else verdict.error
        if error is None:
            job._succeed(outcome.result)
        elif verdict.state is JobState.FAILED:
            job._fail(error)
        elif verdict.state is JobState.DISCARDED:
            job._give_up(verdict.gave_up)
        elif verdict.state is JobState.DELAYED:
            if self._parking is not None and parked is not None:
                self._parking.add(parked)
            else:
                self._delayed[job] = self._alarms.after(verdict.wait, partial(self.hurry, job))
            job._delay(verdict.wait, error)
        else:
            raised = None if isinstance(error, Stopped) else error
            lost = verdict.reason == "shutdown"
            end = partial(self._lose, job) if lost else partial(job._cancel, "asked")
            end(thread_goes_on=outcome.thread_goes_on, error=raised)

    def _lose(
        self, job: Job[Any], *, thread_goes_on: bool = False, error: BaseException | None = None
    ) -> None:
        """The app ends before the job does."""
        if self._keeper is None:
            job._cancel("shutdown", thread_goes_on=thread_goes_on, error=error)
            return
        if job._has_uploads:
            self._keeper.release_in_background(job, thread_goes_on=thread_goes_on)
        job._give_back(thread_goes_on=thread_goes_on)

    # What waits in the spool

    def _note_end(self, job: Job[Any]) -> None:
        if self._keeper is not None and job._kept and self._tasks is not None:
            self._tasks.start_soon(self._keeper.note_end, job)

    def _take_delayed(self, job: Job[Any]) -> bool:
        alarm = self._delayed.pop(job, None)
        if alarm is None:
            return False
        self._alarms.cancel(alarm)
        return True

    def _watch_time(self, job: Job[Any]) -> Alarm | None:
        """Ask a thread to stop that takes too long."""
        timeout = job._work.options.timeout
        if timeout is None or job._work.run_in != "thread":
            return None
        return self._alarms.after(timeout, partial(self._overran, job, timeout))

    def _overran(self, job: Job[Any], timeout: float) -> None:
        job._stop("timeout")
        job._tell(JobOverran, timeout_seconds=timeout)
