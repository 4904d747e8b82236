"""Store the bytes of a blob under a name of the user's choice."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from pathlib import Path
from typing import BinaryIO

from .blob import Blob
from .storage import MIB

# What link(2) says on a filesystem that knows no links, such as exFAT.
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS}
# What copy_file_range(2) says of two filesystems, of one that does not know it, or in a sandbox.
_NO_COPY = {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF, errno.EPERM}
_MOST_AT_ONCE = 1024 * MIB


def save(blob: Blob, destination: Path, *, overwrite: bool, durable: bool) -> Path:
    """Store the bytes under a name, all of them or nothing. Blocks.

    Args:
        blob: What to store; somebody must own it meanwhile.
        destination: The name; its directory must exist.
        overwrite: Replace a file of that name.
        durable: Return only when a power cut can't take the file away.

    Raises:
        ValueError: The destination names no file.
        FileExistsError: The name is taken, and it may not be overwritten.
        OSError: The directory is missing, can't be written, or is full.
    """
    if not destination.name:
        raise ValueError(f"{str(destination)!r} names no file: give the directory and a name.")
    if not overwrite and destination.exists():
        raise FileExistsError(f"{destination} exists: give another name, or overwrite=True.")
    partial = destination.with_name(f".{secrets.token_hex(8)}.part")
    try:
        copy(blob, partial, mode=0o666, durable=durable)  # less the umask, as open() has it
        if overwrite:
            os.replace(partial, destination)
        else:
            _name(partial, destination)
    finally:
        partial.unlink(missing_ok=True)
    if durable:
        _sync_directory(destination.parent)
    return destination


def _name(partial: Path, destination: Path) -> None:
    try:
        os.link(partial, destination)  # unlike a rename, this never replaces
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # Claim the name, and then replace what claims it: a reader may find it empty in between.
        os.close(os.open(destination, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        os.replace(partial, destination)


def _sync_directory(path: Path) -> None:
    """Have the disk know the names in a directory (fsync(2): the file's own does not)."""
    if os.name != "posix":  # pragma: no cover - Windows opens no directories
        return
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a filesystem that has nothing to sync there (fsync(2))
            raise
    finally:
        os.close(fd)


def copy(blob: Blob, path: Path, *, mode: int, durable: bool = False) -> None:
    """Copy the bytes into a new file. Blocks.

    Args:
        blob: What to copy; somebody must own it meanwhile.
        path: The file, which must not exist.
        mode: Its permissions, less the umask.
        durable: Have the bytes on the disk before it returns.

    Raises:
        OSError: The path exists, or its directory is missing, not writable or full.
    """
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with open(fd, "wb") as target, blob.open() as source:
        if blob.in_memory or not _copied_by_the_system(source, target, blob.size):
            shutil.copyfileobj(source, target, MIB)
        if durable:
            target.flush()
            os.fsync(fd)


def _copied_by_the_system(source: BinaryIO, target: BinaryIO, size: int) -> bool:
    """Copy by copy_file_range(2), which shares the blocks where the filesystem can.

    Returns:
        Whether it has copied all. If not, both files are where it has stopped.
    """
    if not hasattr(os, "copy_file_range"):  # pragma: no cover - elsewhere than on Linux
        return False
    while size > 0:
        try:
            copied = os.copy_file_range(source.fileno(), target.fileno(), _MOST_AT_ONCE)
        except OSError as error:
            if error.errno in _NO_COPY:
                return False
            raise
        if copied == 0:  # some filesystems say so instead
            return False
        size -= copied
    return True
