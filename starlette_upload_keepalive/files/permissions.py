"""Have a file belong to those to whom a new one in a directory would belong."""

from __future__ import annotations

import errno
import os


def take_owner(fd: int, example: int) -> bool:
    """Have a file belong to those to whom a new one in its directory belongs.

    A directory may hand on its group (inode(7)), an access control list
    (acl(5)) or a security label. So one asks a file that was made there.

    Args:
        fd: A descriptor of the file.
        example: A descriptor of a new file in that directory.

    Returns:
        Whether it could; False also if the two would differ in more than that and their mode.
    """
    if not hasattr(os, "listxattr"):  # pragma: no cover - elsewhere than on Linux
        return False
    status = os.fstat(example)
    try:
        if (status.st_uid, status.st_gid) != (os.fstat(fd).st_uid, os.fstat(fd).st_gid):
            os.fchown(fd, status.st_uid, status.st_gid)
        return _attributes(fd) == _attributes(example)
    except OSError:  # it is not allowed, or can't be known
        return False


def _attributes(fd: int) -> dict[str, bytes]:
    try:
        return {name: os.getxattr(fd, name) for name in os.listxattr(fd)}
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            return {}
        raise
