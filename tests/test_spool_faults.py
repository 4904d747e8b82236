"""A disk that fails loses nothing and keeps no half of anything; nor does what lies about there."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest

from starlette_upload_keepalive import JobState
from starlette_upload_keepalive.files.storage import Storage
from starlette_upload_keepalive.jobs.record import Standing
from starlette_upload_keepalive.jobs.spool import NewJob
from starlette_upload_keepalive.spool.directory_spool import DirectorySpool
from starlette_upload_keepalive.spool.disk import Disk
from starlette_upload_keepalive.spool.layout import MAX_RECORD
from tests.spooling import (
    FailingDisk,
    Maker,
    claimed,
    contents,
    die,
    ended,
    failing_spool,
    inside,
    released,
    tree,
    without_syncing,
)

T = TypeVar("T")


@pytest.fixture(autouse=True)
def processes(monkeypatch: pytest.MonkeyPatch) -> None:
    without_syncing(monkeypatch)


@pytest.fixture
def broken(root: Path, on_disk: Storage) -> Iterator[tuple[DirectorySpool, FailingDisk]]:
    spool, disk = failing_spool(root)
    spool.open(on_disk)
    disk.steps.clear()
    yield spool, disk
    disk.fail_at = -1
    if spool._lock is not None:
        die(spool)


@pytest.fixture
def spool(broken: tuple[DirectorySpool, FailingDisk]) -> DirectorySpool:
    return broken[0]


def many_jobs(maker: Maker) -> list[NewJob]:
    """Three handlers want two files."""
    blobs = [maker.blob(b"one"), maker.blob(b"two")]
    return [maker.job(blob, handler=name) for name in ("a", "b", "c") for blob in blobs]


def one_job(maker: Maker) -> list[NewJob]:
    return [maker.job(b"one", b"two")]


def after_a_restart(root: Path, storage: Storage) -> list[str]:
    """Return the ids of all jobs that another owner can claim, and read."""
    other = DirectorySpool(root)
    other.open(storage)
    other.rescue()
    found = [(job.record.id, contents(job)) for job in claimed(other)]
    die(other)
    assert inside(root, "corrupt") == []
    return [job_id for job_id, _ in found]


# Accept


class Stopped(BaseException):
    """As a thread that is asked to stop raises it."""


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize(("make", "steps"), [(one_job, 7), (many_jobs, 28)])
@pytest.mark.parametrize("error", [partial(OSError, errno.ENOSPC, "full"), Stopped])
def test_all_jobs_are_accepted_or_none(
    broken: tuple[DirectorySpool, FailingDisk],
    root: Path,
    maker: Maker,
    make: Callable[[Maker], list[NewJob]],
    steps: int,
    error: Callable[[], BaseException],
    late: bool,
) -> None:
    """Whatever step fails, and whether it did half of its work before."""
    spool, disk = broken
    disk.error = error
    before, jobs = tree(root), make(maker)
    for number in range(steps):
        disk.fail(number, late=late)
        with pytest.raises((OSError, Stopped)):
            spool.accept(jobs)
        assert tree(root) == before
        assert list(spool.jobs()) == []
        assert len(spool._owned) == 0
    disk.fail(steps)
    spool.accept(jobs)
    disk.fail_at = -1

    assert {job.record.id for job in spool.jobs()} == {job.record.id for job in jobs}
    die(spool)
    assert sorted(after_a_restart(root, maker.storage)) == sorted(job.record.id for job in jobs)


def test_nothing_else_can_be_done_either(
    broken: tuple[DirectorySpool, FailingDisk],
    root: Path,
    maker: Maker,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What can't be thrown away was never there: it is a draft."""
    spool, _ = broken

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "it is full")

    with monkeypatch.context() as patch:
        patch.setattr(Disk, "rename", fail)
        with pytest.raises(OSError, match="it is full"):
            spool.accept([maker.job(b"data")])
    assert list(spool.jobs()) == []
    die(spool)
    assert after_a_restart(root, maker.storage) == []


# What follows


