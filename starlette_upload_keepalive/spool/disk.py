"""Every step that a spool takes on the disk: one method each.

So each can be recorded, made to fail, and be replayed as a power cut would
leave it. All paths are relative to the root, which is held open: they mean the
same files whatever becomes of its name.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from starlette_upload_keepalive.files.blob import Blob
from starlette_upload_keepalive.files.copying import copy
from starlette_upload_keepalive.files.private_file import PrivateFile
from starlette_upload_keepalive.files.storage import Storage
from starlette_upload_keepalive.jobs.record import UnreadableRecord

_FILE = 0o600
_READ_ONLY = 0o400
_DIRECTORY = 0o700
_DESCRIPTORS = "/dev/fd"  # on Linux and macOS
# What link(2) says of another filesystem, of one without links, of too many, or without /proc.
_NO_LINK = {
    errno.EXDEV,
    errno.EPERM,
    errno.EACCES,
    errno.EOPNOTSUPP,
    errno.ENOSYS,
    errno.EMLINK,
    errno.ENOENT,
}


class Disk:
    """A directory of ours. All of it blocks.

    Args:
        root: The directory.
    """

    def __init__(self, root: Path) -> None:
        self.root: Path = root.absolute()  # whatever becomes the working directory
        self._fd = -1

    def open(self) -> None:
        """Hold the root open.

        Raises:
            OSError: It is missing, or is no directory, or a symbolic link.
        """
        self._fd = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)

    def close(self) -> None:
        """Hold it no longer."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    # Directories

    def make_directory(self, path: str) -> None:
        """Make a directory that is for us alone."""
        os.mkdir(path, _DIRECTORY, dir_fd=self._fd)

    def names(self, path: str) -> list[str]:
        """Return the names in a directory, in any order."""
        with self._opened(path, os.O_RDONLY | os.O_DIRECTORY) as fd:
            return os.listdir(fd)

    def remove_directory(self, path: str) -> bool:
        """Remove a directory; False if something is in it."""
        try:
            os.rmdir(path, dir_fd=self._fd)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            return False
        return True

    def sync_directory(self, path: str) -> None:
        """Have the names in a directory on the disk."""
        with self._opened(path, os.O_RDONLY | os.O_DIRECTORY) as fd:
            os.fsync(fd)

    # Names

    def rename(self, source: str, target: str) -> None:
        """Rename a file or a directory, to a name that nobody has."""
        os.rename(source, target, src_dir_fd=self._fd, dst_dir_fd=self._fd)

    def link(self, source: str, target: str) -> None:
        """Give a file one more name."""
        os.link(source, target, src_dir_fd=self._fd, dst_dir_fd=self._fd, follow_symlinks=False)

    def remove(self, path: str) -> None:
        """Take a file's name away."""
        os.unlink(path, dir_fd=self._fd)

    # Files

    def write_file(self, path: str, data: bytes, *, mode: int = _FILE, sync: bool = True) -> None:
        """Write a new file, and have its bytes on the disk, or let them come there in time."""
        # Each system call has to win the interpreter's lock back: a file object makes more.
        with self._opened(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode) as fd:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(fd, rest) :]
            if sync:
                os.fsync(fd)

    def store(self, path: str, blob: Blob) -> None:
        """Give the bytes of a blob a name, and have them on the disk.

        They are linked if the blob lies on this filesystem, else copied.
        """
        if blob.in_memory:
            with blob.open() as file:
                self.write_file(path, file.read(), mode=_READ_ONLY)
        else:
            self._store_file(self.root / path, blob)

    def _store_file(self, target: Path, blob: Blob) -> None:
        try:
            blob.keep(target)
        except NotImplementedError:  # the user's, who may change it
            pass
        except OSError as error:
            if error.errno not in _NO_LINK:  # an fsync that failed is not tried again
                raise
        else:
            return
        copy(blob, target, mode=_READ_ONLY, durable=True)

    def read_file(self, path: str, most: int) -> bytes:
        """Read a whole small file.

        Args:
            path: The file.
            most: How many bytes it may have.

        Raises:
            UnreadableRecord: It is no plain file, or larger.
            FileNotFoundError: It is not there.
        """
        # O_NONBLOCK: to open a FIFO would wait for who writes to it (fifo(7)).
        try:
            with self._opened(path, os.O_RDONLY | os.O_NONBLOCK) as fd:
                status = os.fstat(fd)
                if stat.S_ISREG(status.st_mode) and status.st_size <= most:
                    return os.read(fd, status.st_size)
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.ENXIO):  # a symbolic link, a socket
                raise
        raise UnreadableRecord(f"{path} is no plain file of at most {most} bytes.")

    def size(self, path: str) -> int:
        """Return how many bytes a plain file has; -1 if it is none."""
        status = self.status(path)
        return status.st_size if stat.S_ISREG(status.st_mode) else -1

    def is_directory(self, path: str) -> bool:
        """Tell whether it is a directory, and not a link to one."""
        return stat.S_ISDIR(self.status(path).st_mode)

    def status(self, path: str) -> os.stat_result:
        """Return what the system knows of a name, not of what a link leads to."""
        return os.stat(path, dir_fd=self._fd, follow_symlinks=False)

    def blob(self, path: str, storage: Storage) -> Blob:
        """Open a stored file as a blob."""
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=self._fd)
        blob = Blob(storage)
        blob.adopt(PrivateFile(fd, ours=False, kept=True), os.fstat(fd).st_size)
        return blob

    # Locks

    def lock(self, path: str, *, create: bool = False) -> int | None:
        """Lock a file until `unlock`, or until this process ends.

        A POSIX record lock: a forked child does not have it, and the kernel
        lets go of it when the process dies, however it does (fcntl(2)). For the
        same process it is no obstacle, and to close the file would let go of it: so a
        file that this process has open already is taken for locked.

        Args:
            path: The file.
            create: Make it.

        Returns:
            What `unlock` takes; None if another has it, or the file is gone.

        Raises:
            FileExistsError: It was to be made, and is there.
        """
        if not create and self._is_open(path):
            return None
        flags = os.O_RDWR | os.O_NOFOLLOW | (os.O_CREAT | os.O_EXCL if create else 0)
        try:
            fd = os.open(path, flags, _FILE, dir_fd=self._fd)
        except FileNotFoundError:
            return None
        try:
            os.lockf(fd, os.F_TLOCK, 0)
            # Whoever had it may have removed the file meanwhile.
            found = os.stat(path, dir_fd=self._fd, follow_symlinks=False)
            if os.path.samestat(found, os.fstat(fd)):
                return fd
        except (BlockingIOError, PermissionError, FileNotFoundError):
            pass
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
        return None

    def unlock(self, lock: int) -> None:
        """Let go of a lock."""
        os.close(lock)

    def _is_open(self, path: str) -> bool:
        """Tell whether this process has the file open, as another owner in it would."""
        try:
            file = os.stat(path, dir_fd=self._fd, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return any(_is_same(int(fd), file) for fd in os.listdir(_DESCRIPTORS))

    @contextmanager
    def _opened(self, path: str, flags: int, mode: int = _FILE) -> Generator[int, None, None]:
        fd = os.open(path, flags | os.O_NOFOLLOW, mode, dir_fd=self._fd)
        try:
            yield fd
        finally:
            os.close(fd)


def _is_same(fd: int, file: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), file)
    except OSError:  # closed meanwhile, as the one that listed them is
        return False
