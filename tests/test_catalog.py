"""What is in a spool can be looked at by people, whoever has it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from starlette_upload_keepalive import JobState
from starlette_upload_keepalive.files.storage import Storage
from starlette_upload_keepalive.jobs.record import Standing
from starlette_upload_keepalive.spool.catalog import Catalog
from starlette_upload_keepalive.spool.directory_spool import DirectorySpool
from starlette_upload_keepalive.spool.disk import Disk
from starlette_upload_keepalive.spool.entry import glance
from tests.spooling import Maker, claimed, contents, die, ended, inside, released

pytestmark = pytest.mark.usefixtures("no_syncing")

LATER = time.time() + 1000


@pytest.fixture
def spool(root: Path, on_disk: Storage) -> Iterator[DirectorySpool]:
    spool = DirectorySpool(root)
    spool.open(on_disk)
    yield spool
    die(spool)


@pytest.fixture
def catalog(root: Path, spool: DirectorySpool) -> Iterator[Catalog]:
    """Look from outside: it is no owner."""
    disk = Disk(root)
    disk.open()
    yield Catalog(disk)
    disk.close()


def one_of_each(spool: DirectorySpool, maker: Maker) -> dict[str, JobState]:
    """Have a job in each place and state."""
    accepted, beside, running, waiting, delayed, *over = [maker.job(b"data") for _ in range(9)]
    spool.accept([accepted, beside])
    spool.accept([running])
    spool.start(running.record.id)
    released(spool, waiting)
    released(spool, delayed, due=LATER)
    ends = [JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.DISCARDED]
    for job, state in zip(over, ends, strict=True):
        spool.accept([job])
        spool.finish(job.record.id, ended(state))
    return {
        accepted.record.id: JobState.WAITING,
        beside.record.id: JobState.WAITING,
        running.record.id: JobState.RUNNING,
        waiting.record.id: JobState.WAITING,
        delayed.record.id: JobState.DELAYED,
        **{job.record.id: state for job, state in zip(over, ends, strict=True)},
    }


def test_all_jobs(catalog: Catalog, spool: DirectorySpool, maker: Maker) -> None:
    there = one_of_each(spool, maker)
    found = list(catalog.jobs())
    assert {job.record.id: job.state for job in found} == there
    assert len(found) == len(there)
    for job_id, state in there.items():
        kept = catalog.find(job_id)
        assert kept is not None
        assert kept.state is state
        assert (kept.ending is not None) is (
            state not in (JobState.WAITING, JobState.DELAYED, JobState.RUNNING)
        )
    assert catalog.find("0" * 32) is None


def test_a_job_that_moves_on_meanwhile(
    catalog: Catalog, spool: DirectorySpool, maker: Maker
) -> None:
    """It is seen once."""
    job = maker.job(b"data")
    released(spool, job)
    looking = catalog.jobs()
    assert next(looking).state is JobState.WAITING
    (found,) = claimed(spool)
    assert list(looking) == []
    contents(found)


def test_a_job_that_is_released_meanwhile(
    catalog: Catalog, spool: DirectorySpool, maker: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits was looked at before, and what its owner has is not yet."""
    job, names = maker.job(b"data"), Disk.names
    spool.accept([job])

    def release_first(disk: Disk, path: str) -> list[str]:
        if path.startswith("claimed/") and len(spool._owned):
            spool.release(job.record.id, Standing(0))
        return names(disk, path)

    monkeypatch.setattr(Disk, "names", release_first)
    assert [kept.record for kept in catalog.jobs()] == [job.record]


def test_what_can_not_be_read_is_left_out(
    catalog: Catalog, spool: DirectorySpool, root: Path, maker: Maker
) -> None:
    jobs = [maker.job(b"data") for _ in range(4)]
    released(spool, *jobs)
    gone, bad, file, good = inside(root, "ready")
    (gone / "job.json").unlink()
    (bad / "job.json").write_bytes(b"{")
    file.rename(root / "elsewhere")
    file.touch()
    (root / "ready" / "junk").touch()
    os.mkfifo(root / "claimed" / "junk")
    assert [job.record.id for job in catalog.jobs()] == [glance(good.name)[0]]
    assert catalog.find(glance(bad.name)[0]) is None


