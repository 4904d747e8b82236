"""What handlers submit to a directory spool, when owners end or look at the wrong moment."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from starlette_upload_keepalive import JobState
from starlette_upload_keepalive.jobs.record import Standing
from starlette_upload_keepalive.jobs.spool import Ending
from starlette_upload_keepalive.spool.disk import Disk
from tests.owners import PATIENCE, claim_all, line_of, new_job, owning, python, tell
from tests.spooled import names, states

# Finishes a job with a child, and waits before the child moves out of it.
FINISH = """
import sys
from pathlib import Path
from starlette_upload_keepalive import JobState
from starlette_upload_keepalive.jobs.record import Standing
from starlette_upload_keepalive.jobs.spool import Ending
from starlette_upload_keepalive.spool.disk import Disk
from tests.owners import new_job, owning

class WaitingDisk(Disk):
    def rename(self, source, target):
        if "/children/" in source:
            print(child.record.id, flush=True)
            sys.stdin.readline()
        super().rename(source, target)

with owning(Path(sys.argv[1])) as spool:
    parent = new_job(spool._storage, b"parent")
    child = new_job(spool._storage, b"child")
    spool.accept([parent])
    spool.start(parent.record.id)
    spool._disk = WaitingDisk(Path(sys.argv[1]))
    spool._disk.open()
    spool.finish(parent.record.id, Ending(JobState.SUCCEEDED, 1.0), [child])
    spool.start(child.record.id)
    spool.release(child.record.id, Standing(0))
    print("released", flush=True)
"""


def test_children_are_published_by_the_owner_alone_that_has_their_parent(root: Path) -> None:
    """Else it would run them, too."""
    with python(FINISH, root) as process:
        child = line_of(process)
        with owning(root) as other:
            assert other.rescue() == 0
            assert other.waiting() == []
        tell(process)
        assert line_of(process) == "released"
        assert process.wait(PATIENCE) == 0
    with owning(root) as other:
        assert [waiting.id for waiting in other.waiting()] == [child]
    assert states(root, "done") == "s"


def test_children_of_an_owner_that_ended_before_they_were_published_are_rescued(
    root: Path,
) -> None:
    with python(FINISH, root) as process:
        child = line_of(process)
    with owning(root) as other:
        other.rescue()
        assert claim_all(other) == {child: [b"child"]}
        other.release(child, Standing(0))
    assert states(root, "done") == "s"
    assert names(root, "claimed") == names(root, "owners") == []


def test_rescue_that_was_cut_short_among_children_is_taken_up(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with python(FINISH, root) as process:
        child = line_of(process)
    with owning(root) as other:
        with monkeypatch.context() as patch:
            patch.setattr(Disk, "remove_directory", fail)
            with pytest.raises(OSError, match="as the test wants it"):
                other.rescue()
        # As if it had come one step further.
        (left,) = (root / "claimed").glob("*/*-p/children")
        left.rmdir()
        other.rescue()
        assert [waiting.id for waiting in other.waiting()] == [child]
    assert states(root, "done") == "s"


def test_children_of_an_attempt_that_was_cut_short_are_not_there(root: Path) -> None:
    """Its owner has ended after it wrote them, and before they were accepted."""
    with owning(root) as spool:
        storage = spool._storage
        assert storage is not None
        parent, child = new_job(storage, b"parent"), new_job(storage, b"child")
        spool.accept([parent])
        (entry,) = (root / "claimed").glob("*/*-w")
        (entry / "children").mkdir()
        (entry / "children" / "left-over").touch()
        (entry / "ending.json").write_text("{")
        spool.finish(parent.record.id, Ending(JobState.SUCCEEDED, 1.0, result="new"), [child])
        found = spool.find(parent.record.id)
        assert found is not None
        assert found.ending is not None
        assert found.ending.result == "new"
        spool.release(child.record.id, Standing(0))
    assert names(root, "corrupt") == []
    assert states(root, "done") == "s"


def test_sweep_removes_children_that_were_never_there(root: Path) -> None:
    """A power cut may have brought them back."""
    with owning(root) as spool:
        storage = spool._storage
        assert storage is not None
        job = new_job(storage, b"data")
        spool.accept([job])
        spool.finish(job.record.id, Ending(JobState.SUCCEEDED, time.time()))
        (entry,) = (root / "done").iterdir()
        (entry / "children").mkdir()
        (entry / "children" / "left-over").touch()
        spool.sweep()
        assert sorted(path.name for path in entry.iterdir()) == ["ending.json", "job.json"]


def fail(*_: object) -> bool:
    raise OSError("as the test wants it")
