"""Bytes in memory as a read-only file."""

from __future__ import annotations

import io
import os
import tempfile
from typing import IO, NoReturn

_READ_ONLY = "the file of an upload is read-only; await upload.write() changes a private copy"


class MemoryFile(io.BytesIO):
    """A read-only file on bytes that it shares and does not copy.

    Args:
        data: The bytes.
    """

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._on_disk: IO[bytes] | None = None

    def fileno(self) -> int:
        """Return a descriptor at the same position, of a copy on disk.

        A subprocess wants one for its stdin. A ``SpooledTemporaryFile`` moves
        to the disk for that, too.
        """
        position = self.tell()
        if self._on_disk is None:
            self._on_disk = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115
            self._on_disk.write(self.getvalue())
        descriptor = self._on_disk.fileno()
        os.lseek(descriptor, position, os.SEEK_SET)
        return descriptor

    def close(self) -> None:
        """Close it, and the copy on disk if there is one."""
        super().close()
        if self._on_disk is not None:
            self._on_disk.close()

    def writable(self) -> bool:
        """Return False."""
        return False

    def write(self, *_: object) -> NoReturn:
        """Refuse."""
        raise io.UnsupportedOperation(f"write: {_READ_ONLY}")

    def writelines(self, *_: object) -> NoReturn:
        """Refuse."""
        raise io.UnsupportedOperation(f"writelines: {_READ_ONLY}")

    def truncate(self, *_: object) -> NoReturn:
        """Refuse."""
        raise io.UnsupportedOperation(f"truncate: {_READ_ONLY}")

    def __repr__(self) -> str:
        return "<the file of an upload>"
