"""Whatever is wrong in a spool is found, and nothing that is right."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from starlette_upload_keepalive import JobState
from starlette_upload_keepalive.files.storage import Storage
from starlette_upload_keepalive.spool.checking import Problem, check
from starlette_upload_keepalive.spool.directory_spool import DirectorySpool
from starlette_upload_keepalive.spool.disk import Disk
from tests.spooling import Maker, die, ended, released

pytestmark = pytest.mark.usefixtures("no_syncing")


@pytest.fixture
def spool(root: Path, on_disk: Storage, maker: Maker) -> Iterator[DirectorySpool]:
    """Have a spool with jobs everywhere."""
    spool = DirectorySpool(root, keep_done_seconds=1e10)
    spool.open(on_disk)
    waits, done, dead, alone, running, parent = (maker.job(b"data", b"") for _ in range(6))
    released(spool, waits)
    spool.accept([done])
    spool.finish(done.record.id, ended())
    spool.sweep()
    spool.accept([dead])
    spool.finish(dead.record.id, ended(JobState.FAILED))
    spool.accept([alone])
    spool.accept([maker.job(b"data"), maker.job(b"data")])
    for job in (running, parent):
        spool.accept([job])
        spool.start(job.record.id)
    spool._write_children(spool._owned.get(parent.record.id).path, [maker.job(b"child")])
    path = root / spool._owned.get(parent.record.id).path
    path.rename(path.with_name(path.name[:-1] + "p"))
    yield spool
    die(spool)


@pytest.fixture
def disk(root: Path, spool: DirectorySpool) -> Iterator[Disk]:
    disk = Disk(root)
    disk.open()
    yield disk
    disk.close()


def test_nothing_is_wrong(disk: Disk) -> None:
    assert check(disk) == (9, [])


def only(root: Path, pattern: str) -> Path:
    (found,) = root.glob(pattern)
    return found


def rewritten(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def move(path: Path, change: Callable[[str], str]) -> None:
    path.rename(path.with_name(change(path.name)))


def replaced(path: Path, make: Callable[[Path], object]) -> None:
    if path.is_dir():
        path.rmdir()
    else:
        path.unlink()
    make(path)


def to_link(path: Path) -> None:
    path.symlink_to(path.rename(path.with_name("elsewhere")))


def make_directory(path: Path) -> None:
    path.mkdir(mode=0o700)


def copied(path: Path, to: Path) -> None:
    to.mkdir(mode=0o700)
    for part in path.iterdir():
        os.link(part, to / part.name)


WRONG: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "a folder": (lambda root: (root / "trash").rmdir(), "trash", "is missing"),
    "a folder that is a link": (
        lambda root: replaced(root / "trash", lambda path: path.symlink_to("/etc")),
        "trash",
        "is no directory",
    ),
    "jobs that are elsewhere": (
        lambda root: to_link(root / "ready"),
        "ready",
        "is no directory",
    ),
    "one more": (lambda root: (root / "more").touch(), "more", "is no folder of a spool"),
    "for all": (lambda root: (root / "ready").chmod(0o755), "ready", "is not for its user alone"),
    "a lock": (lambda root: (root / "owners/x.lock").touch(), "owners/x.lock", "not the lock"),
    "no lock": (lambda root: (root / f"owners/{'0' * 32}").touch(), "owners/0", "not the lock"),
    "a lock that is none": (
        lambda root: (root / f"owners/{'0' * 32}.lock").mkdir(mode=0o700),
        "owners/0",
        "is no plain file",
    ),
    "an owner": (lambda root: (root / "claimed/x").mkdir(), "claimed/x", "not what an owner has"),
    "a file for an owner": (
        lambda root: (root / f"claimed/{'0' * 32}").touch(mode=0o600),
        "claimed/0",
        "is no directory",
    ),
    "junk": (lambda root: (root / "ready/x").mkdir(), "ready/x", "its name is not that of a job"),
    "junk with an owner": (
        lambda root: (only(root, "claimed/*") / "x").touch(),
        "claimed/",
        "its name is not that of a job",
    ),
    "no several jobs": (
        lambda root: (only(root, "claimed/*") / "accept-x").touch(mode=0o600),
        "claimed/",
        "is no directory",
    ),
    "a state": (
        lambda root: move(only(root, "ready/*"), lambda name: name[:-1] + "r"),
        "ready/",
        "a job in the state 'r' does not belong here",
    ),
    "a state of what is dead": (
        lambda root: move(only(root, "dead/*"), lambda name: name[:-1] + "s"),
        "dead/",
        "a job in the state 's' does not belong here",
    ),
    "twice": (
        lambda root: copied(only(root, "ready/*"), root / "dead" / only(root, "ready/*").name),
        "dead/",
        "the same job is in ready/",
    ),
    "no record": (
        lambda root: only(root, "ready/*/job.json").unlink(),
        "ready/",
        "has no job.json",
    ),
    "half a record": (
        lambda root: only(root, "ready/*/job.json").write_text("{"),
        "ready/",
        "can't be read: It is no record of a job",
    ),
    "a record that is a link": (
        lambda root: replaced(
            only(root, "ready/*/job.json"), lambda path: path.symlink_to("/etc/passwd")
        ),
        "ready/",
        "can't be read: ",
    ),
    "the record of another": (
        lambda root: rewritten(only(root, "ready/*/job.json"), id="0" * 32),
        "ready/",
        "can't be read: It is the record of the job 0000",
    ),
    "the record of another handler": (
        lambda root: rewritten(only(root, "ready/*/job.json"), handler="\x1b[2J"),
        "ready/",
        "its handler is '\\x1b[2J', and its name says another",
    ),
    "no file": (
        lambda root: only(root, "ready/*/1").unlink(),
        "ready/",
        "is missing: the job can't be run",
    ),
    "half a file": (
        lambda root: replaced(only(root, "ready/*/0"), lambda path: path.touch(mode=0o600)),
        "ready/",
        "has 0 bytes, not 4",
    ),
    "a file that is none": (
        lambda root: replaced(only(root, "dead/*/0"), make_directory),
        "dead/",
        "is no plain file",
    ),
    "a file for all": (
        lambda root: only(root, "ready/*/0").chmod(0o644),
        "ready/",
        "is not for its user alone",
    ),
    "one more file": (
        lambda root: (only(root, "ready/*") / "2").touch(),
        "ready/",
        "is no part of a job",
    ),
    "a child": (
        lambda root: (only(root, "claimed/*/*/children") / "x").mkdir(),
        "claimed/",
        "its name is not that of a job",
    ),
    "an end that is none": (
        lambda root: replaced(only(root, "dead/*/ending.json"), make_directory),
        "dead/",
        "is no plain file",
    ),
    "an entry that is none": (
        lambda root: (root / "ready" / only(root, "ready/*").name.replace("-0-0-", "-1-0-")).touch(
            mode=0o600
        ),
        "ready/",
        "the same job is in ready/",
    ),
    "set aside": (
        lambda root: (root / "corrupt/x").touch(),
        "corrupt/x",
        "was set aside, as it could not be read",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong(disk: Disk, root: Path, name: str) -> None:
    spoil, path, what = WRONG[name]
    spoil(root)
    problems = check(disk).problems
    assert any(problem.path.startswith(path) and what in problem.what for problem in problems), (
        problems
    )
    assert len(problems) <= 2


RIGHT: list[Callable[[Path], object]] = [
    lambda root: rewritten(only(root, "ready/*/job.json"), format=2, files="else"),
    lambda root: only(root, "done/*/ending.json").unlink(),
    lambda root: only(root, "dead/*/ending.json").write_bytes(b""),
    lambda root: (root / "trash/x").mkdir(),
    lambda root: (only(root, "claimed/*") / ".draft").mkdir(),
    lambda root: (root / f"owners/{'0' * 32}.lock").touch(mode=0o600),
    lambda root: (root / f"claimed/{'0' * 32}").mkdir(mode=0o700),
    lambda root: (root / "lost+found").mkdir(),
    lambda root: (root / ".gitkeep").touch(),
]


@pytest.mark.parametrize("spoil", RIGHT)
def test_what_may_be(disk: Disk, root: Path, spoil: Callable[[Path], object]) -> None:
    """A newer version, a power cut, a draft, an owner that begins or has ended, a volume."""
    spoil(root)
    assert check(disk).problems == []


def test_what_moves_meanwhile_is_not_wrong(
    disk: Disk, root: Path, spool: DirectorySpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each job moves once, just when it is looked at."""
    moved = set[str]()
    status = Disk.status

    def look(self: Disk, path: str) -> os.stat_result:
        found = status(self, path)
        name = path.rpartition("/")[2]
        if name.endswith("-w") and name not in moved and path.count("/") == 1:
            moved.add(name)
            self.rename(path, f"claimed/{spool._name}/{name[:-1]}r")
        if path.endswith("/0") and "again" not in moved:
            moved.add("again")
            return status(self, path.rpartition("/")[0])
        return found

    monkeypatch.setattr(Disk, "status", look)
    assert check(disk).problems == []
    assert len(moved) == 2


def test_what_a_moving_job_leaves(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has gone between a listing and a look."""

    def gone(_: Disk, path: str) -> os.stat_result:
        raise FileNotFoundError(path)

    monkeypatch.setattr(Disk, "status", gone)
    assert check(disk).problems == []


def test_a_disk_that_fails(disk: Disk, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It tells where."""

    def fail(*_: object) -> bytes:
        raise OSError(5, "Input/output error")

    path = str(only(root, "ready/*/job.json").relative_to(root))
    monkeypatch.setattr(Disk, "read_file", fail)
    assert Problem(path, "can't be read: [Errno 5] Input/output error") in check(disk).problems
