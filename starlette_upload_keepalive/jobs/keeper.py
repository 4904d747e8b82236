"""Keeps the jobs of one event loop in a spool, from the accept on."""

from __future__ import annotations

import errno
import logging
import threading
import time
import weakref
from collections.abc import Callable, Container, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import anyio

from starlette_upload_keepalive.files.threads import WorkerThreads
from starlette_upload_keepalive.files.upload import let_go_of_all

from .accepting import Accept
from .calling import Outcome
from .error_text import described
from .handler import Handler
from .history import JobHistory
from .job import Job
from .job_state import JobState
from .parked_job import ParkedJob
from .record import handler_key
from .recording import new_job, standing_of
from .spool import Ending, KeptJob, Spool, WaitingJob
from .stage import Stage
from .verdict import Verdict
from .work import Keep

T = TypeVar("T")
AnyHandler = Handler[Any, Any, Any, Any]

_FORGOTTEN = "What came of it is not known: its spool has forgotten it."
# How often to look for records that are too old, in seconds. To look wakes the disk.
_SWEEP = 600

logger: logging.Logger = logging.getLogger("starlette_upload_keepalive")


class Keeper:
    """Tells a spool what becomes of jobs, in worker threads.

    Args:
        spool: Where they are kept.
        threads: Where the spool is called.
        handlers: All that are registered, by name.
        history: The jobs that are known here.
        keep: What the handlers call to have jobs kept here.
    """

    def __init__(
        self,
        spool: Spool,
        threads: WorkerThreads,
        handlers: Mapping[str, AnyHandler],
        history: JobHistory,
        keep: Keep,
    ) -> None:
        self._spool = spool
        self._threads = threads
        self._handlers = handlers
        self._history = history
        self._keep = keep
        # What was given back, for as long as somebody here looks at it.
        self._given_back: weakref.WeakValueDictionary[str, Job[Any]] = weakref.WeakValueDictionary()
        self._left_alone = set[str]()
        self._missed = set[str]()  # that somebody waits for, and were not in the spool
        self._unswept = True  # jobs were done since
        self._swept_at = 0.0
        self._releases: list[Callable[[], object]] = []

    async def accept(self, jobs: Sequence[Job[Any]]) -> None:
        """Keep jobs, all or none.

        Raises:
            OSError: They can't be kept.

        Cancellation: waits for the disk. A native cancel leaves the thread behind,
            which lets no such job run.
        """
        with _as_disk_error():
            await Accept(self._spool, jobs).run(self._threads)
        for job in jobs:
            job._kept = True

    async def start(self, job: Job[Any]) -> None:
        """Note that a job's handler starts. If it can't be noted, it starts all the same."""
        try:
            await self._call(lambda: self._spool.start(job.id))
        except OSError:
            logger.exception("That the job %s starts could not be noted in its spool.", job.id)

    async def note(
        self, job: Job[Any], outcome: Outcome, verdict: Verdict, stage: Stage
    ) -> ParkedJob | None:
        """Note what becomes of a job after an attempt, and keep what its handler has submitted.

        What can't be noted is logged: the job is run again when this process has ended.

        Args:
            job: The job.
            outcome: What came of the attempt.
            verdict: What is to become of the job.
            stage: Where its children wait.

        Returns:
            What stands for it here, if it is delayed and waits in the spool.
        """
        at = time.time()
        try:
            if verdict.state is JobState.DELAYED:
                return await self.release(job, at + verdict.wait)
            if verdict.reason == "shutdown":
                if not outcome.thread_goes_on:
                    await self.release(job, at)
            else:
                raised = verdict.error or outcome.error
                error = None if raised is None else described(raised)
                ending = Ending(verdict.state, at, outcome.result, verdict.gave_up or error)
                children = await self._own_children(stage)
                new = [new_job(child) for child in children]
                await self._call(lambda: self._spool.finish(job.id, ending, new))
                job._kept, self._unswept = False, True
                for child in children:
                    child._kept = True
        except OSError:
            stage.reject("its parent's end could not be noted in the spool")
            logger.exception(
                "What came of the job %s could not be noted in its spool: it will be run again "
                "when this process has ended.",
                job.id,
            )
        return None

    async def _own_children(self, stage: Stage) -> list[Job[Any]]:
        """Return those that this spool is to keep; have others kept by theirs."""
        own: list[Job[Any]] = []
        for keep, children in stage.take_unkept():
            if keep == self._keep:
                own += children
            else:
                await keep(children)
        return own

    async def note_end(self, job: Job[Any]) -> None:
        """Note that a job of ours ended before it was started."""
        job._kept = False
        self._unswept = True
        try:
            await self._call(lambda: self._spool.finish(job.id, Ending(job.state, time.time())))
        except OSError:
            logger.exception("The end of the job %s could not be noted in its spool.", job.id)

    async def release(self, job: Job[Any], due: float) -> ParkedJob:
        """Give a job back to the spool, for anybody from then on.

        Args:
            job: The job; its files are let go of.
            due: When it may be claimed, in seconds since 1970 (UTC).

        Returns:
            What stands for it here.

        Raises:
            OSError: It can't be given back; it is still ours.
        """
        standing = standing_of(job, due)
        await self._call(lambda: self._spool.release(job.id, standing))
        job._park()
        self._given_back[job.id] = job
        return ParkedJob(job._work, WaitingJob(job.id, handler_key(job.handler), standing))

    def release_in_background(self, job: Job[Any], *, thread_goes_on: bool = False) -> None:
        """Give a job back to the spool where nothing can be awaited any more.

        Args:
            job: The job.
            thread_goes_on: Wait until its thread has ended, or this process: it must
                not be run twice at a time.
        """
        standing = standing_of(job, time.time())
        ended = job._thread_ended if thread_goes_on else None

        noted = threading.Event()

        def release() -> None:
            try:
                # A thread that a native cancel has left behind may note its end first.
                with _as_disk_error(), suppress(KeyError):
                    if ended is not None:
                        self._spool.interrupt(job.id)
                        noted.set()
                        ended.wait()
                    self._spool.release(job.id, standing)
            except OSError:
                logger.exception("The job %s could not be given back to its spool.", job.id)
            finally:
                noted.set()

        name = "upload-keepalive-release"
        thread = threading.Thread(target=release, name=name, daemon=thread_goes_on)
        self._releases.append(noted.wait if thread_goes_on else thread.join)
        thread.start()

    async def wait_for_releases(self) -> None:
        """Wait until all is given back in the background, but for what threads still work on."""
        releases, self._releases = self._releases, []
        for wait in releases:
            await self._call(wait)

    async def claim(self, parked: ParkedJob) -> Job[Any] | None:
        """Claim a job; None if it is not to be had."""
        try:
            claimed = await self._call(lambda: self._spool.claim(parked.waiting))
        except OSError:
            logger.exception("The job %s could not be claimed.", parked.waiting.id)
            return None
        if claimed is None:
            return None
        try:
            handler = self._handlers[parked._work.name]
            if claimed.record.handler != handler.name:  # its key is the same
                await self._call(lambda: self._spool.release(claimed.record.id, claimed.standing))
                return None
            known = self._given_back.pop(claimed.record.id, None)
            if known is None or known.done:
                return handler._claimed(claimed)
            self._history.add(known)
            known._unpark(claimed)
            asked = known._stop_reason == "asked"  # meanwhile
            known._wait_for_turn()
            if asked:
                known._stop("asked")
            return known
        finally:
            let_go_of_all(claimed.uploads)

    async def find(self, job_id: str) -> KeptJob | None:
        """Look for a job in the spool, whoever has it."""
        return await self._call(lambda: self._spool.find(job_id))

    async def find_all(
        self, state: JobState | None, handler: str | None, known: Container[str]
    ) -> dict[str, KeptJob]:
        """Return the jobs in the spool by their ids, whoever has them.

        Args:
            state: Only those in this state.
            handler: Only those of the handler of this name.
            known: The ids of those that are wanted in any state.
        """

        def find() -> dict[str, KeptJob]:
            return {
                kept.id: kept
                for kept in self._spool.jobs()
                if handler in (None, kept.handler)
                and (state in (None, kept.state) or kept.id in known)
            }

        return await self._call(find)

    async def retry(self, job_id: str) -> bool:
        """Let a job that has failed be claimed once more; False if none of that id has."""
        return await self._call(lambda: self._spool.retry(job_id))

    async def cancel(self, job_id: str) -> bool:
        """End a job that waits in the spool; False if none of that id does."""
        return await self._call(lambda: self._spool.cancel(job_id))

    async def purge(self, state: JobState | None, before: float | None) -> int:
        """Forget jobs that are done, and return how many they were.

        Args:
            state: Only those in this state.
            before: Only those that were done before, in seconds since 1970 (UTC).
        """
        return await self._call(lambda: self._spool.purge(state=state, before=before))

    def forget(self, job_id: str) -> None:
        """Know a job no more that waits in the spool: `find` finds it there."""
        job = self._history.get(job_id)
        if job is not None and not job.done:
            self._history.forget(job)

    def has(self, job_id: str) -> bool:
        """Tell whether a job is ours at present."""
        job = self._history.get(job_id)
        return job is not None and job._kept

    async def learn_of_awaited(self) -> None:
        """Let those who wait for jobs know what came of them in other processes."""
        awaited = {
            job.id
            for job in list(self._given_back.values())
            if job._done_event is not None and not job.done
        }
        if not awaited:
            self._missed.clear()
            return
        found = await self._call(lambda: list(self._spool.jobs(awaited)))
        for kept in found:
            if kept.done:
                self._learn(kept.id, kept.state, kept)
        missed = awaited - {kept.id for kept in found}
        for job_id in missed & self._missed:  # at two looks: not on its way from place to place
            self._learn(job_id, JobState.CANCELLED, None)
        self._missed = missed

    def _learn(self, job_id: str, state: JobState, kept: KeptJob | None) -> None:
        job = self._given_back.pop(job_id, None)
        if job is None:  # it was done here meanwhile
            return
        self._history.add(job)
        if kept is None:
            job.error = _FORGOTTEN
        else:
            job.attempt = kept.attempt
            job.result, job.error = kept.result, kept.error
        job._finish(state)

    async def look(self, most: int) -> list[ParkedJob]:
        """Look for jobs that may be claimed, the earliest first.

        Args:
            most: How many are wanted of each handler.
        """
        handlers = {handler.key: handler for handler in self._handlers.values()}
        waiting = await self._call(lambda: self._spool.waiting(most))
        for job in waiting:
            if job.key not in handlers and job.key not in self._left_alone:
                self._left_alone.add(job.key)
                await self._tell_left_alone(job.id)
        return [ParkedJob(handlers[job.key], job) for job in waiting if job.key in handlers]

    async def rescue(self) -> int:
        """Let the jobs be claimed of owners that have ended; return how many they were."""
        return await self._call(self._spool.rescue)

    async def sweep(self) -> None:
        """Remove from the spool what is needed no more, if there may be something."""
        now = time.monotonic()
        if self._unswept or now - self._swept_at > _SWEEP:
            self._unswept, self._swept_at = False, now
            await self._call(self._spool.sweep)

    async def _tell_left_alone(self, job_id: str) -> None:
        kept = await self.find(job_id)
        if kept is not None:
            logger.warning(
                "The job %s and perhaps others wait in the spool for the handler %s, which is not "
                "registered here. They are kept until it is.",
                job_id,
                kept.handler,
            )

    async def _call(self, call: Callable[[], T]) -> T:
        returned: list[T] = []
        with _as_disk_error(), anyio.CancelScope(shield=True):
            returned.append(await self._threads.run(call))
        return returned[0]


@contextmanager
def _as_disk_error() -> Generator[None, None, None]:
    """Take whatever else a spool raises for a failure of its disk: it ends no runner."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise OSError(errno.EIO, f"The spool has raised {error!r}") from error
