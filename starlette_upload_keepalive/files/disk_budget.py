"""The bytes of files that are on disk, and how many they may be."""

from __future__ import annotations

import errno
import math
import threading

from .over_limit import OverLimit


class DiskBudget:
    """Bytes on disk that all uploads of a storage share.

    Args:
        limit: The most that there may be, in bytes; any number if None.

    Attributes:
        used: Those of files that are open here.
        waiting: Those of jobs that wait in a spool, as last seen.
    """

    def __init__(self, limit: int | None = None) -> None:
        self.limit: float = math.inf if limit is None else limit
        self.used: int = 0
        self.waiting: int = 0
        self._lock = threading.Lock()

    @property
    def left(self) -> float:
        """How many more there may be."""
        return self.limit - self.used - self.waiting

    def over(self) -> OverLimit:
        """Make the error for what is more than that."""
        return OverLimit(
            errno.EDQUOT, f"Uploads would have more than max_disk_bytes, {self.limit:,}"
        )

    def take(self, size: int) -> None:
        """Take that many bytes, or none.

        Raises:
            OverLimit: They are not left (EDQUOT).
        """
        with self._lock:
            if size > self.left:
                raise self.over()
            self.used += size

    def add(self, size: int) -> None:
        """Count bytes that are on disk already."""
        with self._lock:
            self.used += size

    def give_back(self, size: int) -> None:
        """Return that many bytes."""
        with self._lock:
            self.used -= size
