"""The jobs that this owner has, and where they are."""

from __future__ import annotations

import threading
from typing import NamedTuple

from .entry import Entry


class Owned(NamedTuple):
    """A job of ours.

    Attributes:
        directory: Where its entry is.
        entry: Its entry.
    """

    directory: str
    entry: Entry

    @property
    def path(self) -> str:
        """The path of its entry."""
        return f"{self.directory}/{self.entry.name}"


class OwnedJobs:
    """Knows where each job of ours is. For any thread."""

    def __init__(self) -> None:
        self._jobs: dict[str, Owned] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._jobs)

    def add(self, directory: str, entry: Entry) -> None:
        """Know a job, or that it has moved."""
        with self._lock:
            self._jobs[entry.id] = Owned(directory, entry)

    def get(self, job_id: str) -> Owned:
        """Return where a job is.

        Raises:
            KeyError: It is not ours.
        """
        with self._lock:
            return self._jobs[job_id]

    def remove(self, job_id: str) -> None:
        """Know a job no more."""
        with self._lock:
            self._jobs.pop(job_id, None)
