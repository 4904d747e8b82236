"""Files on disk have no more bytes together than they may."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from starlette_upload_keepalive.files.blob import Blob
from starlette_upload_keepalive.files.disk_budget import DiskBudget
from starlette_upload_keepalive.files.private_file import PrivateFile
from starlette_upload_keepalive.files.storage import Storage


def test_no_more_than_may_be() -> None:
    budget = DiskBudget(10)
    assert budget.take(6)
    assert not budget.take(5)
    assert (budget.used, budget.left) == (6, 4)
    budget.give_back(2)
    assert budget.take(5)
    budget.waiting = 1
    assert not budget.take(1)
    assert budget.over().errno == errno.EDQUOT
    assert budget.over().strerror == "Uploads would have more than max_disk_bytes, 10"


def test_what_is_there_already_is_counted_and_never_refused() -> None:
    budget = DiskBudget(10)
    budget.add(20)
    assert (budget.used, budget.left) == (20, -10)


def test_without_a_limit() -> None:
    budget = DiskBudget()
    assert budget.take(1 << 60)
    assert budget.used == 1 << 60


def test_a_blob_takes_what_it_has_on_disk_until_it_is_closed(tmp_path: Path) -> None:
    storage = Storage(directory=tmp_path, memory_max_size=10, max_disk_bytes=100)
    blobs = [Blob(storage), Blob(storage), Blob(storage)]
    owners = [blob.own("the test") for blob in blobs]
    blobs[0].fill([b"in memory"])
    assert storage.disk.used == 0
    blobs[1].fill([bytes(60), bytes(10)])
    assert storage.disk.used == 70
    with pytest.raises(OSError, match="more than max_disk_bytes"):
        blobs[2].fill([bytes(31)])
    assert storage.disk.used == 70
    for owner in owners:
        owner.let_go()
    assert storage.disk.used == 0


def test_a_file_that_is_adopted_counts(tmp_path: Path) -> None:
    storage = Storage(directory=tmp_path)
    blob = Blob(storage)
    owner = blob.own("the test")
    blob.adopt(PrivateFile.create(str(tmp_path)), 30)
    assert storage.disk.used == 30
    owner.let_go()
    assert storage.disk.used == 0
