"""What an owner had who has ended is let be claimed, and what a living one has is not."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from starlette_upload_keepalive.files.storage import Storage
from starlette_upload_keepalive.jobs.record import Standing
from starlette_upload_keepalive.jobs.spool import NewJob
from starlette_upload_keepalive.spool.directory_spool import DirectorySpool
from starlette_upload_keepalive.spool.disk import Disk
from starlette_upload_keepalive.spool.layout import folder_of, lock_of, random_name
from tests.spooling import (
    FailingDisk,
    Maker,
    claimed,
    contents,
    die,
    ended,
    failing_spool,
    inside,
    tree,
    without_syncing,
)


@pytest.fixture(autouse=True)
def processes(monkeypatch: pytest.MonkeyPatch) -> None:
    without_syncing(monkeypatch)


@pytest.fixture
def opened(root: Path, on_disk: Storage) -> Iterator[Callable[[], DirectorySpool]]:
    """Make owners; those that live at the end are closed."""
    spools: list[DirectorySpool] = []

    def make() -> DirectorySpool:
        spool, disk = failing_spool(root)
        spool.open(on_disk)
        disk.steps.clear()
        spools.append(spool)
        return spool

    yield make
    for spool in spools:
        if spool._lock is not None:
            die(spool)


@pytest.fixture
def spool(opened: Callable[[], DirectorySpool]) -> DirectorySpool:
    return opened()


def standings(spool: DirectorySpool) -> dict[str, Standing]:
    return {job.id: job.standing for job in spool.waiting()}


def test_what_an_owner_had(
    spool: DirectorySpool, opened: Callable[[], DirectorySpool], root: Path, maker: Maker
) -> None:
    before = time.time()
    dead = opened()
    alone, first, second, running, done = jobs = [maker.job(b"data") for _ in range(5)]
    dead.accept([alone])
    dead.accept([first, second, done])
    dead.accept([running])
    dead.start(running.record.id)
    dead.start(second.record.id)
    dead.finish(done.record.id, ended())
    die(dead)

    assert spool.rescue() == 4
    assert spool.rescue() == 0
    waiting = standings(spool)
    assert waiting.keys() == {job.record.id for job in jobs if job is not done}
    for job in (alone, first):  # their handlers were not started: it costs them nothing
        assert waiting[job.record.id].attempts == waiting[job.record.id].crashes == 0
        assert abs(waiting[job.record.id].due - job.record.created_at) <= 0.001
    for job in (second, running):
        standing = waiting[job.record.id]
        assert (standing.attempts, standing.failures, standing.crashes) == (1, 0, 1)
        assert before - 0.001 <= standing.due <= time.time() + 0.001
    assert [contents(job) for job in claimed(spool)] == [[b"data"]] * 4
    assert [path.name for path in inside(root, "claimed")] == [spool._name]
    assert [path.name for path in inside(root, "owners")] == [f"{spool._name}.lock"]


def test_a_living_owner(
    spool: DirectorySpool, opened: Callable[[], DirectorySpool], maker: Maker
) -> None:
    """Even in the same process, whose locks are one to the kernel."""
    living, job = opened(), maker.job(b"data")
    living.accept([job])
    living.start(job.record.id)
    assert spool.rescue() == 0
    living.finish(job.record.id, ended())


def test_drafts(
    spool: DirectorySpool,
    opened: Callable[[], DirectorySpool],
    root: Path,
    maker: Maker,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They were not accepted."""
    dead = opened()

    def killed(*_: object) -> None:
        raise KeyError

    with monkeypatch.context() as patch:
        patch.setattr(Disk, "rename", killed)
        patch.setattr(Disk, "is_directory", killed)  # nor is anything removed any more
        for jobs in ([maker.job(b"data")], [maker.job(b"data"), maker.job(b"data")]):
            with pytest.raises(KeyError):
                dead.accept(jobs)
    die(dead)
    assert len(inside(root, f"claimed/{dead._name}")) == 2
    assert spool.rescue() == 0
    assert tree(root) == [f"owners/{spool._name}.lock"]


