"""One file on disk that belongs to us alone."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from starlette_upload_keepalive.exceptions import UploadChanged

from .change_mark import ChangeMark

if TYPE_CHECKING:
    from typing_extensions import Self

# The kernel's limit of buffers for one writev(2), and the least that POSIX allows it to be.
_IOV_MAX = 1024
_DESCRIPTORS = "/proc/self/fd"
# What open(2) says where the system or the filesystem knows no O_TMPFILE.
_NO_ANONYMOUS_FILES = {errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL}


class PrivateFile:
    """An open file, readable and writable by this user alone.

    Where the system can, the file has no name (``O_TMPFILE``, open(2)): a crash
    leaves nothing behind. Elsewhere it has a random name until it is closed.

    Args:
        fd: A descriptor open for reading and writing. The file owns it.
        name: The file's name, if it has one.
        ours: Whether nobody else has it open.
        kept: Whether it bears a name besides, by which others read it who never change it.
    """

    __slots__ = ("_fd", "_given", "_name", "kept", "ours")

    def __init__(
        self, fd: int, name: str | None = None, *, ours: bool = True, kept: bool = False
    ) -> None:
        self._fd = fd
        self._name = name
        self.ours: bool = ours
        self.kept: bool = kept
        self._given: tuple[Path, ChangeMark] | None = None

    @classmethod
    def create(cls, directory: str) -> Self:
        """Create a file without a name, or with one where the system needs one.

        Args:
            directory: Where the bytes are to lie.

        Raises:
            OSError: The directory can't be written, or no descriptor is left.
        """
        try:
            return cls.anonymous(directory)
        except NotImplementedError:
            return cls.named(directory)

    @classmethod
    def anonymous(cls, directory: str) -> Self:
        """Create a file without a name.

        Raises:
            NotImplementedError: The system or the filesystem can't.
            OSError: The directory can't be written, or no descriptor is left.
        """
        # Without O_EXCL, so that the file may be given a name later on.
        flags = getattr(os, "O_TMPFILE", None)
        if flags is None or not os.path.isdir(_DESCRIPTORS):
            raise NotImplementedError("This system can't reopen a file without a name.")
        try:
            return cls(os.open(directory, flags | os.O_RDWR, 0o600))
        except OSError as error:
            if error.errno in _NO_ANONYMOUS_FILES:
                raise NotImplementedError(f"{directory} has no files without a name.") from error
            raise

    @classmethod
    def named(cls, directory: str) -> Self:
        """Create a file with a random name, which goes when the file is closed.

        Raises:
            OSError: The directory can't be written, or no descriptor is left.
        """
        fd, name = tempfile.mkstemp(prefix="upload-", dir=directory)
        return cls(fd, name)

    @classmethod
    def adopt(cls, fd: int) -> Self:
        """Take over a file that another descriptor has open, under an own one.

        Args:
            fd: A descriptor of a file without a name. It stays its owner's.

        Raises:
            NotImplementedError: The system can't reopen a descriptor.
        """
        if not os.path.isdir(_DESCRIPTORS):
            raise NotImplementedError("This system can't reopen a file without a name.")
        return cls(os.open(f"{_DESCRIPTORS}/{fd}", os.O_RDONLY), ours=False)

    def write(self, buffers: Sequence[bytes | bytearray | memoryview]) -> None:
        """Append all bytes of the buffers.

        Raises:
            OSError: The device is full or failed; some bytes may be written.
        """
        for start in range(0, len(buffers), _IOV_MAX):
            batch = buffers[start : start + _IOV_MAX]
            written = _writev(self._fd, batch)
            if written < sum(map(len, batch)):
                rest = memoryview(b"".join(batch))[written:]
                while rest:
                    rest = rest[os.write(self._fd, rest) :]

    def reopen(self) -> int:
        """Open the file once more, read-only and with a position of its own.

        A ``dup`` would share the position (dup(2)).

        Raises:
            UploadChanged: It was given away, and has been changed since.
            OSError: No descriptor is left.
        """
        self.check_unchanged()
        descriptor = f"{_DESCRIPTORS}/{self._fd}"
        try:
            return os.open(self._name or descriptor, os.O_RDONLY | _BINARY)
        except FileNotFoundError:  # its name was taken away just now, by a save or a tidy hand
            return os.open(descriptor, os.O_RDONLY | _BINARY)

    def fileno(self) -> int:
        """Return its descriptor, which stays the file's own."""
        return self._fd

    def duplicate(self) -> int:
        """Return another descriptor for reading and writing, sharing the position."""
        return os.dup(self._fd)

    def link(self, path: Path) -> None:
        """Give the file one more name, without a copy.

        Raises:
            OSError: The path exists, or lies on another filesystem.
            NotImplementedError: The system has no links.
        """
        if self._name is not None:
            os.link(self._name, path)
            return
        # linkat(2): the descriptor's number, relative to the directory of descriptors.
        # A link to "/proc/self/fd/N" as one path fails with EXDEV.
        descriptors = os.open(_DESCRIPTORS, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.link(str(self._fd), path, src_dir_fd=descriptors, follow_symlinks=True)
        finally:
            os.close(descriptors)

    @property
    def given(self) -> bool:
        """Whether it is a file of the user's, too."""
        return self._given is not None

    def give(self, path: Path) -> bool:
        """Be a file of the user's from now on, who may change it; we no longer can.

        Args:
            path: The name by which the user knows it.

        Returns:
            Whether it could be marked, so that changes will be seen.

        Raises:
            OSError: It may not be marked, or no descriptor is left.
        """
        if not os.path.isdir(_DESCRIPTORS):
            return False  # without its own name it could not be opened any more
        mark = ChangeMark.put(self._fd)
        if mark is None:
            return False
        # A file that somebody may write to can't be executed (execve(2), ETXTBSY).
        read_only = self.reopen()
        try:
            os.dup2(read_only, self._fd, inheritable=False)
        finally:
            os.close(read_only)
        self._given = path, mark
        return True

    def take_back(self) -> None:
        """Be ours alone again: the user has not got it."""
        self._given = None

    def check_unchanged(self) -> None:
        """See whether its bytes are those that were written.

        Raises:
            UploadChanged: It was given away, and has been changed since.
        """
        if self._given is not None:
            path, mark = self._given
            if ChangeMark.of(self._fd) != mark:
                raise UploadChanged(path)

    def unlink(self) -> None:
        """Take the name away, where there is one and the system can while it is open."""
        if self._name is not None and os.name == "posix":
            self._remove_name(self._name)

    def close(self) -> None:
        """Close the file; its bytes are gone."""
        try:
            os.close(self._fd)
        finally:
            if self._name is not None:
                self._remove_name(self._name)

    def _remove_name(self, name: str) -> None:
        self._name = None
        with suppress(FileNotFoundError):  # whoever tidies the directory came first
            os.unlink(name)


_BINARY: int = getattr(os, "O_BINARY", 0)  # Windows would translate line ends


def _writev(fd: int, buffers: Sequence[bytes | bytearray | memoryview]) -> int:
    if hasattr(os, "writev"):
        return os.writev(fd, buffers)
    return os.write(fd, b"".join(buffers))
