"""Spools that break a promise, each in its way: the soak must tell."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from starlette_upload_keepalive import DirectorySpool
from starlette_upload_keepalive.files.blob import Blob
from starlette_upload_keepalive.jobs.record import Standing
from starlette_upload_keepalive.jobs.spool import Ending, NewJob, Spool
from starlette_upload_keepalive.spool.disk import Disk
from starlette_upload_keepalive.spool.layout import CLAIMED, OWNERS

_A_WHILE = 0.02  # in which a kill may hit


class EarlySpool(DirectorySpool):
    """Lets the answer go before the commit."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self._commits: dict[str, threading.Thread] = {}

    def accept(self, jobs: Sequence[NewJob]) -> None:
        commit = threading.Thread(target=partial(self._commit, jobs))
        self._commits.update({job.record.id: commit for job in jobs})
        commit.start()

    def _commit(self, jobs: Sequence[NewJob]) -> None:
        time.sleep(_A_WHILE)
        super().accept(jobs)

    def start(self, job_id: str) -> None:
        self._wait(job_id)
        super().start(job_id)

    def release(self, job_id: str, standing: Standing) -> None:
        self._wait(job_id)
        super().release(job_id, standing)

    def _wait(self, job_id: str) -> None:
        if job_id in self._commits:
            self._commits[job_id].join()


class SelfishSpool(DirectorySpool):
    """Leaves the jobs of owners that have ended where they are."""

    def rescue(self) -> int:
        return 0


class EagerSpool(DirectorySpool):
    """Takes the jobs of owners that live."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self._disk = _UnlockedDisk(root)


class _UnlockedDisk(Disk):
    def lock(self, path: str, *, create: bool = False) -> int | None:
        if create:
            return super().lock(path, create=create)
        return os.open(path, os.O_RDWR, dir_fd=self._fd)

    # So that owners don't notice at once.

    def remove(self, path: str) -> None:
        if not path.startswith(OWNERS):
            super().remove(path)

    def remove_directory(self, path: str) -> bool:
        return not path.startswith(CLAIMED) and super().remove_directory(path)


class ForgetfulSpool(DirectorySpool):
    """Does not note that a job is done."""

    def finish(self, job_id: str, ending: Ending, children: Sequence[NewJob] = ()) -> None:
        if children:
            super().finish(job_id, ending, children)


class GrudgingSpool(DirectorySpool):
    """Counts a crash for a thread that the end of its app has cut off."""

    def interrupt(self, job_id: str) -> None:
        pass


class PiecemealSpool(DirectorySpool):
    """Accepts the jobs of a request one by one."""

    def accept(self, jobs: Sequence[NewJob]) -> None:
        for job in jobs:
            super().accept([job])
            time.sleep(_A_WHILE / len(jobs))


class HastySpool(DirectorySpool):
    """Accepts what a handler has submitted before it notes that the handler is done."""

    def finish(self, job_id: str, ending: Ending, children: Sequence[NewJob] = ()) -> None:
        if children:
            super().accept(children)
            time.sleep(_A_WHILE)
        super().finish(job_id, ending)


class SpoilingSpool(DirectorySpool):
    """Keeps other bytes than it is given."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self._disk = _SpoilingDisk(root)


class _SpoilingDisk(Disk):
    def store(self, path: str, blob: Blob) -> None:
        super().store(path, blob)
        target = self.root / path
        data = target.read_bytes()
        target.unlink()
        target.write_bytes(data[::-1])


SPOOLS: dict[str, Callable[[Path], Spool]] = {
    "sound": DirectorySpool,
    "early": EarlySpool,
    "selfish": SelfishSpool,
    "eager": EagerSpool,
    "forgetful": ForgetfulSpool,
    "grudging": GrudgingSpool,
    "piecemeal": PiecemealSpool,
    "hasty": HastySpool,
    "spoiling": SpoilingSpool,
}
