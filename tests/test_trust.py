"""A disk that has failed once is not trusted again."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from starlette_upload_keepalive.spool.directory_spool import DirectorySpool
from starlette_upload_keepalive.spool.disk import Disk
from starlette_upload_keepalive.spool.trust import Trust
from tests.spooled import make_root
from tests.spooling import Maker, die, ended


def fail(trust: Trust, number: int) -> None:
    with trust.watched():
        raise OSError(number, os.strerror(number))


def test_a_failure_is_not_forgotten() -> None:
    trust = Trust()
    with trust.watched():
        pass
    for _ in range(2):
        with pytest.raises(OSError, match="start the app again") as raised:
            fail(trust, errno.EIO)
        assert raised.value.errno == errno.EIO
        assert isinstance(raised.value.__cause__, OSError)


def test_a_disk_that_is_full_has_not_failed() -> None:
    trust = Trust()
    with pytest.raises(OSError, match="No space"):
        fail(trust, errno.ENOSPC)
    with trust.watched():
        pass


def test_a_sync_that_fails_behind_the_end_of_a_job_is_known_to_who_accepts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, maker: Maker
) -> None:
    """Both sync the same directory, and the system tells of a failure only once."""
    spool = DirectorySpool(make_root(tmp_path))
    spool.open(maker.storage)
    parent = maker.job(b"parent")
    spool.accept([parent])
    spool.start(parent.record.id)
    sync = Disk.sync_directory

    def fail_once(disk: Disk, path: str) -> None:
        if path == spool._ours:
            monkeypatch.setattr(Disk, "sync_directory", sync)
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        sync(disk, path)

    monkeypatch.setattr(Disk, "sync_directory", fail_once)
    spool.finish(parent.record.id, ended(), [maker.job(b"child")])
    assert Disk.sync_directory is sync
    with pytest.raises(OSError, match="start the app again"):
        spool.accept([maker.job(b"next")])
    die(spool)