def again(step: Callable[[], T]) -> T:
    """Take a step, once more if it fails."""
    try:
        return step()
    except OSError:
        return step()


@pytest.mark.parametrize("number", range(26))
@pytest.mark.parametrize("together", [False, True])
def test_whatever_step_fails_the_job_is_there_and_can_go_on(
    broken: tuple[DirectorySpool, FailingDisk], maker: Maker, together: bool, number: int
) -> None:
    spool, disk = broken
    job, other, child = (maker.job(data) for data in (b"data", b"other", b"child"))
    spool.accept([job, other] if together else [job])
    if together:
        spool.finish(other.record.id, ended())
    job_id = job.record.id

    disk.fail(number)
    again(lambda: spool.start(job_id))
    again(lambda: spool.release(job_id, Standing(0, 1)))
    (found,) = again(lambda: claimed(spool))
    assert contents(found) == [b"data"]
    again(lambda: spool.finish(job_id, ended(), [child]))
    assert (disk.fail_at < len(disk.steps)) is (number < 24 + together)
    disk.fail_at = -1

    done = spool.find(job_id)
    assert done is not None
    assert (done.state, done.ending) == (JobState.SUCCEEDED, ended())
    assert spool.find(child.record.id) is not None


def test_children_that_can_not_be_moved_out_wait(
    broken: tuple[DirectorySpool, FailingDisk],
    root: Path,
    maker: Maker,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The job has succeeded: to call that a failure would have it run again."""
    spool, disk = broken
    disk.error = partial(OSError, errno.ENOSPC, "injected")
    for number in range(1, 6):
        parent = maker.job(b"data")
        children = [maker.job(b"data", parent_id=parent.record.id) for _ in range(2)]
        spool.accept([parent])
        disk.fail(disk_steps_until_published(children) + number)
        spool.finish(parent.record.id, ended(), children)
        disk.fail_at = -1
        kept = spool.find(parent.record.id)
        assert kept is not None
        assert kept.state is JobState.SUCCEEDED
        assert all(spool.find(child.record.id) for child in children)
        spool.start(children[0].record.id)  # it is ours all the same
        assert caplog.records[-1].getMessage() == (
            f"Some children of the job {parent.record.id} could not be moved out of it."
        )
    die(spool)
    assert len(after_a_restart(root, maker.storage)) == 10
    assert {path.name[-1] for path in inside(root, "done")} == {"s"}


def disk_steps_until_published(children: list[NewJob]) -> int:
    """Count what is done before the parent's own rename: drafts and what came of it."""
    throw_away, directory, ending = 1, 3, 1
    return throw_away + directory + 4 * len(children) + ending


def test_a_process_that_ends_while_a_job_finishes(
    broken: tuple[DirectorySpool, FailingDisk], root: Path, maker: Maker, on_disk: Storage
) -> None:
    """Whoever runs the job again finishes it, with other children or none."""
    spool, disk = broken
    job = maker.job(b"data")
    spool.accept([job])
    spool.start(job.record.id)
    for number in range(8):
        disk.fail(number)
        with pytest.raises(OSError, match="injected"):
            spool.finish(job.record.id, ended(result=1), [maker.job(b"of no avail")])
    die(spool)

    other = DirectorySpool(root)
    other.open(on_disk)
    assert other.rescue() == 1
    (found,) = claimed(other)
    assert contents(found) == [b"data"]
    other.finish(job.record.id, ended(result=2))
    (kept,) = other.jobs()
    assert (kept.state, kept.ending) == (JobState.SUCCEEDED, ended(result=2))
    other.close()
    assert [path.name for path in inside(root, "done")[0].iterdir() if path.is_dir()] == []


# What lies about


def only_entry(root: Path, folder: str = "ready") -> Path:
    (entry,) = inside(root, folder)
    return entry


@pytest.mark.parametrize("name", ["junk", ".hidden", "x" * 255, "ä" * 127, "accept-" + "0" * 32])
@pytest.mark.parametrize("kind", ["fifo", "directory", "file", "link"])
def test_what_is_no_job_in_ready_is_set_aside(
    spool: DirectorySpool, root: Path, maker: Maker, name: str, kind: str
) -> None:
    path = root / "ready" / name
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        (path / "deep").mkdir(parents=True)
    elif kind == "link":
        path.symlink_to("/etc")
    else:
        path.touch()
    released(spool, maker.job(b"data"))
    assert len(spool.waiting()) == 1
    assert inside(root, "corrupt")[0].name.startswith(name.lstrip(".")[:9])
    assert [contents(job) for job in claimed(spool)] == [[b"data"]]


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def escape(path: Path) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), "id": "../../x"}))


