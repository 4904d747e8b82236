"""Know whether a file that others can reach has been changed."""

from __future__ import annotations

import mmap
import os
import time
from typing import NamedTuple

_PROBE = b"probe"


class ChangeMark(NamedTuple):
    """A file's size, and a time of change that no later change gives it again.

    The kernel stamps a change with the tick of its clock (inode(7)); the mark
    is of the precise clock, so the two meet by a chance of one in millions.
    """

    modified_ns: int
    size: int

    @classmethod
    def put(cls, fd: int) -> ChangeMark | None:
        """Mark a file as it is now.

        Args:
            fd: A descriptor of it, of its owner's.

        Returns:
            The mark; None if the filesystem's times are too coarse for one.

        Raises:
            OSError: It may not be marked.
        """
        now = time.time_ns()
        os.utime(fd, ns=(now, now))
        mark = cls.of(fd)
        return mark if mark.modified_ns == now else None

    @classmethod
    def of(cls, fd: int) -> ChangeMark:
        """Read what a file tells of its last change."""
        status = os.fstat(fd)
        return cls(status.st_mtime_ns, status.st_size)


def marks_tell(fd: int) -> bool:
    """Try out whether a filesystem tells of every change, one through memory (mmap) included.

    A tmpfs does not: it makes a page writable for the program that reads it.

    Args:
        fd: A descriptor of a new and empty file there, open for reading and writing.

    Raises:
        OSError: No space is left for a few bytes.
    """
    os.write(fd, _PROBE)
    mark = ChangeMark.put(fd)
    try:
        with mmap.mmap(fd, len(_PROBE)) as memory:
            memory[0] = memory[-1]  # read before it is written
            return mark is not None and ChangeMark.of(fd) != mark
    except OSError:
        return True  # what can't be mapped can't be changed so
