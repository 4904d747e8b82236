"""What can't be rescued or removed is in no other's way, and is told of once."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from starlette_upload_keepalive import JobState
from starlette_upload_keepalive.files.storage import Storage
from starlette_upload_keepalive.spool.command_line import main
from starlette_upload_keepalive.spool.directory_spool import DirectorySpool
from starlette_upload_keepalive.spool.disk import Disk
from tests.spooling import (
    Maker,
    claimed,
    contents,
    die,
    ended,
    inside,
    released,
)

pytestmark = pytest.mark.usefixtures("no_syncing")

FIRST = "0" * 32  # an owner whose turn comes first


@pytest.fixture
def opened(root: Path, on_disk: Storage) -> Iterator[Callable[[], DirectorySpool]]:
    """Make owners; those that live at the end are closed."""
    spools: list[DirectorySpool] = []

    def make() -> DirectorySpool:
        spool = DirectorySpool(root, keep_done=2)
        spool.open(on_disk)
        spools.append(spool)
        return spool

    yield make
    for spool in spools:
        if spool._lock is not None:
            die(spool)


@pytest.fixture
def spool(opened: Callable[[], DirectorySpool]) -> DirectorySpool:
    return opened()


def forbid(
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    part: str,
    error: int = errno.EACCES,
    source: str = "",
) -> list[str]:
    """Have a step fail for all paths with that part, as with what another user has made."""
    asked: list[str] = []
    take = getattr(Disk, step)

    def refused(disk: Disk, path: str, *more: object, **options: object) -> object:
        if part in path and source in path:
            asked.append(path)
            raise OSError(error, os.strerror(error), path)
        return take(disk, path, *more, **options)

    monkeypatch.setattr(Disk, step, refused)
    return asked


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "seen to" in record.getMessage()]


# Owners


def with_lock_of_another(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / f"owners/{FIRST}.lock").touch()
    forbid(monkeypatch, "lock", FIRST)


def with_lock_that_is_a_directory(root: Path, _: pytest.MonkeyPatch) -> None:
    (root / f"owners/{FIRST}.lock").mkdir()


def with_lock_that_is_a_link(root: Path, _: pytest.MonkeyPatch) -> None:
    (root / f"owners/{FIRST}.lock").symlink_to(root)


def with_folder_that_is_a_file(root: Path, _: pytest.MonkeyPatch) -> None:
    (root / f"claimed/{FIRST}").touch()


def with_folder_that_is_a_link(root: Path, _: pytest.MonkeyPatch) -> None:
    (root / f"claimed/{FIRST}").symlink_to("/etc")


@pytest.mark.parametrize(
    "spoil",
    [
        with_lock_of_another,
        with_lock_that_is_a_directory,
        with_lock_that_is_a_link,
        with_folder_that_is_a_file,
        with_folder_that_is_a_link,
    ],
)
def test_an_owner_that_can_not_be_rescued(
    spool: DirectorySpool,
    opened: Callable[[], DirectorySpool],
    root: Path,
    maker: Maker,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    spoil: Callable[[Path, pytest.MonkeyPatch], None],
) -> None:
    spoil(root, monkeypatch)
    for _ in range(2):
        dead = opened()
        dead.accept([maker.job(b"data")])
        die(dead)
        assert spool.rescue() == 1
    (text,) = told(caplog)
    assert f"{root}/claimed/{FIRST}' can't be seen to, and is left as it is: [Errno" in text
    assert f"chown -R {os.getuid()}. If not, move it out of the spool." in text
    assert [contents(job) for job in claimed(spool)] == [[b"data"]] * 2


def test_a_job_that_can_not_be_rescued(
    spool: DirectorySpool,
    opened: Callable[[], DirectorySpool],
    root: Path,
    maker: Maker,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """All others of its owner are; and it is, once it can be."""
    dead = opened()
    jobs = [maker.job(b"data", created_at=float(number)) for number in range(4)]
    dead.accept(jobs[:2])
    for job in jobs[2:]:
        dead.accept([job])
    dead.start(jobs[2].record.id)
    die(dead)
    with monkeypatch.context() as patch:
        forbid(patch, "rename", jobs[2].record.id)
        forbid(patch, "rename", jobs[0].record.id, errno.EPERM)
        assert spool.rescue() == 2
        assert spool.rescue() == 0
        assert len(told(caplog)) == 2
        assert f"owners/{dead._name}.lock" in {
            str(path.relative_to(root)) for path in inside(root, "owners")
        }
    assert spool.rescue() == 2
    found = claimed(spool)
    assert sorted(job.standing.crashes for job in found) == [0, 0, 0, 1]
    assert [contents(job) for job in found] == [[b"data"]] * 4
    assert len(inside(root, "owners")) == len(inside(root, "claimed")) == 1


def test_a_disk_that_fails_for_one_owner(
    spool: DirectorySpool,
    opened: Callable[[], DirectorySpool],
    root: Path,
    maker: Maker,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is told each time; the others are rescued all the same."""
    dead = opened()
    dead.accept([maker.job(b"data")])
    die(dead)
    (root / f"claimed/{FIRST}").mkdir()
    forbid(monkeypatch, "sync_directory", FIRST, errno.EIO)
    for _ in range(2):
        with pytest.raises(OSError, match="Input/output"):
            spool.rescue()
    assert len(spool.waiting()) == 1


