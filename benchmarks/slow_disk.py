"""A disk that is slow: each write sleeps in its thread, as one does that waits for a disk."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from tempfile import SpooledTemporaryFile
from typing import Any

import starlette.formparsers

from .forms import MB

BYTES_PER_SECOND = 250 * MB


class SlowDisk:
    """It counts what is written.

    Attributes:
        written: The bytes so far.
    """

    def __init__(self) -> None:
        self.written = 0

    def take(self, size: int) -> None:
        """Take as long as such a disk does for that many bytes."""
        self.written += size
        time.sleep(size / BYTES_PER_SECOND)


def slow_down() -> SlowDisk:
    """Let all files be written to such a disk, in this process and for good."""
    disk = SlowDisk()
    for name in ("write", "writev", "pwrite", "pwritev"):
        if hasattr(os, name):
            setattr(os, name, _slow(getattr(os, name), disk))

    class SlowFile(SpooledTemporaryFile[bytes]):
        def write(self, s: Any) -> int:
            written = super().write(s)
            if getattr(self, "_rolled", True):
                disk.take(written)
            return written

    # Starlette's files are written by C, which does not ask `os`.
    setattr(starlette.formparsers, SpooledTemporaryFile.__name__, SlowFile)
    return disk


def _slow(write: Callable[..., int], disk: SlowDisk) -> Callable[..., int]:
    def slow_write(*arguments: Any, **options: Any) -> int:
        written = write(*arguments, **options)
        disk.take(written)
        return written

    return slow_write
