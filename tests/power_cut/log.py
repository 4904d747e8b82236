"""What a disk was told, step by step, and what was promised meanwhile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

What = Literal["call", "accepting", "accepted", "ending", "forgetting", "spared", "starting"]


class Slot(NamedTuple):
    """A name in a directory.

    Attributes:
        directory: The directory's inode.
        name: The name.
    """

    directory: int
    name: str


@dataclass(frozen=True)
class Named:
    """A name was given, taken away, or both at once: a rename.

    Attributes:
        step: The call of the disk it belongs to.
        link: Which of all names ever given; a rename moves it.
        inode: What it stands for.
        is_directory: Whether that is a directory.
        before: Where the name was; None if it is new.
        after: Where it is now; None if it is no more.
    """

    step: int
    link: int
    inode: int
    is_directory: bool
    before: Slot | None
    after: Slot | None


@dataclass(frozen=True)
class Written:
    """A new file was given its bytes.

    Attributes:
        step: The call of the disk it belongs to.
        inode: The file.
        data: All its bytes.
    """

    step: int
    inode: int
    data: bytes


@dataclass(frozen=True)
class Begun:
    """fsync of a file or a directory begins: it is for what was done before.

    Attributes:
        step: The call of the disk it belongs to.
        inode: The file or the directory.
    """

    step: int
    inode: int


@dataclass(frozen=True)
class Synced:
    """fsync of a file or a directory has returned.

    Attributes:
        step: The call of the disk it belongs to.
        inode: The file or the directory.
        where: Who has asked for it, for people.
    """

    step: int
    inode: int
    where: str


@dataclass(frozen=True)
class Noted:
    """What the world outside has done, or was told; or that a call of the spool begins.

    Attributes:
        step: The call of the disk that came last before.
        what: What it was.
        ids: The jobs that it is about; of "ending", the parent comes first.
    """

    step: int
    what: What
    ids: tuple[str, ...]


Event = Named | Written | Begun | Synced | Noted
