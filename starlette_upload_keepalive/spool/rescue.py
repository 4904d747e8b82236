"""Letting the jobs be claimed of owners that have ended."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial

from .disk import Disk
from .entry import Entry
from .layout import (
    CHILDREN,
    CLAIMED,
    DONE,
    LOCK,
    OWNERS,
    READY,
    folder_of,
    is_accept,
    is_draft,
    is_owner,
    lock_of,
)
from .obstacles import Obstacles
from .writing import set_aside, throw_away

logger: logging.Logger = logging.getLogger("starlette_upload_keepalive")


class Rescue:
    """Looks for owners that have ended, and lets others claim what they had.

    Args:
        disk: Where.
        obstacles: What can't be rescued.

    Attributes:
        rescued: How many jobs others may claim now.
        crashed: How many of those ran.
    """

    def __init__(self, disk: Disk, obstacles: Obstacles) -> None:
        self._disk = disk
        self._obstacles = obstacles
        self.rescued: int = 0
        self.crashed: int = 0

    def run(self) -> None:
        """Rescue all that can be. Blocks.

        Raises:
            OSError: The disk failed. What can be rescued is, all the same.
        """
        disk = self._disk
        locks = {name.removesuffix(LOCK) for name in disk.names(OWNERS) if name.endswith(LOCK)}
        failures: list[OSError] = []
        # After the locks: an owner makes its lock first.
        for owner in sorted(filter(is_owner, locks | set(disk.names(CLAIMED)))):
            try:
                with self._obstacles.passed(folder_of(owner)):
                    self._rescue_from(owner, has_lock=owner in locks)
            except OSError as error:  # noqa: PERF203 - of one owner, perhaps
                failures.append(error)
        if failures:
            raise failures[0]

    def _rescue_from(self, owner: str, *, has_lock: bool) -> None:
        disk = self._disk
        try:
            lock = disk.lock(lock_of(owner), create=not has_lock)
        except FileExistsError:  # it has begun meanwhile, or another rescues it
            return
        if lock is None:  # it lives, or another rescues it
            return
        try:
            folder = folder_of(owner)
            with suppress(FileNotFoundError):  # it has died before it had any
                # It may have died before its last accept was durable: before one job of that
                # is taken out, the others must not become a draft again.
                disk.sync_directory(folder)
                for name in disk.names(folder):
                    self._rescue(folder, name)
                if not disk.remove_directory(folder):  # something can't be rescued
                    return
            disk.remove(lock_of(owner))
        finally:
            disk.unlock(lock)

    def _rescue(self, folder: str, name: str) -> None:
        path = f"{folder}/{name}"
        with self._obstacles.passed(path):
            self._rescue_one(folder, name, path)

    def _rescue_one(self, folder: str, name: str, path: str) -> None:
        if is_draft(name):
            throw_away(self._disk, path)
        elif is_accept(name):
            self._rescue_accepted(path)
        elif (entry := Entry.parse(name)) is None or entry.state not in ("w", "r", "p"):
            set_aside(self._disk, path)
        elif entry.state == "p":
            sync = partial(self._disk.sync_directory, folder)
            published = publish_children(self._disk, folder, entry, READY, sync)
            self.rescued += len(list(published))
        else:
            self._let_claim(path, entry)

    def _rescue_accepted(self, path: str) -> None:
        try:
            names = self._disk.names(path)
        except NotADirectoryError:
            set_aside(self._disk, path)
            return
        for name in names:
            self._rescue(path, name)
        self._disk.remove_directory(path)

    def _let_claim(self, path: str, entry: Entry) -> None:
        crashed = entry.state == "r"  # else its handler was not started, which costs it nothing
        if crashed:
            crashes = entry.standing.crashes + 1
            standing = replace(entry.standing, due=time.time(), crashes=crashes)
            entry = entry._replace(standing=standing, state="w")
        self._disk.rename(path, f"{READY}/{entry.name}")
        self.rescued += 1
        self.crashed += crashed


def publish_children(
    disk: Disk, home: str, parent: Entry, folder: str, sync_home: Callable[[], None]
) -> Iterator[Entry]:
    """Move the jobs out that a handler has submitted which has succeeded, then note it as done.

    Args:
        disk: Where.
        home: Where the parent's entry is: with an owner who does this, or who has ended.
        parent: Its entry.
        folder: Where the children are to go.
        sync_home: Has the names at home on the disk.

    Yields:
        Each, once it is there.
    """
    path = f"{home}/{parent.name}"
    # Before a child is there for itself, its parent must not run again; and before nobody looks
    # for children any more, none may come back here.
    sync_home()
    try:
        names = disk.names(f"{path}/{CHILDREN}")
    except FileNotFoundError:  # all of that was done but for the last step
        names = []
    for name in names:
        child = Entry.parse(name)
        if child is None:
            set_aside(disk, f"{path}/{CHILDREN}/{name}")
        else:
            disk.rename(f"{path}/{CHILDREN}/{name}", f"{folder}/{name}")
            yield child
    if names:
        disk.sync_directory(f"{path}/{CHILDREN}")
        disk.remove_directory(f"{path}/{CHILDREN}")
    disk.rename(path, f"{DONE}/{parent._replace(state='s').name}")
