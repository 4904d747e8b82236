"""The jobs that are known: all that are not done, and the last that are."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from typing import Any

from .job import DONE, Job, JobState


class JobHistory:
    """Looks jobs up by id.

    Args:
        limit: How many jobs that are done are remembered.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._jobs: dict[str, Job[Any]] = {}
        self._done: deque[str] = deque()
        self._done_by_state: Counter[JobState] = Counter()

    def get(self, job_id: str) -> Job[Any] | None:
        """Return a job, or None if it is not known (any more)."""
        return self._jobs.get(job_id)

    def __iter__(self) -> Iterator[Job[Any]]:
        """Go over the known jobs, the oldest first."""
        return iter(list(self._jobs.values()))

    def __len__(self) -> int:
        return len(self._jobs)

    def counts(self) -> dict[JobState, int]:
        """Count the jobs by state: those not done as they are now, the others ever since."""
        counts = dict.fromkeys(JobState, 0)
        counts.update(self._done_by_state)
        for job in self:
            if job.state not in DONE:
                counts[job.state] += 1
        return counts

    def add(self, job: Job[Any]) -> None:
        """Know a job from now on."""
        self._jobs[job.id] = job

    def forget(self, job: Job[Any]) -> None:
        """Know a job no longer: it could not be submitted."""
        self._jobs.pop(job.id, None)

    def mark_done(self, job: Job[Any]) -> None:
        """Count a job that is done, and forget the oldest such."""
        self._done_by_state[job.state] += 1
        self._done.append(job.id)
        while len(self._done) > self._limit:
            self._jobs.pop(self._done.popleft(), None)
