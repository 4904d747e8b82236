"""What is in a spool, for people: to look at, to be run again, to be forgotten."""

from __future__ import annotations

import json
import time
from collections.abc import Container, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import NamedTuple

from starlette_upload_keepalive.jobs.job_state import JobState
from starlette_upload_keepalive.jobs.record import (
    NewerFormat,
    Standing,
    UnreadableRecord,
)
from starlette_upload_keepalive.jobs.spool import Ending, KeptJob

from .disk import Disk
from .entry import Entry, State, glance, holds_children
from .layout import CHILDREN, CLAIMED, DEAD, DONE, ENDING, MAX_RECORD, READY, folder_of, is_accept
from .reading import read_record
from .writing import throw_away

_STATES: dict[State, JobState] = {
    "w": JobState.WAITING,
    "r": JobState.RUNNING,
    "p": JobState.SUCCEEDED,
    "s": JobState.SUCCEEDED,
    "f": JobState.FAILED,
    "c": JobState.CANCELLED,
    "d": JobState.DISCARDED,
}


class Place(NamedTuple):
    """An entry, and where it was seen. It may be elsewhere by now.

    Attributes:
        path: The path of its directory.
        entry: What its name tells.
    """

    path: str
    entry: Entry


class Catalog:
    """Looks into the directory of a spool, whoever owns what is in it.

    Nothing is locked: what owners do meanwhile may be seen or not, but no job
    that stays where it is, is missed.

    Args:
        disk: Where.
    """

    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    def places(self, wanted: Container[str] | None = None) -> Iterator[Place]:
        """Go over all entries, or those of these jobs."""
        # In the order in which jobs go through them: one that moves on meanwhile is seen twice
        # rather than not at all.
        yield from self._in(READY, wanted)
        for owner in self._names(CLAIMED):
            yield from self._in(folder_of(owner), wanted)
        yield from self._in(READY, wanted)  # what an owner has released since
        yield from self._in(DONE, wanted)
        yield from self._in(DEAD, wanted)

    def jobs(self, wanted: Container[str] | None = None) -> Iterator[KeptJob]:
        """Go over all jobs, or these, each once."""
        seen = set[str]()
        for place in self.places(wanted):
            if place.entry.id not in seen:
                kept = self._kept(place)
                if kept is not None:
                    seen.add(place.entry.id)
                    yield kept

    def find(self, job_id: str) -> KeptJob | None:
        """Look for a job."""
        return next(self.jobs({job_id}), None)

    def cancel(self, job_id: str) -> bool:
        """End a job that waits; False if none of that id does."""
        for path, entry in self._in(READY, {job_id}):
            standing = replace(entry.standing, due=time.time())
            done = entry._replace(standing=standing, state="c")
            return self._moved(path, f"{DONE}/{done.name}")
        return False

    def retry(self, job_id: str) -> bool:
        """Let a job that has failed be claimed once more; False if none of that id has."""
        for path, entry in self._in(DEAD, {job_id}):
            standing = Standing(time.time(), entry.standing.attempts)
            again = entry._replace(standing=standing, state="w")
            return self._moved(path, f"{READY}/{again.name}")
        return False

    def _moved(self, path: str, target: str) -> bool:
        try:
            self._disk.rename(path, target)
        except FileNotFoundError:  # another has just done so
            return False
        return True

    def purge(self, *, state: JobState | None = None, before: float | None = None) -> int:
        """Forget jobs that are done, and return how many they were."""
        purged = 0
        for folder in (DONE, DEAD):
            for path, entry in self._in(folder):
                wanted = state in (None, _STATES[entry.state])
                if wanted and (before is None or entry.standing.due < before):
                    throw_away(self._disk, path)
                    purged += 1
        return purged

    def _in(self, folder: str, wanted: Container[str] | None = None) -> Iterator[Place]:
        for name in self._names(folder):
            if is_accept(name):
                yield from self._in(f"{folder}/{name}", wanted)
            elif wanted is None or glance(name)[0] in wanted or holds_children(name):
                entry = Entry.parse(name)
                if entry is None:
                    continue
                if wanted is None or entry.id in wanted:
                    yield Place(f"{folder}/{name}", entry)
                if entry.state == "p":
                    yield from self._in(f"{folder}/{name}/{CHILDREN}", wanted)

    def _names(self, folder: str) -> list[str]:
        try:
            return self._disk.names(folder)
        except (FileNotFoundError, NotADirectoryError):  # an owner has ended, or it is no folder
            return []

    def _kept(self, place: Place) -> KeptJob | None:
        path, entry = place
        try:
            record = read_record(self._disk, path, entry)
            ending = self._ending(path, entry)
        except (FileNotFoundError, NotADirectoryError, UnreadableRecord, NewerFormat):
            return None
        state = _STATES[entry.state]
        # A name tells whole milliseconds, rounded.
        if state is JobState.WAITING and entry.standing.due > time.time() + 0.001:
            state = JobState.DELAYED
        return KeptJob(record, entry.standing, state, ending)

    def _ending(self, path: str, entry: Entry) -> Ending | None:
        if entry.state in ("w", "r"):
            return None
        result = error = None
        # It is not synced: a power cut may have taken it, and the name tells the rest.
        with suppress(FileNotFoundError, ValueError, AttributeError, RecursionError):
            found = json.loads(self._disk.read_file(f"{path}/{ENDING}", MAX_RECORD))
            result, error = found.get("result"), found.get("error")
        return Ending(_STATES[entry.state], entry.standing.due, result, error)
