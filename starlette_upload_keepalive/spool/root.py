"""Whether a directory can keep what a spool promises."""

from __future__ import annotations

import errno
import logging
import os
import stat
from pathlib import Path

from starlette_upload_keepalive.exceptions import SpoolUnusable
from starlette_upload_keepalive.files.filesystem import filesystem_of

# Where a rename, a lock or an fsync may not mean what it means on a disk of one's own.
_NETWORK = {
    "9p",
    "afs",
    "beegfs",
    "ceph",
    "cifs",
    "coda",
    "fuse.glusterfs",
    "fuse.s3fs",
    "fuse.sshfs",
    "gfs2",
    "glusterfs",
    "lustre",
    "ncpfs",
    "nfs",
    "nfs4",
    "ocfs2",
    "orangefs",
    "smb3",
    "smbfs",
    "virtiofs",
}
_DESCRIPTORS = "/proc/self/fd"
_IN_MEMORY = {"tmpfs", "ramfs"}
# What comes of a directory that was removed, is mounted read-only, or was given to another user.
_OF_THE_ROOT = {errno.ENOENT, errno.EROFS, errno.EACCES, errno.EPERM}

logger: logging.Logger = logging.getLogger("starlette_upload_keepalive")


def check_root(root: Path, *, allow_network: bool) -> None:
    """Check the directory of a spool. Blocks.

    Args:
        root: The directory.
        allow_network: Take one on a network filesystem, too.

    Raises:
        SpoolUnusable: It can't be used. The error says what to do.
    """
    if not (hasattr(os, "lockf") and os.path.isdir(_DESCRIPTORS)):
        raise SpoolUnusable(
            f"A DirectorySpool needs Linux, with {_DESCRIPTORS} mounted: nothing else both locks "
            "as it wants and opens a file again whatever becomes of its name."
        )
    try:
        mode = os.lstat(root).st_mode
    except FileNotFoundError:
        raise SpoolUnusable(
            f"The spool's directory {str(root)!r} does not exist. Create it, for the user that "
            f"the app runs as: mkdir -p -m 700 {root}"
        ) from None
    except OSError as error:  # what it is in is no directory, or not for this user
        raise SpoolUnusable(
            f"The spool's directory {str(root)!r} can't be reached: {error.strerror}. Check the "
            "directories that it is in."
        ) from error
    if stat.S_ISLNK(mode):
        raise SpoolUnusable(
            f"The spool's directory {str(root)!r} is a symbolic link, which may lead elsewhere "
            f"tomorrow. Give the directory itself: {os.path.realpath(root)}"
        )
    if not stat.S_ISDIR(mode):
        raise SpoolUnusable(f"The spool's directory {str(root)!r} is no directory.")
    if mode & stat.S_IWOTH:
        raise SpoolUnusable(
            f"The spool's directory {str(root)!r} can be written by everybody, who could have "
            f"any job run. Take that away: chmod 700 {root}"
        )
    if not os.access(root, os.R_OK | os.W_OK | os.X_OK):
        raise SpoolUnusable(
            f"The spool's directory {str(root)!r} can't be read and written by this user "
            f"({os.getuid()}), or its filesystem is mounted read-only. Give it to the user: "
            f"chown {os.getuid()} {root}"
        )
    _check_filesystem(root, allow_network=allow_network)


def what_to_do(error: OSError, root: Path, *, allow_network: bool) -> str | None:
    """Say what to do about an error, if the directory has become unusable since. Blocks.

    Args:
        error: What has failed in it.
        root: The directory.
        allow_network: Take one on a network filesystem, too.
    """
    if error.errno in _OF_THE_ROOT:
        try:
            check_root(root, allow_network=allow_network)
        except SpoolUnusable as unusable:
            return str(unusable)
    return None


def tell_of_the_end(error: OSError, root: Path, *, allow_network: bool) -> None:
    """Log that an owner has ended, and has left behind what the next one removes. Blocks.

    Args:
        error: Why it could not be removed.
        root: The directory.
        allow_network: Take one on a network filesystem, too.
    """
    todo = what_to_do(error, root, allow_network=allow_network)
    logger.error(
        "The spool in %s is closed, but its own files could not be removed there: %s. %s",
        root,
        error,
        todo or "Whoever uses it next does so, if the directory is still there.",
    )


def _check_filesystem(root: Path, *, allow_network: bool) -> None:
    filesystem = filesystem_of(root)
    if filesystem is None:  # the system does not tell
        return
    if filesystem.kind in _NETWORK and not allow_network:
        raise SpoolUnusable(
            f"The spool's directory {str(root)!r} is on a network filesystem "
            f"({filesystem.kind}), where locks and fsync may not hold. Put it on a local disk; "
            "or, if you have tried that yours keeps them, use "
            "DirectorySpool(..., allow_network=True)."
        )
    if filesystem.kind in _IN_MEMORY:
        logger.warning(
            "The spool's directory %s is on a %s: what it keeps outlives the process, but no "
            "restart of the machine. Put it on a disk.",
            root,
            filesystem.kind,
        )
