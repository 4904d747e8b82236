"""What a spool in a directory does with jobs, step by step."""

from __future__ import annotations

import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from starlette_upload_keepalive import JobState
from starlette_upload_keepalive.files.storage import Storage
from starlette_upload_keepalive.jobs.record import Standing, handler_key
from starlette_upload_keepalive.jobs.spool import NewJob, WaitingJob
from starlette_upload_keepalive.spool.directory_spool import DirectorySpool
from starlette_upload_keepalive.spool.disk import Disk
from starlette_upload_keepalive.spool.layout import FOLDERS
from tests.spooling import (
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


@pytest.fixture(autouse=True)
def processes(monkeypatch: pytest.MonkeyPatch) -> None:
    without_syncing(monkeypatch)


@pytest.fixture
def maker(storage: Storage) -> Iterator[Maker]:
    maker = Maker(storage)
    yield maker
    maker.let_go()


@pytest.fixture
def spool(root: Path, storage: Storage) -> Iterator[DirectorySpool]:
    spool = DirectorySpool(root)
    spool.open(storage)
    yield spool
    if spool._lock is not None:
        die(spool)


# Owners


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"keep_done": -1}, "keep_done must be 0 jobs or more, not -1"),
        ({"keep_done": 1.5}, "keep_done must be a whole number, 0 jobs or more"),
        ({"keep_done_seconds": -1}, "keep_done_seconds must be 0 seconds or more, not -1"),
        ({"keep_done_seconds": float("nan")}, "keep_done_seconds must be 0 seconds or more"),
    ],
)
def test_options_out_of_range(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        DirectorySpool(".", **options)


def test_opening_and_closing(spool: DirectorySpool, root: Path) -> None:
    assert sorted(path.name for path in root.iterdir()) == sorted(FOLDERS)
    assert {stat.S_IMODE(path.stat().st_mode) for path in root.iterdir()} == {0o700}
    (lock,), (folder,) = inside(root, "owners"), inside(root, "claimed")
    assert lock.name == f"{folder.name}.lock"
    assert stat.S_IMODE(lock.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700

    spool.close()
    assert inside(root, "owners") == inside(root, "claimed") == []
    spool.close()


def test_an_owner_once_more(spool: DirectorySpool, storage: Storage, maker: Maker) -> None:
    """As in tests that start an app twice."""
    spool.close()
    spool.open(storage)
    released(spool, maker.job(b"data"))
    assert [contents(job) for job in claimed(spool)] == [[b"data"]]


def test_another_process_makes_the_folders_too(
    root: Path, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in FOLDERS:
        (root / name).mkdir(mode=0o700)

    def none_yet(_: Disk, path: str) -> list[str]:
        return []

    with monkeypatch.context() as patch:
        patch.setattr(Disk, "names", none_yet)
        spool = DirectorySpool(root)
        spool.open(storage)
    spool.close()


def test_jobs_that_are_left(spool: DirectorySpool, root: Path, maker: Maker) -> None:
    """A thread that goes on at shutdown keeps its job: nobody else may have it meanwhile."""
    job = maker.job(b"data")
    spool.accept([job])
    spool.start(job.record.id)
    maker.let_go()
    spool.close()
    assert len(inside(root, "owners")) == len(inside(root, "claimed")) == 1
    spool.finish(job.record.id, ended())
    assert inside(root, "owners") == inside(root, "claimed") == []


def test_something_else_is_left(spool: DirectorySpool, root: Path, storage: Storage) -> None:
    (folder,) = inside(root, "claimed")
    (folder / "junk").touch()
    spool.close()
    assert len(inside(root, "owners")) == 1  # whoever rescues looks at it
    other = DirectorySpool(root)
    other.open(storage)
    assert other.rescue() == 0
    other.close()
    assert inside(root, "owners") == inside(root, "claimed") == []
    assert [path.name[:5] for path in inside(root, "corrupt")] == ["junk-"]


def test_a_lock_that_another_has_had_first(
    root: Path, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rescue may see it before its owner has locked it, takes it, and removes it."""
    lock, tried = Disk.lock, list[str]()

    def second_time(disk: Disk, path: str, *, create: bool = False) -> int | None:
        tried.append(path)
        return lock(disk, path, create=create) if len(tried) > 1 else None

    monkeypatch.setattr(Disk, "lock", second_time)
    spool = DirectorySpool(root)
    spool.open(storage)
    assert len(set(tried)) == 2
    assert [path.name for path in inside(root, "owners")] == [tried[1].removeprefix("owners/")]
    spool.close()


def test_a_disk_that_fails_while_it_is_opened_or_closed(
    root: Path, storage: Storage, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing stays open, and no shutdown fails. Leaks are looked for after each test."""
    failed = 0
    for number in range(30):
        spool, disk = failing_spool(root)
        disk.fail(number)
        try:
            spool.open(storage)
        except OSError:
            failed += 1
        else:
            spool.close()
    assert failed == 6  # the folders are there after the first
    assert ["is closed, but" in record.getMessage() for record in caplog.records] == [True]
    other = DirectorySpool(root)
    other.open(storage)
    other.rescue()
    other.close()
    assert inside(root, "owners") == inside(root, "claimed") == []


# What becomes of a job


def test_one_job(spool: DirectorySpool, root: Path, maker: Maker) -> None:
    job = maker.job(b"data", created_at=12.5)
    spool.accept([job])
    (entry,) = inside(root, f"claimed/{spool._name}")
    assert sorted(path.name for path in entry.iterdir()) == ["0", "job.json"]
    assert stat.S_IMODE(entry.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in entry.iterdir()} == {0o400, 0o600}

    spool.start(job.record.id)
    kept = spool.find(job.record.id)
    assert kept is not None
    assert (kept.state, kept.standing) == (JobState.RUNNING, Standing(12.5, attempts=1))

    spool.finish(job.record.id, ended(result=[1, None]))
    (kept,) = spool.jobs()
    assert (kept.state, kept.standing) == (JobState.SUCCEEDED, Standing(100.0, attempts=1))
    assert kept.ending == ended(result=[1, None])
    spool.close()


@pytest.mark.parametrize(
    ("state", "folder"),
    [
        (JobState.SUCCEEDED, "done"),
        (JobState.CANCELLED, "done"),
        (JobState.DISCARDED, "done"),
        (JobState.FAILED, "dead"),
    ],
)
def test_ends(
    spool: DirectorySpool, root: Path, maker: Maker, state: JobState, folder: str
) -> None:
    job = maker.job(b"data")
    spool.accept([job])
    spool.finish(job.record.id, ended(state, error="why"))
    (entry,) = inside(root, folder)
    assert (entry / "0").read_bytes() == b"data"
    assert [(each.state, each.ending) for each in spool.jobs()] == [
        (state, ended(state, error="why"))
    ]


def test_several_jobs(spool: DirectorySpool, root: Path, maker: Maker) -> None:
    """They lie together until each moves on."""
    blob = maker.blob(b"data")
    jobs = [maker.job(blob, handler=name) for name in ("a", "b", "c")]
    spool.accept(jobs)
    (accept,) = inside(root, f"claimed/{spool._name}")
    assert len({path.stat().st_ino for path in accept.glob("*/0")}) == 1
    assert {job.record.id for job in spool.jobs()} == {job.record.id for job in jobs}

    first, second, third = (job.record.id for job in jobs)
    spool.start(first)
    spool.release(second, Standing(5.0, attempts=1, failures=1))
    assert accept.exists()
    spool.finish(third, ended())
    assert not accept.exists()
    spool.finish(first, ended())
    assert [(job.id, job.standing) for job in spool.waiting()] == [
        (second, Standing(5.0, attempts=1, failures=1))
    ]
    maker.let_go()
    spool.close()
    assert inside(root, "claimed") == []


def test_jobs_of_one_request_that_move_at_the_same_time(
    spool: DirectorySpool, root: Path, maker: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both see that nothing is left in their common directory."""
    jobs = [maker.job(b"data") for _ in range(2)]
    spool.accept(jobs)
    both, rename, errors = threading.Barrier(2), Disk.rename, list[BaseException]()

    def renamed(disk: Disk, source: str, target: str) -> None:
        rename(disk, source, target)
        both.wait(10)

    def start(job: NewJob) -> None:
        try:
            spool.start(job.record.id)
        except BaseException as error:  # noqa: BLE001 - looked at below
            errors.append(error)

    monkeypatch.setattr(Disk, "rename", renamed)
    threads = [threading.Thread(target=start, args=[job]) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert {job.state for job in spool.jobs()} == {JobState.RUNNING}


def test_no_jobs(spool: DirectorySpool, root: Path) -> None:
    spool.accept([])
    assert inside(root, f"claimed/{spool._name}") == []


def test_a_job_that_is_not_ours(spool: DirectorySpool) -> None:
    steps: list[Callable[[str], None]] = [
        spool.start,
        lambda job_id: spool.release(job_id, Standing(0)),
        lambda job_id: spool.finish(job_id, ended()),
    ]
    for step in steps:
        with pytest.raises(KeyError):
            step("0" * 32)


# Jobs of anybody


def test_claiming(spool: DirectorySpool, maker: Maker) -> None:
    job = maker.job(b"data", b"", handler="name", arguments='{"a": 1}', created_at=12.5)
    spool.accept([job])
    spool.release(job.record.id, Standing(99.0, 2, 1, 1))
    (waiting,) = spool.waiting()
    assert waiting == WaitingJob(job.record.id, handler_key("name"), Standing(99.0, 2, 1, 1))

    found = spool.claim(waiting)
    assert found is not None
    assert (found.record, found.standing) == (job.record, Standing(99.0, 2, 1, 1))
    upload = found.uploads[0]
    assert (upload.filename, upload.content_type, upload.size, upload.field_name) == (
        "0.txt", "text/plain", 4, "files",
    )  # fmt: skip
    assert contents(found) == [b"data", b""]
    assert spool.waiting() == []
    assert spool.claim(waiting) is None
    spool.finish(job.record.id, ended())
    spool.close()


def test_a_claimed_job_keeps_its_bytes_when_it_is_released(
    spool: DirectorySpool, maker: Maker
) -> None:
    job = maker.job(b"data")
    released(spool, job)
    for attempt in (1, 2, 3):
        (found,) = claimed(spool)
        spool.start(job.record.id)
        assert contents(found) == [b"data"]
        assert found.standing.attempts == attempt - 1
        spool.release(job.record.id, Standing(0, attempt))


def test_children(spool: DirectorySpool, root: Path, maker: Maker) -> None:
    blob = maker.blob(b"data")
    parent = maker.job(blob)
    children = [maker.job(blob, handler=name, parent_id=parent.record.id) for name in ("a", "b")]
    spool.accept([parent])
    spool.start(parent.record.id)
    spool.finish(parent.record.id, ended(result=1), children)

    assert [path.name[-1] for path in inside(root, "done")] == ["s"]
    assert {path.name[-1] for path in inside(root, f"claimed/{spool._name}")} == {"w"}
    for child in children:  # they are ours
        spool.start(child.record.id)
        spool.release(child.record.id, Standing(0, 1))
    assert [(job.record.parent_id, contents(job)) for job in claimed(spool)] == [
        (parent.record.id, [b"data"])
    ] * 2


def test_only_who_has_succeeded_has_children(spool: DirectorySpool, maker: Maker) -> None:
    job = maker.job(b"data")
    spool.accept([job])
    with pytest.raises(ValueError, match="A job that is failed has no children"):
        spool.finish(job.record.id, ended(JobState.FAILED), [maker.job(b"data")])
    spool.finish(job.record.id, ended())


def test_retrying_and_purging(spool: DirectorySpool, root: Path, maker: Maker) -> None:
    job = maker.job(b"data")
    spool.accept([job])
    spool.start(job.record.id)
    spool.finish(job.record.id, ended(JobState.FAILED, error="no"))
    assert spool.retry(job.record.id)
    assert not spool.retry(job.record.id)
    (found,) = claimed(spool)
    assert contents(found) == [b"data"]
    assert (found.standing.attempts, found.standing.failures) == (1, 0)
    spool.finish(job.record.id, ended(JobState.FAILED, error="again"))
    (kept,) = spool.jobs()
    assert kept.ending == ended(JobState.FAILED, error="again")

    assert spool.purge() == 1
    assert list(spool.jobs()) == []
    assert tree(root) == [f"owners/{spool._name}.lock"]


def test_sweeping(root: Path, storage: Storage, maker: Maker) -> None:
    spool = DirectorySpool(root, keep_done=1, keep_done_seconds=1e10)
    spool.open(storage)
    for at in (100.0, 200.0):
        job = maker.job(b"data")
        spool.accept([job])
        spool.finish(job.record.id, ended(at=at))
    spool.sweep()
    (entry,) = inside(root, "done")
    assert sorted(path.name for path in entry.iterdir()) == ["ending.json", "job.json"]
    assert [job.standing.due for job in spool.jobs()] == [200.0]
    assert inside(root, "trash") == []
    spool.close()