def of_another(path: Path) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), "id": "f" * 32}))


def to_link(path: Path) -> None:
    path.rename(path.with_name("real"))
    path.symlink_to("real")


def to_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def to_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def too_large(path: Path) -> None:
    os.truncate(path, MAX_RECORD + 1)


def longer(path: Path) -> None:
    path.chmod(0o600)
    path.write_bytes(path.read_bytes() + b"x")


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        *(
            ("job.json", spoil)
            for spoil in (
                Path.unlink, shorten, escape, of_another, to_link, to_fifo, to_directory, too_large,
            )
        ),
        *(("1", spoil) for spoil in (Path.unlink, longer, to_link, to_fifo, to_directory)),
    ],
)  # fmt: skip
def test_a_job_that_is_not_whole_is_set_aside(
    spool: DirectorySpool,
    root: Path,
    maker: Maker,
    caplog: pytest.LogCaptureFixture,
    name: str,
    spoil: Callable[[Path], object],
) -> None:
    good, bad = maker.job(b"good"), maker.job(b"bad", b"data")
    released(spool, bad)
    spoil(only_entry(root) / name)
    released(spool, good)

    assert [contents(job) for job in claimed(spool)] == [[b"good"]]
    assert bad.record.id in only_entry(root, "corrupt").name
    (told,) = caplog.records
    assert "can't be read and is set aside, in corrupt/" in told.getMessage()
    assert spool.find(bad.record.id) is None


@pytest.mark.parametrize("kind", ["fifo", "file", "link"])
def test_a_job_that_is_no_directory_is_set_aside(
    spool: DirectorySpool, root: Path, maker: Maker, tmp_path: Path, kind: str
) -> None:
    released(spool, maker.job(b"data"))
    entry = only_entry(root)
    elsewhere = entry.rename(tmp_path / "elsewhere")
    if kind == "fifo":
        os.mkfifo(entry)
    elif kind == "link":
        entry.symlink_to(elsewhere)
    else:
        entry.touch()
    assert claimed(spool) == []
    assert only_entry(root, "corrupt").name.startswith(entry.name)
    assert (elsewhere / "0").read_bytes() == b"data"


def test_a_newer_format_is_left_alone(spool: DirectorySpool, root: Path, maker: Maker) -> None:
    released(spool, maker.job(b"data"))
    entry = only_entry(root)
    text = json.dumps({**json.loads((entry / "job.json").read_text()), "format": 2, "new": 1})
    (entry / "job.json").write_text(text)
    (waiting,) = spool.waiting()
    for _ in range(2):
        assert spool.claim(waiting) is None
        assert only_entry(root) == entry
    assert (entry / "job.json").read_text() == text
    assert list(spool.jobs()) == []
    spool.close()


def test_a_job_that_can_not_be_opened_now(
    spool: DirectorySpool, root: Path, maker: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No descriptor is left: it waits."""
    released(spool, maker.job(b"one", b"two"))
    opened, blob = 0, Disk.blob

    def second_fails(disk: Disk, path: str, storage: Storage) -> object:
        nonlocal opened
        opened += 1
        if opened == 2:
            raise OSError(errno.EMFILE, "too many")
        return blob(disk, path, storage)

    monkeypatch.setattr(Disk, "blob", second_fails)
    with pytest.raises(OSError, match="too many"):
        claimed(spool)
    assert [contents(job) for job in claimed(spool)] == [[b"one", b"two"]]
