"""What waits in a spool is counted, and measured if there is a limit."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from starlette_upload_keepalive.files.storage import Storage
from starlette_upload_keepalive.files.upload import let_go_of_all
from starlette_upload_keepalive.spool.directory_spool import DirectorySpool
from starlette_upload_keepalive.spool.disk import Disk
from starlette_upload_keepalive.spool.layout import READY
from tests.spooling import Maker, claimed, die, released

pytestmark = pytest.mark.usefixtures("no_syncing")


@pytest.fixture
def spool(root: Path, on_disk: Storage) -> Iterator[DirectorySpool]:
    spool = DirectorySpool(root)
    spool.open(on_disk)
    yield spool
    die(spool)


def test_how_many_wait(spool: DirectorySpool, maker: Maker) -> None:
    assert spool.backlog == 0
    released(spool, *[maker.job(b"data") for _ in range(3)])
    spool.waiting(1)  # counts them all
    assert spool.backlog == 3
    for job in claimed(spool):
        let_go_of_all(job.uploads)
    spool.waiting(1)
    assert spool.backlog == 0


def test_their_bytes_count_where_there_is_a_limit(
    spool: DirectorySpool, on_disk: Storage, maker: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    released(spool, maker.job(bytes(10_000)), maker.job(bytes(20_000)))
    spool.waiting()
    assert on_disk.disk.waiting == 0
    on_disk.disk.limit = 1_000_000
    spool.waiting()
    assert 30_000 < on_disk.disk.waiting < 35_000  # their records are small

    def look_again(*_: object) -> int:
        pytest.fail("It was looked into again.")

    with monkeypatch.context() as patch:
        patch.setattr(Disk, "size", look_again)
        spool.waiting()
    for job in claimed(spool):
        let_go_of_all(job.uploads)
    spool.waiting()
    assert on_disk.disk.waiting == 0


def test_what_is_no_job_has_no_bytes(spool: DirectorySpool, root: Path, on_disk: Storage) -> None:
    on_disk.disk.limit = 1_000_000
    os.mkfifo(root / READY / "fifo")
    assert spool.waiting() == []
    assert on_disk.disk.waiting == 0
