"""How much space is free where files are stored, and how much of it has to stay free."""

from __future__ import annotations

import errno
import os
import shutil
import sys
import time

from .over_limit import OverLimit

# For how long what was seen is good enough to refuse an upload by, in seconds.
_GOOD_FOR = 1.0


class FreeSpace:
    """How much space is free where files are stored.

    The threads that write look at it each time; so it is mostly known without a look.

    Args:
        least: The bytes that have to stay free.
    """

    def __init__(self, least: int) -> None:
        self._least = least
        self._seen: tuple[str | None, int, float] = (None, 0, -_GOOD_FOR)

    def known(self, directory: str) -> int | None:
        """Return the bytes that files in a directory may take; None if only a `look` can tell."""
        seen_in, free, at = self._seen
        if seen_in != directory or time.monotonic() - at > _GOOD_FOR:
            return None
        return free

    def look(self, directory: str) -> int:
        """Return the bytes that files in a directory may take. Blocks.

        Raises:
            OSError: The directory is gone.
        """
        return self._look(directory, directory)

    def check(self, fd: int, directory: str) -> None:
        """See that enough is free for a file that is about to grow. Blocks.

        Args:
            fd: Its descriptor.
            directory: Where it was created; it may be gone.

        Raises:
            OverLimit: Less is free than has to stay free (ENOSPC).
            OSError: The system does not tell.
        """
        if self._least and self._look(fd if os.name == "posix" else directory, directory) < 0:
            raise self.over(directory)

    def over(self, directory: str) -> OverLimit:
        """Make the error for what leaves less."""
        return OverLimit(
            errno.ENOSPC,
            f"Less than min_free_space, {self._least:,} bytes, would stay free",
            directory,
        )

    def _look(self, place: int | str, directory: str) -> int:
        total, _, free = shutil.disk_usage(place)
        # Some filesystems in user space don't tell.
        left = free - self._least if total else sys.maxsize
        self._seen = (directory, left, time.monotonic())
        return left
