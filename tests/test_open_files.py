"""The files that blobs have open are counted, and are not more than may be."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import pytest

from starlette_upload_keepalive.files.blob import Blob
from starlette_upload_keepalive.files.open_files import OpenFiles
from starlette_upload_keepalive.files.private_file import PrivateFile
from starlette_upload_keepalive.files.storage import Storage
from starlette_upload_keepalive.quantities import MIB


def test_as_many_as_may_be() -> None:
    files = OpenFiles(2)
    assert files.take(2)
    assert not files.take(1)
    assert files.over().errno == errno.EMFILE
    assert files.over().strerror == "As many files are open as max_open_files allows: 2"
    files.give_back(1)
    assert files.take(1)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no such limit")
@pytest.mark.parametrize(("soft", "limit"), [(1024, 512), (-1, 65_536), (1_000_000, 65_536)])
def test_half_of_what_the_process_may_open(
    monkeypatch: pytest.MonkeyPatch, soft: int, limit: int
) -> None:
    """P7: the other half is for connections and readers."""

    def getrlimit(_: int) -> tuple[int, int]:
        return soft, soft

    monkeypatch.setattr("resource.getrlimit", getrlimit)
    assert OpenFiles().most == limit


def test_where_the_system_has_no_such_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    assert OpenFiles().most == 4096


@pytest.mark.parametrize("size", [1, 5 * MIB])
def test_a_blob_on_disk_counts_until_it_is_closed(tmp_path: Path, size: int) -> None:
    storage = Storage(directory=tmp_path, memory_max_size=0)
    blob = Blob(storage)
    owners = [blob.own("first"), blob.own("second")]
    assert storage.open_files.used == 0
    blob.fill([bytes(size)])
    assert storage.open_files.used == 1
    for owner in owners:
        owner.let_go()
    storage.closer.drain()
    assert storage.open_files.used == 0


def test_a_blob_in_memory_does_not_count() -> None:
    storage = Storage()
    blob = Blob(storage)
    owner = blob.own("the test")
    blob.fill([b"data"])
    assert storage.open_files.used == 0
    owner.let_go()
    assert storage.open_files.used == 0


def test_a_file_that_is_adopted_counts_and_is_never_refused(tmp_path: Path) -> None:
    storage = Storage(directory=tmp_path, max_open_files=1)
    blobs = [Blob(storage), Blob(storage)]
    owners = [blob.own("the test") for blob in blobs]
    for blob in blobs:
        blob.adopt(PrivateFile.create(str(tmp_path)), 0)
    assert storage.open_files.used == 2
    for owner in owners:
        owner.let_go()
    assert storage.open_files.used == 0


def test_one_more_is_not_created(tmp_path: Path) -> None:
    storage = Storage(directory=tmp_path, max_open_files=1)
    file = storage.create_file()
    with pytest.raises(OSError, match="As many files are open as max_open_files allows: 1"):
        storage.create_file()
    storage.close_file(file, later=False)
    assert (storage.open_files.used, os.listdir(tmp_path)) == (0, [])


def test_one_that_can_not_be_created_does_not_count(tmp_path: Path) -> None:
    storage = Storage(directory=tmp_path)
    os.rmdir(tmp_path)
    with pytest.raises(FileNotFoundError):
        storage.create_file()
    assert storage.open_files.used == 0
