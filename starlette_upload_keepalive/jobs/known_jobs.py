"""What an app may ask about its jobs, and ask of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from anyio.lowlevel import checkpoint

from starlette_upload_keepalive.exceptions import JobNotFound, NotRunning, UploadClosed

from .history import JobHistory
from .job import Job
from .job_state import JobState
from .keeper import Keeper
from .runner import Runner
from .spool import KeptJob
from .stage import NOT_RUNNING

_KEEP_FAILED = "Uploads(keep_failed=...) lets the last jobs that failed keep theirs."
_ELSEWHERE = " Another process may have it: await uploads.jobs.find(id), or cancel_kept(id)."
_RETRY_KEPT = "If it has failed, the spool has them: await uploads.jobs.retry_kept(id)."


class Jobs:
    """The jobs of an app: those that are not done, and the last that are.

    It is ``uploads.jobs``. Everything but `wait` may be called from any thread,
    and iterating goes over the jobs, the oldest first.

    Args:
        history: Those that are known.
        runner: Returns what runs the app's jobs, if it does.
        kept: Whether they are kept in a spool.
    """

    def __init__(
        self, history: JobHistory, runner: Callable[[], Runner | None], *, kept: bool = False
    ) -> None:
        self._history = history
        self._runner = runner
        self._kept = kept

    def get(self, job_id: str) -> Job[Any] | None:
        """Return a job, or None if it is not known (any more)."""
        return self._history.get(job_id)

    def list(
        self, *, state: JobState | str | None = None, handler: str | None = None
    ) -> Sequence[Job[Any]]:
        """Return the known jobs, the oldest first.

        Args:
            state: Only those in this state.
            handler: Only those of the handler of this name.

        Raises:
            ValueError: There is no such state.
        """
        wanted = None if state is None else JobState(state)
        return [
            job for job in self if wanted in (None, job.state) and handler in (None, job.handler)
        ]

    def __iter__(self) -> Iterator[Job[Any]]:
        """Go over the known jobs, the oldest first."""
        return iter(self._history)

    def __len__(self) -> int:
        return len(self._history)

    async def wait(self, job_id: str) -> Job[Any]:
        """Wait until a job is done, and return it.

        Args:
            job_id: Which.

        Raises:
            JobNotFound: It is not known.
            WouldDeadlock: As for ``job.wait()``.

        Cancellation: the job goes on.
        """
        return await self._known(job_id).wait()

    def cancel(self, job_id: str) -> bool:
        """End a job. Its files are closed.

        One that waits ends at once, and one on the event loop is cancelled. A
        thread can only be asked (``job.cancelled``): the job is ``running``
        until its thread has returned.

        Args:
            job_id: Which.

        Returns:
            Whether there was something to end: False if it is done.

        Raises:
            JobNotFound: It is not known.
            NotRunning: It waits for its request, and no runner is there.
        """
        job = self._known(job_id)
        runner = job._runner or self._runner()
        if job.done:
            return False
        if runner is None:
            raise NotRunning(NOT_RUNNING)
        return runner.cancel(job)

    def retry(self, job_id: str) -> bool:
        """Let a job have another attempt now: one that waits for it, or one that has failed.

        The files of a job that has failed are gone, but for the last ones:
        as many as ``Uploads(keep_failed=...)`` says.

        Args:
            job_id: Which.

        Returns:
            Whether there was something to do: False if it waits or runs.

        Raises:
            JobNotFound: It is not known.
            UploadClosed: It is done, and its files are gone.
            NotRunning: No runner is there.
        """
        job = self._known(job_id)
        if not job.done:
            return job._runner is not None and job._runner.hurry(job)
        runner = self._runner()
        if runner is None:
            raise NotRunning(NOT_RUNNING)
        again = runner.call(partial(self._run_again, runner, job), instead=None)
        if again is None:
            raise NotRunning(NOT_RUNNING)
        if not again:
            raise UploadClosed(
                f"The job {job.id} is {job.state.value} and has let go of its files. "
                + (_RETRY_KEPT if self._kept else _KEEP_FAILED)
            )
        return True

    # In a spool

    async def find(self, job_id: str) -> Job[Any] | KeptJob | None:
        """Look for a job, in the spool too: that of another process, or of an earlier start.

        Args:
            job_id: Which.

        Returns:
            The job; None if it is nowhere. Both kinds tell the same by the same names.

        Raises:
            NotRunning: There is a spool, and no runner to look into it.

        Cancellation: a thread finishes looking.
        """
        job = self._history.get(job_id)
        if job is not None and _is_here(job):
            await checkpoint()
            return job
        keeper = self._keeper()
        if keeper is None:
            await checkpoint()
            return job
        return _latest(job, await keeper.find(job_id))

    async def find_all(
        self, *, state: JobState | str | None = None, handler: str | None = None
    ) -> Sequence[Job[Any] | KeptJob]:
        """Return all jobs that are known or in the spool, whichever process has them.

        Args:
            state: Only those in this state.
            handler: Only those of the handler of this name.

        Raises:
            ValueError: There is no such state.
            NotRunning: There is a spool, and no runner to look into it.

        Cancellation: a thread finishes looking.
        """
        wanted = None if state is None else JobState(state)
        keeper = self._keeper()
        kept: dict[str, KeptJob] = {}
        if keeper is None:
            await checkpoint()
        else:
            kept = await keeper.find_all(wanted, handler, {job.id for job in self})
        known = {job.id: job for job in self.list(handler=handler)}
        latest = (_latest(known.get(job_id), kept.get(job_id)) for job_id in {**kept, **known})
        found = [job for job in latest if job is not None and wanted in (None, job.state)]
        return sorted(found, key=lambda job: job.created_at)

    async def retry_kept(self, job_id: str) -> bool:
        """Let a job that has failed be run again, by whichever process has a place for it.

        Args:
            job_id: Which; it may have failed in another process, or before the last start.

        Returns:
            Whether it has failed, and is in the spool.

        Raises:
            NotRunning: No runner is there.

        Cancellation: a thread finishes it.
        """
        keeper = self._keeper()
        again = keeper is not None and await keeper.retry(job_id)
        runner = self._runner()
        if again and runner is not None:
            runner.call(runner.executor.look_soon, instead=None)
        return again

    async def cancel_kept(self, job_id: str) -> bool:
        """End a job that waits in the spool, for its first attempt or another.

        Args:
            job_id: Which; any process may have submitted it.

        Returns:
            Whether there was something to end: False if it is at work, done or unknown.

        Raises:
            NotRunning: No runner is there.

        Cancellation: a thread finishes it.
        """
        keeper = self._keeper()
        return keeper is not None and await keeper.cancel(job_id)

    async def purge(
        self, *, state: JobState | str | None = None, before: datetime | None = None
    ) -> int:
        """Forget jobs in the spool that are done, and remove the files of those that have failed.

        Args:
            state: Only those in this state.
            before: Only those that were done before.

        Returns:
            How many they were.

        Raises:
            ValueError: There is no such state.
            NotRunning: There is a spool, and no runner to look into it.

        Cancellation: a thread finishes it.
        """
        keeper = self._keeper()
        if keeper is None:
            return 0
        return await keeper.purge(
            None if state is None else JobState(state),
            None if before is None else before.timestamp(),
        )

    def _keeper(self) -> Keeper | None:
        runner = self._runner()
        if runner is None and self._kept:
            raise NotRunning(NOT_RUNNING)
        return None if runner is None else runner.keeper

    def _run_again(self, runner: Runner, job: Job[Any]) -> bool:
        if not (job.done and job._has_uploads):
            return False
        self._history.revive(job)
        job._run_again()
        if not runner.publish(job):  # it is shutting down
            job._cancel("shutdown")
        return True

    def _known(self, job_id: str) -> Job[Any]:
        job = self._history.get(job_id)
        if job is None:
            raise JobNotFound(
                f"No job {job_id!r} is known here. Those that are done are forgotten after a "
                "while: Uploads(job_history=...)." + (_ELSEWHERE if self._kept else "")
            )
        return job


def _is_here(job: Job[Any]) -> bool:
    """Whether no other process can have it."""
    return not job.done and job._has_uploads


def _latest(job: Job[Any] | None, kept: KeptJob | None) -> Job[Any] | KeptJob | None:
    """Return what is true of a job: as it is known here, which tells more, or as it is kept."""
    if job is None or kept is None or _is_here(job):
        return job or kept
    return job if (job.state, job.attempt) == (kept.state, kept.attempt) else kept
