"""The SHA-256 of stored bytes, computed once."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence
from typing import BinaryIO

from .chunks import chunks_of


class Checksum:
    """The SHA-256 of bytes: of those that pass by, or else of all that a file has.

    Both block for about a second per GB, in which other threads run.
    """

    __slots__ = ("_digest", "_lock", "_passing", "_seen")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._passing = hashlib.sha256()
        self._seen = 0
        self._digest: str | None = None

    def update(self, buffers: Sequence[bytes | bytearray | memoryview]) -> None:
        """Hash bytes as they pass by, in their order."""
        with self._lock:
            for buffer in buffers:
                self._passing.update(buffer)
                self._seen += len(buffer)

    def of(self, source: Callable[[], BinaryIO], size: int, check: Callable[[], object]) -> str:
        """Return the hex digest of all bytes; who asks meanwhile waits for it.

        Args:
            source: Opens the bytes; called if not all of them have passed by.
            size: How many they are.
            check: Called when they were read; raises if they were changed meanwhile.

        Raises:
            OSError: They can't be read.
        """
        with self._lock:
            if self._digest is None:
                digest = self._passing
                if self._seen != size:
                    digest = _read(source())
                    check()
                self._digest = digest.hexdigest()
            return self._digest


def _read(file: BinaryIO) -> hashlib._Hash:
    digest = hashlib.sha256()
    with file:
        for chunk in chunks_of(file):
            digest.update(chunk)
    return digest
