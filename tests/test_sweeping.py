"""What is needed no more is removed, and nothing else."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from starlette_upload_keepalive import JobState
from starlette_upload_keepalive.files.storage import Storage
from starlette_upload_keepalive.spool.directory_spool import DirectorySpool
from starlette_upload_keepalive.spool.disk import Disk
from tests.spooling import (
    FailingDisk,
    Maker,
    die,
    ended,
    failing_spool,
    inside,
    released,
)

pytestmark = pytest.mark.usefixtures("no_syncing")


@pytest.fixture
def swept(root: Path, on_disk: Storage) -> Iterator[tuple[DirectorySpool, FailingDisk]]:
    spool, disk = failing_spool(root, keep_done=2, keep_done_seconds=3600)
    spool.open(on_disk)
    yield spool, disk
    die(spool)


@pytest.fixture
def spool(swept: tuple[DirectorySpool, FailingDisk]) -> DirectorySpool:
    return swept[0]


def finish(
    spool: DirectorySpool, maker: Maker, ago: float, state: JobState = JobState.SUCCEEDED
) -> str:
    job = maker.job(b"one", b"two")
    spool.accept([job])
    spool.finish(job.record.id, ended(state, at=time.time() - ago))
    return job.record.id


def kept(spool: DirectorySpool) -> set[str]:
    return {job.record.id for job in spool.jobs()}


def test_bytes_of_jobs_that_are_done(spool: DirectorySpool, root: Path, maker: Maker) -> None:
    finish(spool, maker, 1)
    failed = finish(spool, maker, 1, JobState.FAILED)
    waiting, running = maker.job(b"data"), maker.job(b"data")
    released(spool, waiting)
    spool.accept([running])
    spool.sweep()
    spool.sweep()

    (done,), (dead,), (ready,) = (inside(root, each) for each in ("done", "dead", "ready"))
    assert sorted(path.name for path in done.iterdir()) == ["ending.json", "job.json"]
    assert sorted(path.name for path in dead.iterdir()) == ["0", "1", "ending.json", "job.json"]
    assert sorted(path.name for path in ready.iterdir()) == ["0", "job.json"]
    assert {failed, waiting.record.id, running.record.id} < kept(spool)


def test_old_records(spool: DirectorySpool, root: Path, maker: Maker) -> None:
    newest, second, *_ = [finish(spool, maker, ago) for ago in (1, 2, 3, 4)]
    failed = [finish(spool, maker, 1e6, JobState.FAILED) for _ in range(3)]
    spool.sweep()
    assert kept(spool) == {newest, second, *failed}  # what has failed stays until it is purged
    assert inside(root, "trash") == []


def test_records_that_were_kept_for_long(spool: DirectorySpool, maker: Maker) -> None:
    new = finish(spool, maker, 3500)
    finish(spool, maker, 3700)
    spool.sweep()
    assert kept(spool) == {new}


def test_trash(spool: DirectorySpool, root: Path) -> None:
    trash = root / "trash"
    (trash / "a/b/c").mkdir(parents=True)
    (trash / "a/b/c/d").touch()
    (trash / "e").touch()
    os.mkfifo(trash / "f")
    (root / "corrupt/kept").touch()
    (trash / "g").symlink_to(root / "corrupt")
    spool.sweep()
    assert inside(root, "trash") == []
    assert len(inside(root, "corrupt")) == 1


@pytest.mark.parametrize("together", [False, True])
def test_what_was_refused_takes_no_room(
    swept: tuple[DirectorySpool, FailingDisk], root: Path, maker: Maker, together: bool
) -> None:
    """Nor until the next sweep: it was refused, perhaps, since there is none left."""
    spool, disk = swept
    parent = maker.job(b"data")
    spool.accept([parent])
    before = sorted(root.rglob("*"))
    disk.error = partial(OSError, errno.ENOSPC, "injected")
    for number in range(5):
        disk.fail(number)
        with pytest.raises(OSError, match="injected"):
            spool.accept([maker.job(b"data") for _ in range(1 + together)])
        assert sorted(root.rglob("*")) == before
    for number in range(1, 6):
        disk.fail(number)
        with pytest.raises(OSError, match="injected"):
            spool.finish(parent.record.id, ended(), [maker.job(b"data")])
        assert sorted(root.rglob("*")) == before


def test_what_is_purged_takes_no_room(spool: DirectorySpool, root: Path, maker: Maker) -> None:
    for _ in range(3):
        finish(spool, maker, 1, JobState.FAILED)
    assert spool.purge(state=JobState.FAILED) == 3
    assert inside(root, "dead") == inside(root, "trash") == []


def test_what_a_power_cut_may_bring_back_is_whole(
    swept: tuple[DirectorySpool, FailingDisk], root: Path, maker: Maker
) -> None:
    """Nothing is removed for good before the names that led to it."""
    spool, disk = swept
    finish(spool, maker, 1)
    old = finish(spool, maker, 1e6)
    del disk.steps[:]
    spool.sweep()
    synced = [number for number, step in enumerate(disk.steps) if step == "sync_directory"]
    removed = [number for number, step in enumerate(disk.steps) if step.startswith("remove")]
    assert len(synced) == 2
    assert all(number > synced[0] for number in removed)
    assert disk.steps.index("rename") < synced[1] < removed[-1]
    assert old not in kept(spool)

    finish(spool, maker, 1)
    disk.fail(1)
    with pytest.raises(OSError, match="injected"):
        spool.sweep()
    assert (inside(root, "done")[0] / "0").exists() or (inside(root, "done")[1] / "0").exists()


def test_another_does_the_same(
    spool: DirectorySpool, root: Path, maker: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each step it may have been faster."""
    finish(spool, maker, 1)
    finish(spool, maker, 1e6)
    (root / "trash/a/b").mkdir(parents=True)
    remove, remove_directory, rename = Disk.remove, Disk.remove_directory, Disk.rename

    def remove_twice(disk: Disk, path: str) -> None:
        remove(disk, path)
        remove(disk, path)

    def remove_directory_twice(disk: Disk, path: str) -> bool:
        return remove_directory(disk, path) and remove_directory(disk, path)

    def rename_twice(disk: Disk, source: str, target: str) -> None:
        rename(disk, source, target)
        rename(disk, source, target)

    monkeypatch.setattr(Disk, "remove", remove_twice)
    monkeypatch.setattr(Disk, "remove_directory", remove_directory_twice)
    monkeypatch.setattr(Disk, "rename", rename_twice)
    spool.sweep()
    (done,) = inside(root, "done")
    assert sorted(path.name for path in done.iterdir()) == ["ending.json", "job.json"]


def test_junk_stops_nobody(spool: DirectorySpool, root: Path, maker: Maker) -> None:
    finish(spool, maker, 1)
    (done,) = inside(root, "done")
    (done / "deep/down").mkdir(parents=True)
    (root / "done/junk").touch()
    (root / "done" / done.name.replace(done.name[:32], "0" * 32)).touch()
    spool.sweep()
    assert sorted(path.name for path in done.iterdir()) == ["ending.json", "job.json"]
    assert (root / "done/junk").exists()
