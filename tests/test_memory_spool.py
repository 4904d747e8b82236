"""What a spool in memory does beyond the contract of all spools."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from starlette_upload_keepalive import JobState
from starlette_upload_keepalive.exceptions import UploadClosed
from starlette_upload_keepalive.files.storage import Storage
from starlette_upload_keepalive.jobs.memory_spool import MemorySpool
from tests.spooling import Maker, claimed, contents, ended, released


@pytest.fixture
def maker(storage: Storage) -> Iterator[Maker]:
    maker = Maker(storage)
    yield maker
    maker.let_go()


@pytest.fixture
def spool(storage: Storage) -> Iterator[MemorySpool]:
    spool = MemorySpool(keep_done=2)
    spool.open(storage)
    yield spool
    spool.close()


def test_an_option_out_of_range() -> None:
    with pytest.raises(ValueError, match="keep_done must be 0 jobs or more, not -1"):
        MemorySpool(keep_done=-1)


def test_bytes_are_kept_until_a_job_has_succeeded(
    spool: MemorySpool, maker: Maker, storage: Storage
) -> None:
    job, failing = maker.job(b"data"), maker.job(b"data")
    spool.accept([job, failing])
    maker.let_go()
    assert storage.open_blobs == 2
    spool.finish(job.record.id, ended())
    spool.finish(failing.record.id, ended(JobState.FAILED))
    assert storage.open_blobs == 1
    spool.purge()
    assert storage.open_blobs == 0


def test_bytes_that_could_not_be_had_are_let_go(
    spool: MemorySpool, maker: Maker, storage: Storage
) -> None:
    good, gone = maker.job(b"data", b"more"), maker.blob(b"gone")
    maker.let_go()
    with pytest.raises(UploadClosed):
        spool.accept([good, maker.job(gone)])
    assert storage.open_blobs == 0


def test_the_oldest_are_forgotten(spool: MemorySpool, maker: Maker) -> None:
    waits = maker.job(b"data")
    jobs = {at: maker.job(b"data") for at in (300.0, 100.0, 200.0)}
    spool.accept([*jobs.values(), waits])
    for at, job in jobs.items():
        spool.finish(job.record.id, ended(JobState.FAILED, at=at))
    spool.sweep()
    assert {job.record.id for job in spool.jobs()} == {
        jobs[300.0].record.id, jobs[200.0].record.id, waits.record.id,
    }  # fmt: skip
    spool.finish(waits.record.id, ended())


def test_what_waits_ends_with_it(spool: MemorySpool, maker: Maker, storage: Storage) -> None:
    released(spool, maker.job(b"data"))
    maker.let_go()
    spool.close()
    assert list(spool.jobs()) == []
    assert storage.open_blobs == 0


def test_what_stands_elsewhere_by_now(spool: MemorySpool, maker: Maker) -> None:
    """It was claimed and released since it was seen."""
    job = maker.job(b"data")
    released(spool, job)
    (seen,) = spool.waiting()
    (found,) = claimed(spool)
    contents(found)
    spool.release(job.record.id, seen.standing.__class__(50.0))
    assert spool.claim(seen) is None


def test_nobody_is_to_be_rescued(spool: MemorySpool, maker: Maker) -> None:
    job = maker.job(b"data")
    spool.accept([job])
    assert spool.rescue() == 0
    spool.finish(job.record.id, ended())
