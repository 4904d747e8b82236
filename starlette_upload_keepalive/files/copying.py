"""Copy the bytes of a blob into a file."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import BinaryIO

from starlette_upload_keepalive.quantities import MIB

from .blob import Blob

# What copy_file_range(2) says of two filesystems, of one that does not know it, or in a sandbox.
_NO_COPY = {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF, errno.EPERM}
_MOST_AT_ONCE = 1024 * MIB


def copy(blob: Blob, path: Path, *, mode: int, durable: bool = False) -> None:
    """Copy the bytes into a new file. Blocks.

    Args:
        blob: What to copy; somebody must own it meanwhile.
        path: The file, which must not exist.
        mode: Its permissions, less the umask.
        durable: Have the bytes on the disk before it returns.

    Raises:
        UploadChanged: The bytes were saved without a copy, and changed.
        OSError: The path exists, or its directory is missing, not writable or full.
    """
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with open(fd, "wb") as target, blob.open() as source:
        if blob.in_memory or not _copied_by_the_system(source, target, blob.size):
            shutil.copyfileobj(source, target, MIB)
        if durable:
            target.flush()
            os.fsync(fd)
    blob.check_unchanged()


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
