"""The jobs that this owner has, and where they are."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager
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
        self._held = set[str]()
        self._lock = threading.Lock()
        self._let_go = threading.Condition(self._lock)

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

    @contextmanager
    def held(self, job_id: str) -> Generator[Owned, None, None]:
        """Have a job for oneself: what another thread does with it comes before, or after.

        An app that is cut off gives a job back while the thread that notes its end is at work.

        Raises:
            KeyError: It is not ours, or not any more.
        """
        with self._lock:
            while job_id in self._held:
                self._let_go.wait()
            owned = self._jobs[job_id]
            self._held.add(job_id)
        try:
            yield owned
        finally:
            with self._lock:
                self._held.remove(job_id)
                self._let_go.notify_all()

    def remove(self, job_id: str) -> None:
        """Know a job no more."""
        with self._lock:
            self._jobs.pop(job_id, None)
