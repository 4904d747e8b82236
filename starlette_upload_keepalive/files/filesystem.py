"""What a directory lies on, and where uploads would better lie."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path
from typing import NamedTuple

_MOUNTS = Path("/proc/self/mountinfo")
_IN_MEMORY = {"tmpfs", "ramfs"}

logger: logging.Logger = logging.getLogger("starlette_upload_keepalive")


class Filesystem(NamedTuple):
    """A filesystem that is mounted.

    Attributes:
        mounted_on: Where.
        kind: Its type: "ext4".
        source: What it is of: "/dev/sda1", the same for all subvolumes of one.
    """

    mounted_on: str
    kind: str
    source: str


def filesystem_of(directory: str | Path) -> Filesystem | None:
    """Find what a directory lies on. Blocks.

    Returns:
        The filesystem; None where the system does not tell, as all but Linux (proc(5)).
    """
    try:
        mounts = os.fsdecode(_MOUNTS.read_bytes())
    except OSError:  # it is only for advice
        return None
    path = os.path.realpath(directory)
    found = None
    for line in mounts.splitlines():
        mount, _, filesystem = line.partition(" - ")
        mounted_on = re.sub(r"\\([0-7]{3})", _unescaped, mount.split(" ")[4])
        # The directory is on the innermost, and of several in one place on the latest.
        within = path == mounted_on or path.startswith(mounted_on.rstrip("/") + "/")
        if within and (found is None or len(mounted_on) >= len(found.mounted_on)):
            kind, source = filesystem.split(" ")[:2]
            found = Filesystem(mounted_on, kind, source)
    return found


def _unescaped(octal: re.Match[str]) -> str:
    return chr(int(octal[1], 8))


class SpoolAdvice:
    """Tells in the log, once each, why files would better lie in another directory.

    Args:
        silent: Tell nothing.
    """

    def __init__(self, *, silent: bool) -> None:
        self._untold: set[str] = set() if silent else {"in memory", "across"}

    def default_used(self, directory: str) -> None:
        """Warn if the system's directory for temporary files is in memory. Blocks the first time.

        Args:
            directory: It.
        """
        if not self._first("in memory"):
            return
        filesystem = filesystem_of(directory)
        if filesystem is not None and filesystem.kind in _IN_MEMORY:
            logger.warning(
                "Uploads that are too large for memory are stored in %s, which is a %s: in "
                "memory all the same. Give Uploads a directory= on a disk.",
                directory,
                filesystem.kind,
            )

    def copied(self, directory: str, destination: Path) -> None:
        """Warn if a file that was saved had to be copied to another filesystem. Blocks.

        Args:
            directory: Where it was.
            destination: The directory where it is now.
        """
        untold = "across" in self._untold and not _are_one(directory, destination)
        if untold and self._first("across"):
            logger.warning(
                "A file that was saved had to be copied from %s to %s, which is on another "
                "filesystem. Give Uploads a directory= on that one, and save() need not copy.",
                directory,
                destination,
            )

    def _first(self, advice: str) -> bool:
        try:
            self._untold.remove(advice)  # by one thread only
        except KeyError:
            return False
        return True


def _are_one(first: str | Path, second: str | Path) -> bool:
    try:
        if os.stat(first).st_dev == os.stat(second).st_dev:
            return True
    except OSError:  # gone meanwhile, and it is only for advice
        return True
    # Subvolumes have a device each, and share their blocks.
    one, other = filesystem_of(first), filesystem_of(second)
    return (
        one is not None
        and other is not None
        and (one.kind, one.source) == (other.kind, other.source)
        and one.source.startswith("/")  # a tmpfs and its like have any word there
    )
