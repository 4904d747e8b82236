"""Removes a directory of whatever shape a stranger's archive has given it."""

from __future__ import annotations

import os
from contextlib import suppress


def remove_tree(path: str, fd: int) -> None:
    """Remove a directory, and all that is in it.

    `shutil.rmtree` fails at a thousand directories within each other, for each of which it
    holds a descriptor besides, and at those that their owner may not list.

    Args:
        path: The directory.
        fd: A descriptor of it. It stays its owner's.

    Raises:
        OSError: Something in it is in the way.
    """
    os.fchmod(fd, 0o700)
    left = _emptied(fd, fd)
    while left:
        name = left.pop()
        directory = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=fd)
        try:
            left += _emptied(directory, fd)
        finally:
            os.close(directory)
        os.rmdir(name, dir_fd=fd)
    with suppress(FileNotFoundError):  # whose it was has removed it
        os.rmdir(path)


def _emptied(directory: int, top: int) -> list[str]:
    """Empty a directory: its files go, and its directories move to the top, under new names."""
    with os.scandir(directory) as found:
        entries = list(found)
    moved = list[str]()
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            _open_up(entry.name, directory)
            name = os.urandom(16).hex()
            os.rename(entry.name, name, src_dir_fd=directory, dst_dir_fd=top)
            moved.append(name)
        else:
            os.unlink(entry.name, dir_fd=directory)
    return moved


def _open_up(name: str, parent: int) -> None:
    """Let its owner list and change a directory, which must be none that lies elsewhere."""
    fd = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
    try:
        os.chmod(f"/proc/self/fd/{fd}", 0o700)  # fchmod(2) refuses such a descriptor
    finally:
        os.close(fd)
