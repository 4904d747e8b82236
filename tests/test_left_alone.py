"""What can't be run here is left alone for a while, and is in no other job's way."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from starlette_upload_keepalive.files.storage import Storage
from starlette_upload_keepalive.spool.directory_spool import DirectorySpool
from starlette_upload_keepalive.spool.disk import Disk
from starlette_upload_keepalive.spool.left_alone import LeftAlone
from tests.spooled import make_root
from tests.spooling import Maker, claimed, contents, die, released, without_syncing


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1e6
        monkeypatch.setattr(time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    without_syncing(monkeypatch)
    return Clock(monkeypatch)


def test_a_while(clock: Clock) -> None:
    left_alone = LeftAlone()
    assert "a" not in left_alone
    left_alone.add("a")
    clock.now += 60
    left_alone.add("b")
    assert "a" in left_alone
    clock.now += 1
    assert "a" not in left_alone
    assert "b" in left_alone
    left_alone.add("c")
    assert left_alone._until.keys() == {"b", "c"}  # it does not grow
    assert 7 not in left_alone


def test_jobs_of_a_newer_version(
    tmp_path: Path,
    on_disk: Storage,
    maker: Maker,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However many: they take no look's places, and are not claimed and put back for ever."""
    root = make_root(tmp_path)
    spool = DirectorySpool(root)
    spool.open(on_disk)
    released(spool, *(maker.job(b"new", created_at=0.0) for _ in range(3)))
    for path in root.glob("ready/*/job.json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "format": 2}))
    released(spool, maker.job(b"ours"), due=1.0)

    read = Disk.read_file
    looked: list[str] = []

    def counted(disk: Disk, path: str, most: int) -> bytes:
        looked.append(path)
        return read(disk, path, most)

    monkeypatch.setattr(Disk, "read_file", counted)
    for _ in range(3):
        assert [spool.claim(job) for job in spool.waiting(3)] in ([None] * 3, [])
        if len(looked) == 3:
            break
    assert [contents(job) for job in claimed(spool)] == [[b"ours"]]
    assert (spool.waiting(), claimed(spool)) == ([], [])
    assert len(looked) == 4
    clock.now += 61
    assert len(spool.waiting()) == 3
    die(spool)
