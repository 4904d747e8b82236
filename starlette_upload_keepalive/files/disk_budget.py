"""The bytes of files that are on disk, and how many they may be."""

from __future__ import annotations

import errno
import math

from .budget import Budget
from .over_limit import OverLimit


class DiskBudget(Budget):
    """Bytes on disk that all uploads of a storage share.

    Args:
        limit: The most that there may be, in bytes; any number if None.

    Attributes:
        used: Those of files that are open here.
        waiting: Those of jobs that wait in a spool, as last seen.
    """

    def __init__(self, limit: int | None = None) -> None:
        super().__init__(math.inf if limit is None else limit)
        self.waiting: int = 0

    @property
    def left(self) -> float:
        """How many more there may be."""
        return self.limit - self.used - self.waiting

    def over(self) -> OverLimit:
        """Make the error for what is more than that (EDQUOT)."""
        return OverLimit(
            errno.EDQUOT, f"Uploads would have more than max_disk_bytes, {self.limit:,}"
        )
