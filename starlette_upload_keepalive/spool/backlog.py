"""The jobs that wait in a spool: which they are, how many, and how many bytes they have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Sequence
from contextlib import suppress

from starlette_upload_keepalive.jobs.spool import WaitingJob

from .disk import Disk
from .entry import Entry, glance
from .layout import READY


class Backlog:
    """The jobs that wait, as they were at the last look.

    Attributes:
        jobs: How many they are.
        strange: The names of what is there and is no job.
    """

    def __init__(self) -> None:
        self._names: Sequence[str] = ()
        self._sizes: dict[str, int] = {}
        self.jobs: int = 0
        self.strange: Sequence[str] = ()

    def look(self, disk: Disk, most: int | None, left_alone: Container[str]) -> list[WaitingJob]:
        """Return the earliest jobs of each handler.

        Args:
            disk: Where they are.
            most: How many are wanted of each; None for all.
            left_alone: The names of those that are not wanted.
        """
        waiting: list[WaitingJob] = []
        strange: list[str] = []
        found = Counter[str]()
        self._names = sorted(disk.names(READY))
        self.jobs = len(self._names)
        for name in self._names:
            _, key = glance(name)
            if found[key] == most or name in left_alone:
                continue
            entry = Entry.parse(name)
            if entry is None or entry.state != "w":
                strange.append(name)
            else:
                found[key] += 1
                waiting.append(WaitingJob(entry.id, entry.key, entry.standing))
        self.strange = strange
        return waiting

    def measure(self, disk: Disk) -> int:
        """Return how many bytes the jobs have. Each is looked into once.

        Args:
            disk: Where they are.
        """
        known = self._sizes
        self._sizes = {
            name: known[name] if name in known else _size(disk, name) for name in self._names
        }
        return sum(self._sizes.values())


def _size(disk: Disk, name: str) -> int:
    path = f"{READY}/{name}"
    size = 0
    # It was claimed meanwhile, or is no job.
    with suppress(FileNotFoundError, NotADirectoryError):
        for each in disk.names(path):
            size += disk.size(f"{path}/{each}")
    return size