# What is to be claimed


@pytest.mark.parametrize(("step", "part"), [("rename", "ready"), ("read_file", ""), ("blob", "")])
def test_a_job_that_can_not_be_claimed(
    spool: DirectorySpool,
    root: Path,
    maker: Maker,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    step: str,
    part: str,
) -> None:
    """It is tried again only after a while, and the others go on."""
    bad, good = maker.job(b"bad"), maker.job(b"good")
    released(spool, bad, good)
    now = 1e6
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with monkeypatch.context() as patch:
        asked = forbid(patch, step, f"{part}/" if part else bad.record.id, source=bad.record.id)
        for _ in range(3):
            assert [contents(job) for job in claimed(spool)] in ([[b"good"]], [])
        assert len(asked) == 1
        now += 61
        assert claimed(spool) == []
        assert len(asked) == 2
    assert spool.waiting() == []
    now += 61
    assert [contents(job) for job in claimed(spool)] == [[b"bad"]]
    assert len(told(caplog)) == 1


# What is to be removed


@pytest.mark.parametrize("step", ["names", "rename"])
def test_a_job_that_can_not_be_swept(
    spool: DirectorySpool,
    root: Path,
    maker: Maker,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    step: str,
) -> None:
    """Neither the bytes of the others stay, nor old records, nor what is in the trash."""
    jobs = [maker.job(b"data") for _ in range(4)]
    for number, job in enumerate(jobs):
        spool.accept([job])
        spool.finish(job.record.id, ended(at=1e9 - number))
    (root / "trash/thrown").touch()
    spool._sweeping._keep_done_seconds = 1e10
    stays = jobs[0 if step == "names" else 2]
    with monkeypatch.context() as patch:
        forbid(patch, step, stays.record.id)
        spool.sweep()
        spool.sweep()
    left = {path.parent.name[12:44] for path in (root / "done").glob("*/0")}
    assert left == {stays.record.id}
    assert inside(root, "trash") == []
    assert len(told(caplog)) == 1
    spool.sweep()
    assert list((root / "done").glob("*/0")) == inside(root, "trash") == []


def test_trash_that_can_not_be_removed(
    spool: DirectorySpool,
    root: Path,
    maker: Maker,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    job = maker.job(b"data")
    spool.accept([job])
    spool.finish(job.record.id, ended(JobState.FAILED))
    for name in ("one", "two", "three"):
        (root / "trash" / name).touch()
    forbid(monkeypatch, "remove", "trash/two")
    spool.sweep()
    assert [path.name for path in inside(root, "trash")] == ["two"]
    assert main(["spool", str(root), "purge", "--all"]) == 0
    assert [path.name for path in inside(root, "trash")] == ["two"]
    assert len(told(caplog)) == 2  # by each process


def test_what_can_not_be_set_aside(
    spool: DirectorySpool,
    root: Path,
    maker: Maker,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (root / "ready/junk").mkdir()
    released(spool, maker.job(b"data"))
    forbid(monkeypatch, "rename", "junk")
    for _ in range(2):
        assert len(spool.waiting()) == 1
    assert [record.getMessage() for record in caplog.records] == told(caplog)
    assert len(told(caplog)) == 1
    assert [contents(job) for job in claimed(spool)] == [[b"data"]]
