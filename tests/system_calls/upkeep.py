"""What an owner does beside its jobs: it starts, takes over from others, and tidies up."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn
from unittest.mock import patch

from starlette_upload_keepalive import JobState
from starlette_upload_keepalive.files.storage import Storage
from starlette_upload_keepalive.jobs.record import JobRecord, Standing
from starlette_upload_keepalive.jobs.spool import Ending, NewJob
from starlette_upload_keepalive.spool import directory_spool
from starlette_upload_keepalive.spool.directory_spool import DirectorySpool
from tests.owners import claim_all, new_blobs, new_record, owning
from tests.spooled import entries, names

from .steps import Steps

STEPS = ("open", "rescue", "sweep")


class Upkeep(Steps):
    """An owner's start, and what it does every now and then.

    Args:
        root: That of the spool.
    """

    def __init__(self, root: Path) -> None:
        super().__init__(root, STEPS)
        self._contents: dict[str, bytes] = {}
        # Of an owner who has died.
        self._waits = self._record(b"waits")
        self._runs = self._record(b"runs")
        self._both = [self._record(b"both", name) for name in "ab"]
        self._parent = self._record(b"parent")
        self._child = self._record(b"child")
        # Of one who lives.
        self._old, self._new = self._record(b"old"), self._record(b"new")
        self._spool = DirectorySpool(root, keep_done=2)
        self._now = time.time()

    def _record(self, data: bytes, handler: str = "work") -> JobRecord:
        record = new_record(data, handler=handler)
        self._contents[record.id] = data
        return record

    def prepare(self) -> None:
        """Have an owner die with jobs of all kinds, and another live with such as are done."""
        super().prepare()
        child = os.fork()
        if child == 0:
            self._die()
        os.waitpid(child, 0)
        storage = Storage()
        self._spool.open(storage)
        for at, record in enumerate([self._old, self._new]):
            self._spool.accept([self._job(storage, record)])
            self._spool.finish(record.id, Ending(JobState.SUCCEEDED, self._now + at))

    def _die(self) -> None:
        storage, spool = Storage(), DirectorySpool(self._root)
        spool.open(storage)
        for record in (self._waits, self._runs, self._parent):
            spool.accept([self._job(storage, record)])
        spool.accept([self._job(storage, record) for record in self._both])
        for record in (self._runs, self._parent):
            spool.start(record.id)
        spool._disk.make_directory(f"{spool._ours}/.draft")
        with patch.object(directory_spool, "publish_children", _end):
            children = [self._job(storage, self._child)]
            spool.finish(self._parent.id, Ending(JobState.SUCCEEDED, self._now + 2), children)

    def _job(self, storage: Storage, record: JobRecord) -> NewJob:
        return NewJob(record, new_blobs(storage, self._contents[record.id]))

    def steps(self) -> Sequence[Callable[[], object]]:
        """Return what is done at each step."""
        return [self._open, self._spool.rescue, self._spool.sweep]

    def _open(self) -> None:
        another = DirectorySpool(self._root)
        another.open(Storage())
        another.close()

    def violations(self) -> Iterator[str]:
        """Find what broke a promise, as the next owner sees it."""
        yield from super().violations()
        if self.outcomes["rescue"] == "done" and names(self._root, "claimed"):
            yield f"rescue: it has left {names(self._root, 'claimed')}"
        if self.outcomes["sweep"] == "done":
            yield from self._wrongly_swept()
        with owning(self._root) as spool:
            spool.rescue()
            yield from self._wrongly_rescued(spool)
            spool.sweep()
            known = {job.id for job in spool.jobs()} | {self._old.id}
            if known != self._contents.keys():
                yield f"sweep: only {known} are there"
        done = {entry.id for entry in entries(self._root, "done")} | {self._old.id}
        if done != {self._parent.id, self._new.id, self._old.id}:
            yield f"sweep: {done} are done"
        for folder in ("claimed", "owners", "dead", "corrupt", "trash"):
            if names(self._root, folder):
                yield f"{folder}/ holds {names(self._root, folder)}"

    def _wrongly_rescued(self, spool: DirectorySpool) -> Iterator[str]:
        rescued = [self._waits, self._runs, *self._both, self._child]
        crashes = {job.id: job.standing.crashes for job in spool.waiting()}
        if crashes != {job.id: int(job is self._runs) for job in rescued}:
            yield f"rescue: crashes were counted as {crashes}"
        waiting = claim_all(spool)
        expected = {job.id: [self._contents[job.id]] for job in rescued}
        if waiting != expected:
            yield f"rescue: {waiting} wait, and not {expected}"
        for job_id in waiting:
            spool.release(job_id, Standing(0))

    def _wrongly_swept(self) -> Iterator[str]:
        if names(self._root, "trash"):
            yield f"sweep: it has left {names(self._root, 'trash')}"
        for path in (self._root / "done").iterdir():
            if {each.name for each in path.iterdir()} != {"job.json", "ending.json"}:
                yield f"sweep: of {path.name} there are {list(path.iterdir())}"


def _end(*_: object) -> NoReturn:
    os._exit(0)
