"""The jobs that are known: all that are not done, and the last that are."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator
from typing import Any

from .job import Job
from .job_state import DONE, JobState


class JobHistory:
    """Remembers jobs.

    Args:
        limit: How many jobs that are done are remembered.
        keep_failed: How many of those that failed keep their files, to be run again.
    """

    def __init__(self, limit: int, keep_failed: int = 0) -> None:
        self._limit = limit
        self._keep_failed = keep_failed
        self._jobs: dict[str, Job[Any]] = {}
        self._done: OrderedDict[str, Job[Any]] = OrderedDict()
        self._kept: dict[str, Job[Any]] = {}
        self._done_by_state: Counter[JobState] = Counter()

    def get(self, job_id: str) -> Job[Any] | None:
        """Return a job, or None if it is not known (any more)."""
        return self._jobs.get(job_id)

    def __iter__(self) -> Iterator[Job[Any]]:
        """Go over the known jobs, the oldest first."""
        return iter(list(self._jobs.values()))

    def __len__(self) -> int:
        return len(self._jobs)

    @property
    def pending(self) -> int:
        """How many of the known jobs are not done."""
        return len(self._jobs) - len(self._done)

    def counts(self) -> dict[JobState, int]:
        """Count the jobs by state: those not done as they are now, the others ever since."""
        counts = dict.fromkeys(JobState, 0)
        counts.update(self._done_by_state)
        for job in self:
            if job.state not in DONE:
                counts[job.state] += 1
        return counts

    def add(self, job: Job[Any]) -> None:
        """Know a job from now on, in place of one that was done and is run again."""
        former = self._done.pop(job.id, None)
        if former is not None:
            self._done_by_state[former.state] -= 1
        self._jobs[job.id] = job

    def forget(self, job: Job[Any]) -> None:
        """Know a job no longer: it could not be submitted."""
        self._jobs.pop(job.id, None)
        if self._done.pop(job.id, None) is not None:
            self._done_by_state[job.state] -= 1

    def mark_done(self, job: Job[Any]) -> bool:
        """Count a job that is done, and forget the oldest such.

        Returns:
            Whether it keeps its files, to be run again.
        """
        self._done_by_state[job.state] += 1
        self._done[job.id] = job
        while len(self._done) > self._limit:
            forgotten, _ = self._done.popitem(last=False)
            self._jobs.pop(forgotten, None)
            self._stop_keeping(forgotten)
        if self._limit == 0 or job.state is not JobState.FAILED or not self._keep_failed:
            return False
        self._kept[job.id] = job
        if len(self._kept) > self._keep_failed:
            self._stop_keeping(next(iter(self._kept)))
        return True

    def revive(self, job: Job[Any]) -> None:
        """Take back that a job is done: it is run again."""
        self._done.pop(job.id, None)
        self._kept.pop(job.id, None)
        self._done_by_state[job.state] -= 1
        self._jobs[job.id] = job

    def let_go(self) -> None:
        """Let go of the files that failed jobs have kept."""
        for job_id in list(self._kept):
            self._stop_keeping(job_id)

    def _stop_keeping(self, job_id: str) -> None:
        job = self._kept.pop(job_id, None)
        if job is not None:
            job._let_go()
