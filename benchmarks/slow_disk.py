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


def slow_down() -> None:
    """Let files be written no faster than such a disk can, in this process and for good."""
    for name in ("write", "writev", "pwrite", "pwritev"):
        if hasattr(os, name):
            setattr(os, name, _slow(getattr(os, name)))
    # Starlette's files are written by C, which does not ask `os`.
    setattr(starlette.formparsers, SpooledTemporaryFile.__name__, _SlowFile)


def _slow(write: Callable[..., int]) -> Callable[..., int]:
    def slow_write(*arguments: Any, **options: Any) -> int:
        written = write(*arguments, **options)
        time.sleep(written / BYTES_PER_SECOND)
        return written

    return slow_write


class _SlowFile(SpooledTemporaryFile[bytes]):
    def write(self, s: Any) -> int:
        written = super().write(s)
        if getattr(self, "_rolled", True):
            time.sleep(written / BYTES_PER_SECOND)
        return written
