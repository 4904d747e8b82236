"""Where the bytes of uploads live, and how much of what they may take."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Protocol

from starlette_upload_keepalive.quantities import MIB, check_least

from .budget import Budget
from .change_mark import marks_tell
from .disk_budget import DiskBudget
from .filesystem import SpoolAdvice
from .free_space import FreeSpace
from .open_files import OpenFiles
from .owner import Owner
from .private_file import PrivateFile
from .threads import Closer, WorkerThreads


class OpenBlob(Protocol):
    """A stored file that somebody owns, as its storage sees it."""

    @property
    def size(self) -> int:
        """Its bytes so far."""
        ...

    @property
    def in_memory(self) -> bool:
        """Whether they are in memory."""
        ...

    @property
    def field_name(self) -> str | None:
        """The form field that it came in, if it did."""
        ...

    @property
    def filename(self) -> str | None:
        """What the client called it, if it did."""
        ...

    @property
    def owners(self) -> list[str]:
        """The names of those who own it."""
        ...

    @property
    def held_by(self) -> list[Owner]:
        """Those who own it."""
        ...


class Storage:
    """What blobs share: the memory budget, the directory, the threads.

    Args:
        memory_max_size: The size in bytes up to which a file stays in memory.
        memory_budget: The bytes of memory that all files may take together, those
            in memory and what is not yet written of others. A file that finds too
            little left goes to disk, whatever its size, and in small pieces.
        directory: Where larger files and paths lie; the system's default if None.
        io_threads: How many worker threads may read and write at once; None
            shares anyio's forty with sync endpoints, for a storage of one file.
        sha256: Hash files on disk while they are written.
        max_open_files: How many of the larger ones may be open at once; half of
            what the process may open if None.
        max_disk_bytes: The bytes that they may have together; any number if None.
        min_free_space: The bytes that are to stay free where they lie.

    Raises:
        ValueError: A number is no whole number or too small, or the directory
            does not exist or can't be written.
    """

    def __init__(
        self,
        *,
        memory_max_size: int = MIB,
        memory_budget: int = 64 * MIB,
        directory: str | Path | None = None,
        io_threads: int | None = 8,
        sha256: bool = False,
        max_open_files: int | None = None,
        max_disk_bytes: int | None = None,
        min_free_space: int = 0,
    ) -> None:
        check_least("memory_max_size", memory_max_size, 0, " bytes")
        check_least("memory_budget", memory_budget, 0, " bytes")
        if io_threads is not None:
            check_least("io_threads", io_threads, 1)
        if directory is not None and not Path(directory).is_dir():
            raise ValueError(f"directory {str(directory)!r} is no directory: create it first.")
        if directory is not None and not os.access(directory, os.W_OK | os.X_OK):
            raise ValueError(f"directory {str(directory)!r} can't be written: allow this user to.")
        self.memory_max_size = memory_max_size
        self.memory: Budget = Budget(memory_budget)
        self.open_files: OpenFiles = OpenFiles(max_open_files)
        self.disk: DiskBudget = DiskBudget(max_disk_bytes)
        self.free_space: FreeSpace = FreeSpace(min_free_space)
        self.threads: WorkerThreads = WorkerThreads(io_threads)
        self.closer: Closer = Closer()
        self.sha256: bool = sha256
        # A storage of one file is one of many.
        self.advice: SpoolAdvice = SpoolAdvice(silent=io_threads is None)
        self._marks_tell: dict[int, bool] = {}
        # Without a lock: all that is done to it is one step of the interpreter each time.
        self._blobs: set[OpenBlob] = set()
        # As it is now: paths in it are for programs that may work in another directory.
        self._directory = None if directory is None else os.path.abspath(directory)
        self._is_fixed = directory is not None

    @property
    def directory(self) -> str:
        """Where files lie that are too large for memory."""
        return self._directory or tempfile.gettempdir()

    def move_to(self, directory: str | None) -> None:
        """Have further files lie elsewhere, unless the user has said where.

        Args:
            directory: Where; the system's default again if None.
        """
        if not self._is_fixed:
            self._directory = directory

    def create_file(self) -> PrivateFile:
        """Create a file for a blob. Blocks.

        Raises:
            OSError: The directory can't be written, or no descriptor is left.
        """
        directory = self.directory
        if self._directory is None:
            self.advice.default_used(directory)
        if not self.open_files.take(1):
            raise self.open_files.over()
        try:
            return PrivateFile.create(directory)
        except BaseException:
            self.open_files.give_back(1)
            raise

    def close_file(self, file: PrivateFile, *, later: bool) -> None:
        """Close the file of a blob.

        Args:
            file: The file, created here or adopted.
            later: Have a thread close it, which takes the time.
        """
        self.open_files.give_back(1)
        if later:
            self.closer.close(file.close)
        else:
            file.close()

    def take_space(self, file: PrivateFile, size: int) -> None:
        """Take space for a file that is about to grow. Blocks.

        Args:
            file: The file.
            size: By how many bytes, to be given back to `disk`.

        Raises:
            OverLimit: Less than has to would stay free (ENOSPC), or there would be more
                than may be (EDQUOT).
            OSError: The system does not tell what is free.
        """
        self.free_space.check(file.fileno(), self.directory)
        if not self.disk.take(size):
            raise self.disk.over()

    def marks_tell(self, file: PrivateFile) -> bool:
        """Return whether it would be seen if the user changed one of our files. Blocks once.

        Raises:
            OSError: It can't be tried out.
        """
        device = os.fstat(file.fileno()).st_dev
        if device not in self._marks_tell:
            probe = PrivateFile.create(self.directory)
            try:
                self._marks_tell[device] = marks_tell(probe.fileno())
            finally:
                probe.close()
        return self._marks_tell[device]

    @property
    def blobs(self) -> list[OpenBlob]:
        """The blobs that somebody owns."""
        return list(self._blobs)

    @property
    def open_blobs(self) -> int:
        """How many they are."""
        return len(self._blobs)

    def add(self, blob: OpenBlob) -> None:
        """Know a blob that was opened."""
        self._blobs.add(blob)

    def remove(self, blob: OpenBlob) -> None:
        """Know a blob no more: it was closed."""
        self._blobs.discard(blob)
