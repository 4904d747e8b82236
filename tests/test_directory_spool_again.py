"""What the directory spool begins and can't bring to its end, it can begin again."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from pathlib import Path

import pytest

from starlette_upload_keepalive.files.blob import Blob
from starlette_upload_keepalive.files.storage import Storage
from starlette_upload_keepalive.files.upload import let_go_of_all
from starlette_upload_keepalive.jobs.job_state import JobState
from starlette_upload_keepalive.jobs.record import FileRecord, JobRecord, Standing
from starlette_upload_keepalive.jobs.spool import Ending, NewJob
from starlette_upload_keepalive.spool.directory_spool import DirectorySpool
from starlette_upload_keepalive.spool.layout import CHILDREN, ENDING

PARENT, CHILD, OTHER = (digit * 32 for digit in "abc")
DONE = Ending(JobState.SUCCEEDED, 1.0, result="done")
FAILED = Ending(JobState.FAILED, 1.0, error="failed")


@pytest.fixture
def storage() -> Storage:
    return Storage()


@pytest.fixture
def blob(storage: Storage) -> Iterator[Blob]:
    blob = Blob(storage)
    owner = blob.own("the test")
    blob.fill([b"bytes"])
    yield blob
    owner.let_go()


@pytest.fixture
def spool(tmp_path: Path, storage: Storage, blob: Blob) -> Iterator[DirectorySpool]:
    """Make a spool, with a job that runs."""
    spool = DirectorySpool(tmp_path)
    spool.open(storage)
    spool.accept([new(PARENT, blob)])
    spool.start(PARENT)
    yield spool
    spool.close()
    spool._disk.close()


def new(job: str, blob: Blob) -> NewJob:
    return NewJob(JobRecord(job, "handler", [FileRecord(blob.size)]), [blob])


def fail_to_finish(
    spool: DirectorySpool, ending: Ending, *children: NewJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Have the step fail that makes it an end, which a rename is: that of its state."""
    rename = spool._disk.rename

    def refuse(source: str, target: str) -> None:
        if target.startswith(("done/", "dead/")) or target.endswith("-p"):
            raise OSError("No space left on device")
        rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(spool._disk, "rename", refuse)
        with pytest.raises(OSError, match="No space"):
            spool.finish(PARENT, ending, children)


def states(spool: DirectorySpool) -> dict[str, JobState]:
    return {kept.record.id: kept.state for kept in spool.jobs()}


def test_an_end_that_failed_is_noted_the_second_time(
    spool: DirectorySpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_to_finish(spool, FAILED, monkeypatch=monkeypatch)

    spool.finish(PARENT, DONE)

    kept = spool.find(PARENT)
    assert kept is not None
    assert kept.ending == DONE


def test_only_the_children_of_the_end_that_was_noted_are_there(
    spool: DirectorySpool, blob: Blob, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_to_finish(spool, DONE, new(CHILD, blob), monkeypatch=monkeypatch)
    assert states(spool) == {PARENT: JobState.RUNNING}

    spool.finish(PARENT, DONE, [new(OTHER, blob)])

    assert states(spool) == {PARENT: JobState.SUCCEEDED, OTHER: JobState.WAITING}
    spool.finish(OTHER, DONE)


def test_children_of_an_end_that_was_not_noted_are_nowhere(
    spool: DirectorySpool, blob: Blob, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_to_finish(spool, DONE, new(CHILD, blob), monkeypatch=monkeypatch)

    spool.finish(PARENT, DONE)

    assert states(spool) == {PARENT: JobState.SUCCEEDED}
    spool.sweep()
    assert not list(spool.root.rglob(CHILDREN))


def test_a_job_that_has_failed_twice_tells_how_it_did_last(
    spool: DirectorySpool,
) -> None:
    spool.finish(PARENT, FAILED)
    assert spool.retry(PARENT)
    assert list(spool.root.rglob(ENDING))  # until it has ended once more
    (waiting,) = spool.waiting()
    claimed = spool.claim(waiting)
    assert claimed is not None
    let_go_of_all(claimed.uploads)

    spool.finish(PARENT, Ending(JobState.FAILED, 2.0, error="again"))

    kept = spool.find(PARENT)
    assert kept is not None
    assert kept.ending == Ending(JobState.FAILED, 2.0, error="again")


@pytest.mark.parametrize("step", ["release", "interrupt"])
def test_what_is_given_back_while_its_end_is_noted_has_ended(
    spool: DirectorySpool, blob: Blob, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """As by an app that is cut off. Else it would run again, and its children twice."""
    rename, moves, go_on = spool._disk.rename, threading.Event(), threading.Event()

    def wait(source: str, target: str) -> None:
        if CHILDREN in source:
            moves.set()
            assert go_on.wait(10)
        rename(source, target)

    monkeypatch.setattr(spool._disk, "rename", wait)

    def give_back() -> None:
        if step == "release":
            spool.release(PARENT, Standing(0))
        else:
            spool.interrupt(PARENT)

    with ThreadPoolExecutor(2) as threads:
        finished = threads.submit(spool.finish, PARENT, DONE, [new(CHILD, blob)])
        assert moves.wait(10)
        given_back = threads.submit(give_back)
        wait_for([given_back], timeout=0.1)  # in vain: that it waits can't be seen otherwise
        go_on.set()
        finished.result(10)
        with pytest.raises(KeyError):
            given_back.result(10)
    assert states(spool) == {PARENT: JobState.SUCCEEDED, CHILD: JobState.WAITING}
    assert spool.waiting() == []
    spool.finish(CHILD, DONE)