def crash(dead: DirectorySpool, job_id: str) -> None:
    dead.start(job_id)
    die(dead)


def test_each_end_of_its_process_counts(
    spool: DirectorySpool,
    opened: Callable[[], DirectorySpool],
    maker: Maker,
    caplog: pytest.LogCaptureFixture,
) -> None:
    job, other = maker.job(b"data"), maker.job(b"data")
    dead = opened()
    dead.accept([job, other])
    crash(dead, job.record.id)
    assert spool.rescue() == 2
    dead = opened()
    for found in claimed(dead):
        contents(found)
    crash(dead, job.record.id)
    assert spool.rescue() == 2
    assert [(each.attempts, each.crashes) for each in standings(spool).values()].count((2, 2)) == 1
    assert (standings(spool)[other.record.id].attempts, caplog.records[-1].getMessage()) == (
        0,
        "2 jobs of processes that have ended may be claimed by others; 1 of them were at work.",
    )


def test_what_had_ended_before(
    spool: DirectorySpool, opened: Callable[[], DirectorySpool], maker: Maker
) -> None:
    """Its process has ended after it had noted a result, and before the rename."""
    dead, job = opened(), maker.job(b"data")
    dead.accept([job])
    dead.start(job.record.id)
    dead._disk.write_file(f"{dead._owned.get(job.record.id).path}/ending.json", b'{"result": 1}')
    die(dead)
    spool.rescue()
    for found in claimed(spool):
        contents(found)
    spool.finish(job.record.id, ended(result=2))
    kept = spool.find(job.record.id)
    assert kept is not None
    assert kept.ending is not None
    assert kept.ending.result == 2


# Children


def test_children_that_were_not_moved_out(
    spool: DirectorySpool, opened: Callable[[], DirectorySpool], root: Path, maker: Maker
) -> None:
    """Wherever the process of their parent has ended, once that had succeeded."""
    for number in range(5):
        dead = opened()
        parent = maker.job(b"data")
        children = [maker.job(b"child", parent_id=parent.record.id) for _ in range(2)]
        dead.accept([parent])
        disk = dead._disk
        assert isinstance(disk, FailingDisk)
        disk.fail(14 + number)  # after the parent's own rename
        dead.finish(parent.record.id, ended(), children)
        (state,) = {path.name[-1] for path in inside(root, folder_of(dead._name))} - {"w"}
        assert state == "p"
        die(dead)

        assert spool.rescue() == 2
        assert standings(spool).keys() == {child.record.id for child in children}
        assert [contents(job) for job in claimed(spool)] == [[b"child"]] * 2
        assert inside(root, "done")[-1].name[-1] == "s"
        for child in children:
            spool.finish(child.record.id, ended())


def test_children_that_are_none(
    spool: DirectorySpool, opened: Callable[[], DirectorySpool], root: Path, maker: Maker
) -> None:
    dead = opened()
    parent = maker.job(b"data")
    dead.accept([parent])
    dead.start(parent.record.id)
    (running,) = inside(root, folder_of(dead._name))
    (running / "children").mkdir()
    (running / "children/junk").touch()
    running.rename(running.with_name(running.name[:-1] + "p"))
    die(dead)
    assert spool.rescue() == 0
    assert inside(root, "corrupt")[0].name.startswith("junk-")
    assert [path.name for path in inside(root, "done")[0].iterdir() if path.is_dir()] == []


# Owners that are none, or half of one


def test_an_owner_that_has_ended_before_it_had_a_folder(spool: DirectorySpool, root: Path) -> None:
    (root / lock_of(random_name())).touch()
    assert spool.rescue() == 0
    assert len(inside(root, "owners")) == 1


