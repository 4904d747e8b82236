"""How many files are open, and how many may be."""

from __future__ import annotations

import errno
import math
import sys

from .budget import Budget
from .over_limit import OverLimit

if sys.platform != "win32":
    import resource

# Where the system has no such limit, or no end to it.
_DEFAULT = 4096
_MOST = 65_536


class OpenFiles(Budget):
    """Files that all uploads of a storage have open.

    Each has a descriptor, of which a process may have so many: the others are for
    connections, and for those who read the files.

    Args:
        limit: How many may be open; half of what the process may open, as things are,
            if None.
    """

    def __init__(self, limit: int | None = None) -> None:
        super().__init__(math.inf if limit is None else limit)

    @property
    def most(self) -> int:
        """How many may be open at once."""
        return _half_of_all() if self.limit == math.inf else int(self.limit)

    @property
    def left(self) -> int:
        """How many more may be opened."""
        return self.most - self.used

    def over(self) -> OverLimit:
        """Make the error for one more (EMFILE)."""
        return OverLimit(
            errno.EMFILE, f"As many files are open as max_open_files allows: {self.most:,}"
        )


def _half_of_all() -> int:
    if sys.platform == "win32":
        return _DEFAULT
    # It may be raised while the process runs (getrlimit(2)).
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST if soft == resource.RLIM_INFINITY else min(soft // 2, _MOST)
