"""Removing what is needed no more: bytes of jobs that are done, old records, trash."""

from __future__ import annotations

import time
from contextlib import suppress

from .disk import Disk
from .entry import Entry
from .layout import DONE, ENDING, RECORD, TRASH
from .obstacles import Obstacles
from .writing import remove, throw_away


class Sweeping:
    """Removes what is needed no more. Any number of processes may do so at once.

    Args:
        disk: Where.
        keep_done: How many jobs that are done keep their record.
        keep_done_seconds: For how long they do.
        obstacles: What can't be removed.
    """

    def __init__(
        self, disk: Disk, keep_done: int, keep_done_seconds: float, obstacles: Obstacles
    ) -> None:
        self._disk = disk
        self._obstacles = obstacles
        self._keep_done = keep_done
        self._keep_done_seconds = keep_done_seconds
        self._stripped = set[str]()

    def run(self) -> None:
        """Remove it.

        Raises:
            OSError: The disk failed.
        """
        disk = self._disk
        done = [entry for entry in map(Entry.parse, disk.names(DONE)) if entry is not None]
        done.sort(key=lambda entry: entry.standing.due, reverse=True)
        oldest = time.time() - self._keep_done_seconds
        # What a power cut may bring back must be whole: so the bytes stay until it can't.
        disk.sync_directory(DONE)
        stripped = set[str]()
        for number, entry in enumerate(done):
            path = f"{DONE}/{entry.name}"
            with self._obstacles.passed(path):
                if number >= self._keep_done or entry.standing.due < oldest:
                    throw_away(disk, path)
                else:
                    if entry.name not in self._stripped:
                        _strip(disk, path)
                    stripped.add(entry.name)
        self._stripped = stripped
        empty_trash(disk, self._obstacles)


def empty_trash(disk: Disk, obstacles: Obstacles) -> None:
    """Free what was thrown away. Any number of processes may do so at once.

    Args:
        disk: Where.
        obstacles: What can't be removed.

    Raises:
        OSError: The disk failed.
    """
    trash = disk.names(TRASH)
    disk.sync_directory(TRASH)
    for name in trash:
        path = f"{TRASH}/{name}"
        with obstacles.passed(path):
            remove(disk, path)


def _strip(disk: Disk, path: str) -> None:
    """Leave nothing but the record and what came of the job."""
    with suppress(FileNotFoundError, NotADirectoryError):  # gone, or not ours
        for name in disk.names(path):
            if name not in (RECORD, ENDING):
                remove(disk, f"{path}/{name}")
