"""How many files are open, and how many may be."""

from __future__ import annotations

import errno
import sys
import threading

from .over_limit import OverLimit

if sys.platform != "win32":
    import resource

# Where the system has no such limit, or no end to it.
_DEFAULT = 4096
_MOST = 65_536


class OpenFiles:
    """Counts the files that blobs have open.

    Each has a descriptor, of which a process may have so many: the others are for
    connections, and for those who read the files.

    Args:
        limit: How many may be open; half of what the process may open if None.
    """

    def __init__(self, limit: int | None = None) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self.count: int = 0

    @property
    def limit(self) -> int:
        """How many may be open at once, as things are."""
        return _half_of_all() if self._limit is None else self._limit

    def take(self) -> None:
        """Count one that is about to be opened.

        Raises:
            OverLimit: As many as may be are open (EMFILE).
        """
        with self._lock:
            if self.count >= (limit := self.limit):
                raise self.over(limit)
            self.count += 1

    def over(self, limit: int) -> OverLimit:
        """Make the error for one more."""
        return OverLimit(
            errno.EMFILE, f"As many files are open as max_open_files allows: {limit:,}"
        )

    def add(self) -> None:
        """Count one that is open already."""
        with self._lock:
            self.count += 1

    def give_back(self) -> None:
        """Count one less: it is closed."""
        with self._lock:
            self.count -= 1


def _half_of_all() -> int:
    if sys.platform == "win32":
        return _DEFAULT
    # It may be raised while the process runs (getrlimit(2)).
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST if soft == resource.RLIM_INFINITY else min(soft // 2, _MOST)
