"""A disk in memory that is used like the real one, by several processes, and notes each step."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import NamedTuple, NoReturn

from starlette_upload_keepalive.files.blob import Blob
from starlette_upload_keepalive.files.storage import Storage
from starlette_upload_keepalive.jobs.record import UnreadableRecord
from starlette_upload_keepalive.spool.disk import Disk

from .log import Begun, Event, Named, Slot, Synced, Written

ROOT = 0


class Link(NamedTuple):
    """A name's meaning.

    Attributes:
        number: Which of all names ever given it is.
        inode: What it stands for.
    """

    number: int
    inode: int


class Files:
    """The files and directories of one machine, as its processes see them.

    Args:
        last: The last number that something has.
    """

    def __init__(self, last: int = 0) -> None:
        self.directories: dict[int, dict[str, Link]] = {ROOT: {}}
        self.data: dict[int, bytes] = {}
        self.locks: dict[int, ModelDisk] = {}
        self.log: list[Event] = []
        self.step = 0
        self._last = last

    def number(self) -> int:
        """Return a number that nothing else has."""
        self._last += 1
        return self._last


class Killed(BaseException):
    """The process is no more: none of its code has any effect."""


class ModelDisk(Disk):
    """What one process sees of a machine's files.

    Strict: what the spool must never do, and a real disk would let pass, is an
    AssertionError: to rename onto a name that is taken, or to open a lock twice.

    Args:
        files: The machine's.
        pause: Called before each step; it may raise `Killed`.
    """

    def __init__(self, files: Files, pause: Callable[[], None] = lambda: None) -> None:
        super().__init__(Path("/nowhere"))
        self.files = files
        self._pause = pause
        self.dead = False

    def kill(self) -> None:
        """End the process: the kernel lets go of its locks."""
        self.dead = True
        locks = self.files.locks
        self.files.locks = {inode: disk for inode, disk in locks.items() if disk is not self}

    def open(self) -> None:
        self._begin()

    def close(self) -> None:
        self._begin()

    # Directories

    def make_directory(self, path: str) -> None:
        self._begin()
        slot = self._free(path)
        inode = self.files.number()
        self.files.directories[inode] = {}
        self._name(Link(self.files.number(), inode), None, slot)

    def names(self, path: str) -> list[str]:
        self._begin()
        return list(self._directory(path))

    def remove_directory(self, path: str) -> bool:
        self._begin()
        slot, link = self._taken(path)
        if self._directory(path):
            return False
        self._name(link, slot, None)
        return True

    def sync_directory(self, path: str) -> None:
        self._begin()
        self._directory(path)
        self._sync(self._find(path).inode)

    # Names

    def rename(self, source: str, target: str) -> None:
        self._begin()
        self._slot(source)
        after = self._slot(target)
        before, link = self._taken(source)
        assert after.name not in self.files.directories[after.directory], f"{target} is taken"
        self._name(link, before, after)

    def link(self, source: str, target: str) -> None:
        self._begin()
        _, link = self._taken(source)
        slot = self._free(target)
        if link.inode in self.files.directories:
            _raise(PermissionError, "EPERM", source)
        self._name(Link(self.files.number(), link.inode), None, slot)

    def remove(self, path: str) -> None:
        self._begin()
        slot, link = self._taken(path)
        if link.inode in self.files.directories:
            _raise(IsADirectoryError, "EISDIR", path)
        self._name(link, slot, None)

    # Files

    def write_file(self, path: str, data: bytes, *, mode: int = 0o600, sync: bool = True) -> None:
        self._begin()
        inode = self._make_file(path, data)
        if sync:
            self._sync(inode)

    def store(self, path: str, blob: Blob) -> None:
        self._begin()
        with blob.open() as file:
            self._sync(self._make_file(path, file.read()))

    def read_file(self, path: str, most: int) -> bytes:
        self._begin()
        data = self.files.data.get(self._find(path).inode)
        if data is None or len(data) > most:
            raise UnreadableRecord(path)
        return data

    def size(self, path: str) -> int:
        self._begin()
        data = self.files.data.get(self._find(path).inode)
        return -1 if data is None else len(data)

    def is_directory(self, path: str) -> bool:
        self._begin()
        return self._find(path).inode in self.files.directories

    def blob(self, path: str, storage: Storage) -> Blob:
        self._begin()
        blob = Blob(storage)
        blob.fill([self.files.data[self._find(path).inode]])
        return blob

    # Locks

    def lock(self, path: str, *, create: bool = False) -> int | None:
        self._begin()
        if create:
            inode = self._make_file(path, b"")
        else:
            try:
                inode = self._find(path).inode
            except FileNotFoundError:
                return None
        holder = self.files.locks.get(inode)
        if holder is not None:
            return None
        self.files.locks[inode] = self
        return inode

    def unlock(self, lock: int) -> None:
        self._begin()
        del self.files.locks[lock]

    # The steps

    def _begin(self) -> None:
        self._wait()
        self.files.step += 1

    def _wait(self) -> None:
        if not self.dead:
            self._pause()
        if self.dead:
            raise Killed

    def _name(self, link: Link, before: Slot | None, after: Slot | None) -> None:
        files = self.files
        if before is not None:
            del files.directories[before.directory][before.name]
        if after is not None:
            files.directories[after.directory][after.name] = link
        is_directory = link.inode in files.directories
        files.log.append(Named(files.step, link.number, link.inode, is_directory, before, after))

    def _make_file(self, path: str, data: bytes) -> int:
        files = self.files
        slot = self._free(path)
        inode = files.number()
        files.data[inode] = data
        self._name(Link(files.number(), inode), None, slot)
        if data:
            files.log.append(Written(files.step, inode, data))
        return inode

    def _sync(self, inode: int) -> None:
        step = self.files.step
        self.files.log.append(Begun(step, inode))
        self._wait()  # others go on meanwhile
        self.files.log.append(Synced(step, inode, _caller()))

    def _find(self, path: str) -> Link:
        found = Link(0, ROOT)
        for name in path.split("/") if path != "." else []:
            found = self._entries(found, path).get(name) or _raise(
                FileNotFoundError, "ENOENT", path
            )
        return found

    def _entries(self, link: Link, path: str) -> dict[str, Link]:
        entries = self.files.directories.get(link.inode)
        return _raise(NotADirectoryError, "ENOTDIR", path) if entries is None else entries

    def _directory(self, path: str) -> dict[str, Link]:
        return self._entries(self._find(path), path)

    def _slot(self, path: str) -> Slot:
        parent, _, name = path.rpartition("/")
        folder = self._find(parent or ".")
        self._entries(folder, path)
        return Slot(folder.inode, name)

    def _free(self, path: str) -> Slot:
        slot = self._slot(path)
        if slot.name in self.files.directories[slot.directory]:
            _raise(FileExistsError, "EEXIST", path)
        return slot

    def _taken(self, path: str) -> tuple[Slot, Link]:
        link = self._find(path)
        return self._slot(path), link


def _raise(kind: type[OSError], code: str, path: str) -> NoReturn:
    number: int = getattr(errno, code)
    raise kind(number, os.strerror(number), path)


_SPOOL = "starlette_upload_keepalive.spool."


def _caller() -> str:
    """Return which functions of the spool have asked, innermost first."""
    callers = list[str]()
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and len(callers) < 3:
        if frame.f_globals.get("__name__", "").startswith(_SPOOL):
            callers.append(frame.f_code.co_name)
        frame = frame.f_back
    return " < ".join(callers)
