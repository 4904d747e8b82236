"""Store the bytes of a blob under a name of the user's choice."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from pathlib import Path

from .blob import Blob
from .storage import MIB

# What link(2) says on a filesystem that knows no links, such as exFAT.
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS}


def save(blob: Blob, destination: Path, *, overwrite: bool) -> Path:
    """Store the bytes under a name, all of them or nothing. Blocks.

    Args:
        blob: What to store; somebody must own it meanwhile.
        destination: The name; its directory must exist.
        overwrite: Replace a file of that name.

    Raises:
        FileExistsError: The name is taken, and it may not be overwritten.
        OSError: The directory is missing, can't be written, or is full.
    """
    if not overwrite and destination.exists():
        raise FileExistsError(f"{destination} exists: give another name, or overwrite=True.")
    partial = destination.with_name(f".{secrets.token_hex(8)}.part")
    try:
        copy(blob, partial, mode=0o666)  # less the umask, as open() has it
        if overwrite:
            os.replace(partial, destination)
        else:
            _name(partial, destination)
    finally:
        partial.unlink(missing_ok=True)
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


def copy(blob: Blob, path: Path, *, mode: int) -> None:
    """Copy the bytes into a new file. Blocks.

    Args:
        blob: What to copy; somebody must own it meanwhile.
        path: The file, which must not exist.
        mode: Its permissions, less the umask.

    Raises:
        OSError: The path exists, or its directory is missing, not writable or full.
    """
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with open(fd, "wb") as target, blob.open() as source:
        shutil.copyfileobj(source, target, MIB)
