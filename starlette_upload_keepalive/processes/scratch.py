"""A directory for the files of one process, which goes even if its app is killed."""

from __future__ import annotations

import errno
import glob
import logging
import os
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager, suppress

from .tree_removal import remove_tree

if sys.platform != "win32":  # where no handler has a process
    import fcntl

logger: logging.Logger = logging.getLogger("starlette_upload_keepalive")

_PREFIX = "upload-worker-"
_UNLOCKED = "."


@contextmanager
def scratch_directory(parent: str) -> Generator[str, None, None]:
    """Make a directory, and remove it in the end, with what is in it.

    It is locked for as long as the app lives (flock(2)). Those of apps that were
    killed are not, and are removed before.

    Args:
        parent: Where.

    Raises:
        OSError: It can't be made.
    """
    try:
        unlocked = tempfile.mkdtemp(prefix=_UNLOCKED + _PREFIX, dir=parent)
    except FileNotFoundError as error:
        what = "The directory of the uploads is gone: create it, or set Uploads(directory=...)"
        raise FileNotFoundError(errno.ENOENT, what, parent) from error
    path = os.path.join(parent, os.path.basename(unlocked).removeprefix(_UNLOCKED))
    try:
        with _opened(unlocked) as lock:
            with suppress(OSError):  # as on NFS, where others can't lock it either
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.rename(unlocked, path)  # from now on others look whether it is locked
            for other in glob.glob(f"{glob.escape(parent)}/{_PREFIX}*"):
                _remove_if_abandoned(other)
            try:
                yield path
            finally:
                _remove(path, lock)
    finally:
        with suppress(FileNotFoundError):  # it has its name
            os.rmdir(unlocked)


def _remove(path: str, fd: int) -> None:
    try:
        remove_tree(path, fd)
    except OSError:  # the handler's doing, such as a file of another user's
        logger.exception("The files of an ended worker process could not be removed.")


def _remove_if_abandoned(path: str) -> None:
    try:
        with _opened(path) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove_tree(path, lock)
    except OSError as error:  # locked by the living, gone, another user's, or in the way
        logger.debug("%s is left alone: %s", path, error)


@contextmanager
def _opened(path: str) -> Generator[int, None, None]:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        yield fd
    finally:
        os.close(fd)