def test_a_folder_whose_lock_a_power_cut_has_taken(
    spool: DirectorySpool, opened: Callable[[], DirectorySpool], root: Path, maker: Maker
) -> None:
    dead = opened()
    dead.accept([maker.job(b"data")])
    die(dead)
    (root / lock_of(dead._name)).unlink()
    assert spool.rescue() == 1
    assert len(inside(root, "owners")) == len(inside(root, "claimed")) == 1


@pytest.mark.parametrize("when", ["listed", "made"])
def test_an_owner_that_begins_meanwhile(
    spool: DirectorySpool, root: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """Its folder was seen, and its lock was not."""
    owner = random_name()
    lock, folder = root / lock_of(owner), root / folder_of(owner)
    names, make = Disk.names, Disk.lock

    def names_before(disk: Disk, path: str) -> list[str]:
        found = names(disk, path)
        if path == "owners" and when == "listed" and not lock.exists():
            lock.touch()
            folder.mkdir()
        return found

    def lock_before(disk: Disk, path: str, *, create: bool = False) -> int | None:
        if when == "made" and not lock.exists():
            lock.touch()
        return make(disk, path, create=create)

    if when == "made":
        folder.mkdir()
    monkeypatch.setattr(Disk, "names", names_before)
    monkeypatch.setattr(Disk, "lock", lock_before)
    assert spool.rescue() == 0
    assert lock.exists()
    assert folder.exists()


@pytest.mark.parametrize("kind", ["fifo", "directory", "file", "link"])
@pytest.mark.parametrize("place", ["owners/junk", "owners/junk.lock", "claimed/junk"])
def test_what_is_no_owner_is_left_alone(
    spool: DirectorySpool,
    opened: Callable[[], DirectorySpool],
    root: Path,
    maker: Maker,
    place: str,
    kind: str,
) -> None:
    path = root / place
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    elif kind == "link":
        path.symlink_to("/etc")
    else:
        path.touch()
    dead = opened()
    dead.accept([maker.job(b"data")])
    die(dead)
    assert spool.rescue() == 1
    assert os.path.lexists(path)


def test_what_is_no_job_is_set_aside(
    spool: DirectorySpool, opened: Callable[[], DirectorySpool], root: Path, maker: Maker
) -> None:
    dead = opened()
    jobs: list[NewJob] = [maker.job(b"data") for _ in range(2)]
    dead.accept(jobs)
    folder = root / folder_of(dead._name)
    (accept,) = folder.iterdir()
    (accept / "inner").touch()
    (folder / "outer").mkdir()
    (folder / f"accept-{'0' * 32}").touch()
    (folder / jobs[0].record.id).symlink_to("/etc")
    first = next(path for path in accept.iterdir() if path.is_dir())
    first.rename(folder / (first.name[:-1] + "s"))  # it can't be done, here
    die(dead)
    assert spool.rescue() == 1
    assert len(inside(root, "corrupt")) == 5
    assert [path.name for path in inside(root, "claimed")] == [spool._name]


@pytest.mark.parametrize("number", range(14))
def test_a_disk_that_fails_meanwhile(
    spool: DirectorySpool,
    opened: Callable[[], DirectorySpool],
    root: Path,
    maker: Maker,
    number: int,
) -> None:
    """The next one goes on where it was."""
    dead = opened()
    jobs = [maker.job(b"data") for _ in range(3)]
    dead.accept(jobs[:1])
    dead.accept(jobs[1:])
    die(dead)
    disk = spool._disk
    assert isinstance(disk, FailingDisk)
    disk.fail(number)
    if number < 13:
        with pytest.raises(OSError, match="injected"):
            spool.rescue()
    else:
        assert spool.rescue() == 3
    disk.fail_at = -1
    spool.rescue()
    assert standings(spool).keys() == {job.record.id for job in jobs}
    assert len(inside(root, "owners")) == len(inside(root, "claimed")) == 1
