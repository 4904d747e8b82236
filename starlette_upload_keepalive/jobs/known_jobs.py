"""What an app may ask about its jobs, and ask of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from starlette_upload_keepalive.exceptions import JobNotFound, NotRunning, UploadClosed

from .history import JobHistory
from .job import Job
from .job_state import JobState
from .runner import Runner
from .stage import NOT_RUNNING


class Jobs:
    """The jobs of an app: those that are not done, and the last that are.

    It is ``uploads.jobs``. Everything but `wait` may be called from any thread,
    and iterating goes over the jobs, the oldest first.

    Args:
        history: Those that are known.
        runner: Returns what runs the app's jobs, if it does.
    """

    def __init__(self, history: JobHistory, runner: Callable[[], Runner | None]) -> None:
        self._history = history
        self._runner = runner

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
                "Uploads(keep_failed=...) lets the last jobs that failed keep theirs."
            )
        return True

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
                f"No job {job_id!r} is known. Those that are done are forgotten after a while: "
                "Uploads(job_history=...)."
            )
        return job
