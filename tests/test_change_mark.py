"""A mark is lost by every change, and by nothing else."""

from __future__ import annotations

import errno
import mmap
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from starlette_upload_keepalive.files.change_mark import ChangeMark, marks_tell

IN_MEMORY = Path("/dev/shm")  # a tmpfs, on most Linux systems


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    """Open a new and empty file."""
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    yield fd
    os.close(fd)


def test_it_stays_while_nothing_changes(fd: int, tmp_path: Path) -> None:
    os.write(fd, b"abc")
    mark = ChangeMark.put(fd)
    os.fsync(fd)
    os.fchmod(fd, 0o400)
    (tmp_path / "file").rename(tmp_path / "renamed")
    os.pread(fd, 3, 0)
    assert ChangeMark.of(fd) == mark


def test_it_is_lost_by_every_change_however_soon(fd: int) -> None:
    """Far more often than the kernel's clock ticks."""
    os.write(fd, b"abc")
    for _ in range(1000):
        mark = ChangeMark.put(fd)
        os.pwrite(fd, b"X", 0)
        assert ChangeMark.of(fd) != mark


def test_it_is_lost_by_another_size(fd: int) -> None:
    """Whatever the time: some tools put that back."""
    mark = ChangeMark.put(fd)
    assert mark is not None
    os.write(fd, b"abc")
    os.utime(fd, ns=(mark.modified_ns, mark.modified_ns))
    assert ChangeMark.of(fd) != mark


def test_where_times_are_coarse_there_is_none(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on ext3: to the second."""
    utime = os.utime

    def coarse(fd: int, *, ns: tuple[int, int]) -> None:
        utime(fd, ns=(ns[0] // 10**9 * 10**9, ns[1] // 10**9 * 10**9))

    monkeypatch.setattr(os, "utime", coarse)
    monkeypatch.setattr(time, "time_ns", lambda: 1_700_000_000_000_000_001)
    assert ChangeMark.put(fd) is None
    assert not marks_tell(fd)


def test_a_filesystem_that_tells(fd: int) -> None:
    if not marks_tell(fd):
        pytest.skip("temporary files are on a filesystem that does not tell, such as a tmpfs")


def test_a_filesystem_that_does_not_tell(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change that leaves the times as they are."""
    put = ChangeMark.put(fd)
    assert put is not None

    def always(_: int) -> ChangeMark:
        return put

    monkeypatch.setattr(ChangeMark, "of", always)
    monkeypatch.setattr(time, "time_ns", lambda: put.modified_ns)
    assert not marks_tell(fd)


@pytest.mark.skipif(not IN_MEMORY.is_dir(), reason="no tmpfs is here for sure")
def test_a_tmpfs_does_not_tell() -> None:
    fd = os.open(IN_MEMORY, os.O_TMPFILE | os.O_RDWR, 0o600)
    try:
        assert not marks_tell(fd)
    finally:
        os.close(fd)


def test_what_can_not_be_mapped(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.ENODEV, "of the test")

    monkeypatch.setattr(mmap, "mmap", refuse)
    assert marks_tell(fd)
