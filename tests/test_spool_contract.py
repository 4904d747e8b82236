"""The contract of spools holds for ours, and is seen to be broken by those that break it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from starlette_upload_keepalive.jobs.memory_spool import MemorySpool
from starlette_upload_keepalive.jobs.record import Standing
from starlette_upload_keepalive.jobs.spool import ClaimedJob, NewJob, Spool, WaitingJob
from starlette_upload_keepalive.spool.directory_spool import DirectorySpool
from starlette_upload_keepalive.testing import check_spool
from tests.broken_spools import (
    BROKEN,
    ClosesForGood,
    OwnsNoBytes,
    RescuesAsNew,
    RescuesNothing,
    RescuesTheLiving,
    SeesItsOwn,
    SweepsBytesOfFailures,
)
from tests.spooling import die, without_syncing


@pytest.fixture(autouse=True)
def processes(monkeypatch: pytest.MonkeyPatch) -> None:
    without_syncing(monkeypatch)


def check_directory(tmp_path: Path, kind: type[DirectorySpool] = DirectorySpool) -> None:
    made: list[DirectorySpool] = []

    def of(root: Path) -> DirectorySpool:
        made.append(kind(root))
        return made[-1]

    def make() -> DirectorySpool:
        root = tmp_path / str(len(made))
        root.mkdir(mode=0o700)
        return of(root)

    def beside(spool: Spool) -> Spool:
        assert isinstance(spool, DirectorySpool)
        return of(spool.root)

    def crash(spool: Spool) -> None:
        assert isinstance(spool, DirectorySpool)
        die(spool)

    try:
        check_spool(make, beside=beside, crash=crash)
    finally:
        for spool in made:
            if spool._lock is not None:
                die(spool)


def test_the_spool_in_memory() -> None:
    check_spool(MemorySpool)


def test_the_spool_in_a_directory(tmp_path: Path) -> None:
    check_directory(tmp_path)


def test_a_durable_spool_is_checked_whole(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"is checked with beside= and crash="):
        check_spool(lambda: DirectorySpool(tmp_path))


def test_owners_that_share_and_can_not_crash() -> None:
    """What is checked of two owners is checked without the rest."""
    asked: list[Spool] = []

    def beside(spool: Spool) -> Spool:
        asked.append(spool)
        return MemorySpool()

    with pytest.raises(AssertionError, match="jobs\\(\\) goes over those of all owners"):
        check_spool(MemorySpool, beside=beside)
    assert len(asked) == 1


class Shared(MemorySpool):
    """A spool in memory that has several owners."""

    @classmethod
    def beside(cls, spool: Spool) -> Spool:
        assert isinstance(spool, Shared)
        other = cls()
        other._jobs, other._lock = spool._jobs, spool._lock
        return other


class SharedFairly(Shared):
    """One whose owners know what is theirs."""

    def __init__(self) -> None:
        super().__init__()
        self._own: set[str] = set()

    def accept(self, jobs: Sequence[NewJob]) -> None:
        super().accept(jobs)
        self._own.update(job.record.id for job in jobs)

    def claim(self, job: WaitingJob) -> ClaimedJob | None:
        claimed = super().claim(job)
        if claimed is not None:
            self._own.add(job.id)
        return claimed

    def release(self, job_id: str, standing: Standing) -> None:
        super().release(job_id, standing)
        self._own.discard(job_id)

    def _ours(self, job_id: str) -> Any:
        if job_id not in self._own:
            raise KeyError(job_id)
        return super()._ours(job_id)


def test_owners_that_share_what_ends_with_the_process() -> None:
    """What waits need not outlive one that closes, and nobody is to be rescued."""
    check_spool(SharedFairly, beside=SharedFairly.beside)


def test_a_spool_whose_owners_do_not_know_each_other() -> None:
    with pytest.raises(AssertionError, match="a job belongs to one owner"):
        check_spool(Shared, beside=Shared.beside)


# Broken ones


def seen(kind: type[Spool]) -> str:
    with pytest.raises(AssertionError) as error:
        check_spool(kind)
    told = re.fullmatch(r"The spool breaks a promise: (.*)\.", str(error.value))
    assert told
    return told[1]


@pytest.mark.parametrize("kind", BROKEN, ids=lambda kind: kind.__name__)
def test_a_broken_spool_is_seen(kind: type[MemorySpool]) -> None:
    assert seen(kind) == BROKEN[kind]


@pytest.mark.parametrize("kind", [OwnsNoBytes, SweepsBytesOfFailures])
def test_bytes_that_are_gone_are_seen(kind: type[MemorySpool]) -> None:
    assert seen(kind).startswith("it raises ")


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (RescuesNothing, "rescue() counts what an owner had"),
        (RescuesTheLiving, "rescue() takes no job of an owner that lives"),
        (RescuesAsNew, "rescue() counts a crash for a job that ran"),
        (SeesItsOwn, "jobs() goes over those of all owners"),
        (ClosesForGood, "waiting() names each job once that may be claimed"),
    ],
)
def test_a_broken_spool_of_several_owners_is_seen(
    tmp_path: Path, kind: type[DirectorySpool], told: str
) -> None:
    with pytest.raises(AssertionError, match=re.escape(told)):
        check_directory(tmp_path, kind)
