"""Space is kept free where files are stored."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from starlette_upload_keepalive.files.blob import Blob
from starlette_upload_keepalive.files.free_space import FreeSpace
from starlette_upload_keepalive.files.storage import Storage


class Usage(NamedTuple):
    total: int
    used: int
    free: int


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A disk of 1,000 bytes, of which 600 are free."""
    found: dict[str, Any] = {"usage": Usage(1000, 400, 600), "looks": 0}

    def disk_usage(_: object) -> Usage:
        found["looks"] += 1
        usage: Usage = found["usage"]
        return usage

    monkeypatch.setattr(shutil, "disk_usage", disk_usage)
    return found


def test_what_files_may_take(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    assert abs(FreeSpace(0).look(str(tmp_path)) - free) < free / 2


def test_a_part_of_it_stays_free(disk: dict[str, Any], tmp_path: Path) -> None:
    space = FreeSpace(500)
    assert space.look(str(tmp_path)) == 100
    space.check(0, str(tmp_path))
    disk["usage"] = Usage(1000, 501, 499)
    with pytest.raises(OSError, match="Less than min_free_space, 500 bytes") as refused:
        space.check(0, str(tmp_path))
    assert refused.value.errno == errno.ENOSPC


def test_what_was_seen_is_known_for_a_while(
    disk: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    space = FreeSpace(500)
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    assert space.known("here") is None
    space.look("here")
    assert (space.known("here"), space.known("there")) == (100, None)
    now += 1.1
    assert space.known("here") is None
    space.check(0, "here")  # of a thread that writes
    assert space.known("here") == 100


def test_nothing_is_looked_at_where_nothing_has_to_stay_free(disk: dict[str, Any]) -> None:
    FreeSpace(0).check(0, "here")
    assert disk["looks"] == 0


def test_a_filesystem_that_does_not_tell(disk: dict[str, Any]) -> None:
    disk["usage"] = Usage(0, 0, 0)
    space = FreeSpace(500)
    space.check(0, "here")
    assert space.look("here") > 1 << 40


def test_a_blob_is_not_written_where_too_little_is_free(
    disk: dict[str, Any], tmp_path: Path
) -> None:
    storage = Storage(directory=tmp_path, memory_max_size=0, min_free_space=601)
    blob = Blob(storage)
    owner = blob.own("the test")
    with pytest.raises(OSError, match="Less than min_free_space"):
        blob.fill([b"data"])
    owner.let_go()
    assert (storage.open_files.used, os.listdir(tmp_path)) == (0, [])