def test_what_came_of_a_job_that_a_power_cut_has_taken(
    catalog: Catalog, spool: DirectorySpool, root: Path, maker: Maker
) -> None:
    """Its name tells the rest."""
    for state in (JobState.SUCCEEDED, JobState.FAILED):
        job = maker.job(b"data")
        spool.accept([job])
        spool.finish(job.record.id, ended(state, result=1, error="why"))
    (done,), (dead,) = inside(root, "done"), inside(root, "dead")
    (done / "ending.json").write_bytes(b"")
    (dead / "ending.json").unlink()
    assert {(job.state, job.ending) for job in catalog.jobs()} == {
        (state, ended(state)) for state in (JobState.SUCCEEDED, JobState.FAILED)
    }


@pytest.mark.parametrize("text", [b"[]", b"7", b"null", b'{"result": 1'])
def test_what_came_of_a_job_is_something_else(
    catalog: Catalog, spool: DirectorySpool, root: Path, maker: Maker, text: bytes
) -> None:
    job = maker.job(b"data")
    spool.accept([job])
    spool.finish(job.record.id, ended())
    (inside(root, "done")[0] / "ending.json").write_bytes(text)
    (kept,) = catalog.jobs()
    assert kept.ending == ended()


def test_children_of_an_owner_who_has_ended(
    catalog: Catalog, spool: DirectorySpool, root: Path, maker: Maker
) -> None:
    """They wait for rescue, and are there."""
    parent, child = maker.job(b"data"), maker.job(b"data")
    spool.accept([parent])
    spool.start(parent.record.id)
    spool._write_children(spool._owned.get(parent.record.id).path, [child])
    (running,) = inside(root, f"claimed/{spool._name}")
    assert catalog.find(child.record.id) is None  # its parent may be run again, and not submit it
    running.rename(running.with_name(running.name[:-1] + "p"))
    assert {job.record.id: job.state for job in catalog.jobs()} == {
        parent.record.id: JobState.SUCCEEDED,
        child.record.id: JobState.WAITING,
    }


# What people do


@pytest.fixture
def failed(spool: DirectorySpool, maker: Maker) -> str:
    job = maker.job(b"data")
    spool.accept([job])
    spool.start(job.record.id)
    spool.finish(job.record.id, ended(JobState.FAILED, error="why"))
    return job.record.id


def test_retrying(catalog: Catalog, spool: DirectorySpool, failed: str) -> None:
    before = time.time()
    assert catalog.retry(failed)
    (waiting,) = spool.waiting()
    assert before - 0.001 <= waiting.standing.due <= time.time() + 0.001
    assert waiting.standing == Standing(waiting.standing.due, attempts=1)
    (kept,) = catalog.jobs()
    assert (kept.state, kept.ending) == (JobState.WAITING, None)


def test_retrying_what_has_not_failed(
    catalog: Catalog, spool: DirectorySpool, maker: Maker
) -> None:
    for job_id, state in one_of_each(spool, maker).items():
        assert catalog.retry(job_id) is (state is JobState.FAILED)
    assert not catalog.retry("0" * 32)


def test_retrying_what_another_retries(
    catalog: Catalog, failed: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Disk.rename

    def other_first(disk: Disk, source: str, target: str) -> None:
        rename(disk, source, "elsewhere")
        rename(disk, source, target)

    (root / "dead" / inside(root, "dead")[0].name / "ending.json").unlink()
    monkeypatch.setattr(Disk, "rename", other_first)
    assert not catalog.retry(failed)


@pytest.mark.parametrize("state", list(JobState))
def test_purging_a_state(
    catalog: Catalog, spool: DirectorySpool, maker: Maker, state: JobState
) -> None:
    there = one_of_each(spool, maker)
    over = {JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.DISCARDED}
    assert catalog.purge(state=state) == (state in over)
    left = [each for each in there.values() if each is not state or each not in over]
    assert sorted(job.state for job in catalog.jobs()) == sorted(left)
    assert catalog.purge() == 4 - (state in over)


def test_purging_what_is_old(catalog: Catalog, spool: DirectorySpool, maker: Maker) -> None:
    for at in (100.0, 200.0, 300.0):
        job = maker.job(b"data")
        spool.accept([job])
        spool.finish(job.record.id, ended(at=at))
    assert catalog.purge(before=200.0) == 1
    assert catalog.purge(state=JobState.FAILED, before=1000.0) == 0
    assert sorted(job.standing.due for job in catalog.jobs()) == [200.0, 300.0]
