"""Whether the directory of a spool holds what its layout says, and nothing else."""

from __future__ import annotations

import os
import stat
from typing import NamedTuple

from starlette_upload_keepalive.jobs.record import (
    JobRecord,
    NewerFormat,
    UnreadableRecord,
    handler_key,
)

from .disk import Disk
from .entry import Entry
from .layout import (
    CHILDREN,
    CLAIMED,
    CORRUPT,
    DEAD,
    DONE,
    ENDING,
    FOLDERS,
    LOCK,
    OWNERS,
    READY,
    RECORD,
    folder_of,
    is_accept,
    is_draft,
    is_owner,
)
from .reading import read_record

# The states that a job may have in a folder.
_STATES = {READY: "w", DONE: "scd", DEAD: "f"}
_CLAIMED = "wrp"
# What a volume has of itself, as ext4 does; what other tools keep there begins with a dot.
_LOST_AND_FOUND = "lost+found"
_OTHERS = 0o077  # permissions of anybody but the user


class Problem(NamedTuple):
    """What is wrong in a spool.

    Attributes:
        path: Where.
        what: What it is.
    """

    path: str
    what: str


class Report(NamedTuple):
    """What a check has found.

    Attributes:
        jobs: How many jobs there are.
        problems: What is wrong.
    """

    jobs: int
    problems: list[Problem]


def check(disk: Disk) -> Report:
    """Check all that is in a spool. Owners may go on meanwhile.

    Args:
        disk: Where.

    Raises:
        OSError: The directory can't be looked into.
    """
    report = _Survey(disk).report()
    if report.problems:
        # What moved while it was looked at is not wrong: only what is found twice.
        again = set(_Survey(disk).report().problems)
        found = [problem for problem in report.problems if problem in again]
        report = report._replace(problems=found)
    return report


class _Survey:
    """Looks at everything once."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._seen: dict[str, str] = {}
        self._problems: list[Problem] = []

    def report(self) -> Report:
        self._check_folders()
        for folder, states in _STATES.items():
            for name in self._names(folder):
                self._check_entry(f"{folder}/{name}", states)
        for owner in self._names(CLAIMED):
            self._check_claimed(owner)
        for name in self._names(OWNERS):
            self._check_lock(name)
        for name in self._names(CORRUPT):
            self._add(f"{CORRUPT}/{name}", "was set aside, as it could not be read")
        return Report(len(self._seen), self._problems)

    def _check_folders(self) -> None:
        there = self._disk.names(".")
        for folder in FOLDERS:
            if folder in there:
                self._is_directory(folder)
            else:
                self._add(folder, "is missing")
        for name in sorted(set(there) - set(FOLDERS)):
            if not (name == _LOST_AND_FOUND or name.startswith(".")):
                self._add(name, "is no folder of a spool")

    def _check_lock(self, name: str) -> None:
        path = f"{OWNERS}/{name}"
        if not (name.endswith(LOCK) and is_owner(name.removesuffix(LOCK))):
            self._add(path, "is not the lock of an owner")
        else:
            self._check_file(path)

    def _check_claimed(self, owner: str) -> None:
        folder = folder_of(owner)
        if not is_owner(owner):
            self._add(folder, "is not what an owner has")
        elif self._is_directory(folder):
            for name in self._names(folder):
                path = f"{folder}/{name}"
                if is_accept(name) and self._is_directory(path):
                    for each in self._names(path):
                        self._check_entry(f"{path}/{each}", "w")
                elif not (is_draft(name) or is_accept(name)):
                    self._check_entry(path, _CLAIMED)

    def _check_entry(self, path: str, states: str) -> None:
        entry = Entry.parse(path.rpartition("/")[2])
        if entry is None:
            self._add(path, "its name is not that of a job")
            return
        if entry.state not in states:
            self._add(path, f"a job in the state {entry.state!r} does not belong here")
        if entry.id in self._seen:
            self._add(path, f"the same job is in {self._seen[entry.id]}")
        self._seen[entry.id] = path
        if self._is_directory(path):
            try:
                record = read_record(self._disk, path, entry)
            except NewerFormat:  # it is for a newer version to say
                return
            except FileNotFoundError:
                self._add(path, f"has no {RECORD}")
            except (UnreadableRecord, OSError) as error:
                self._add(f"{path}/{RECORD}", f"can't be read: {error}")
            else:
                self._check_record(path, entry, record)

    def _check_record(self, path: str, entry: Entry, record: JobRecord) -> None:
        if handler_key(record.handler) != entry.key:
            self._add(path, f"its handler is {record.handler!r}, and its name says another")
        names = set(self._names(path))
        # An end that was cut short has left children that nobody looks at.
        parts = {RECORD, ENDING, CHILDREN} & names
        for number, file in enumerate(record.files):
            name = str(number)
            parts.add(name)
            if name in names:
                self._check_file(f"{path}/{name}", file.size)
            elif not path.startswith(f"{DONE}/"):
                self._add(f"{path}/{name}", "is missing: the job can't be run")
        for name in sorted(parts & {RECORD, ENDING}):
            self._check_file(f"{path}/{name}")
        for name in sorted(names - parts):
            self._add(f"{path}/{name}", "is no part of a job")
        if entry.state == "p" and CHILDREN in names:
            for name in self._names(f"{path}/{CHILDREN}"):
                self._check_entry(f"{path}/{CHILDREN}/{name}", "w")

    def _is_directory(self, path: str) -> bool:
        status = self._status(path)
        if status is not None and not stat.S_ISDIR(status.st_mode):
            self._add(path, "is no directory")
        return status is not None and stat.S_ISDIR(status.st_mode)

    def _check_file(self, path: str, size: int | None = None) -> None:
        status = self._status(path)
        if status is not None and not stat.S_ISREG(status.st_mode):
            self._add(path, "is no plain file")
        elif status is not None and size not in (None, status.st_size):
            self._add(path, f"has {status.st_size} bytes, not {size}")

    def _status(self, path: str) -> os.stat_result | None:
        try:
            status = self._disk.status(path)
        except FileNotFoundError:  # it has moved
            return None
        if not stat.S_ISLNK(status.st_mode) and status.st_mode & _OTHERS:
            self._add(path, "is not for its user alone")
        return status

    def _names(self, path: str) -> list[str]:
        try:
            return sorted(self._disk.names(path))
        except (FileNotFoundError, NotADirectoryError):  # moved, or told of already
            return []

    def _add(self, path: str, what: str) -> None:
        self._problems.append(Problem(path, what))
