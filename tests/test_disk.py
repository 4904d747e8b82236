"""Each step on the disk does what it says, and is fooled by nothing that lies there."""

from __future__ import annotations

import errno
import io
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from starlette_upload_keepalive.files.blob import Blob
from starlette_upload_keepalive.files.storage import Storage
from starlette_upload_keepalive.jobs.record import UnreadableRecord
from starlette_upload_keepalive.spool.disk import Disk
from tests.spooling import Maker
from tests.stored import content


@pytest.fixture
def disk(root: Path) -> Iterator[Disk]:
    disk = Disk(root)
    disk.open()
    yield disk
    disk.close()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_a_small_file_takes_little_memory(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """However large it might be: what is read into is as large as what is asked for."""
    asked: list[int] = []
    read = os.read

    def counted(fd: int, size: int) -> bytes:
        asked.append(size)
        return read(fd, size)

    disk.write_file("small", b"data")
    monkeypatch.setattr(os, "read", counted)
    assert disk.read_file("small", 2**30) == b"data"
    assert asked == [4]


# The root


def test_a_root_that_is_a_link(tmp_path: Path, root: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(root)
    with pytest.raises(NotADirectoryError):
        Disk(link).open()


@pytest.mark.parametrize("kind", ["missing", "file"])
def test_a_root_that_is_none(tmp_path: Path, kind: str) -> None:
    if kind == "file":
        (tmp_path / kind).touch()
    with pytest.raises((FileNotFoundError, NotADirectoryError)):
        Disk(tmp_path / kind).open()


def test_closing_again_does_nothing(disk: Disk) -> None:
    disk.close()
    disk.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        disk.names(".")


def test_paths_mean_the_same_wherever_the_process_goes(
    root: Path, monkeypatch: pytest.MonkeyPatch, on_disk: Storage
) -> None:
    monkeypatch.chdir(root.parent)
    disk, maker = Disk(Path(root.name)), Maker(on_disk)
    disk.open()
    monkeypatch.chdir("/")
    disk.store("0", maker.blob(b"data"))
    maker.let_go()
    disk.close()
    assert (root / "0").read_bytes() == b"data"


# Directories and names


def test_directories(disk: Disk, root: Path) -> None:
    disk.make_directory("a")
    assert mode(root / "a") == 0o700
    with pytest.raises(FileExistsError):
        disk.make_directory("a")
    disk.write_file("a/b", b"")
    disk.write_file("a/c", b"")
    assert sorted(disk.names("a")) == ["b", "c"]
    disk.sync_directory("a")
    assert not disk.remove_directory("a")
    disk.remove("a/b")
    disk.rename("a/c", "c")
    assert disk.remove_directory("a")
    assert disk.names(".") == ["c"]
    with pytest.raises(NotADirectoryError):
        disk.remove_directory("c")


@pytest.mark.parametrize("kind", ["link", "file", "fifo"])
def test_what_is_no_directory(disk: Disk, root: Path, kind: str) -> None:
    (root / "real").mkdir()
    (root / "link").symlink_to("real")
    (root / "file").touch()
    os.mkfifo(root / "fifo")
    assert disk.is_directory("real")
    assert not disk.is_directory(kind)
    with pytest.raises(NotADirectoryError):
        disk.names(kind)
    with pytest.raises(NotADirectoryError):
        disk.sync_directory(kind)


def test_a_directory_takes_no_name_that_is_taken(disk: Disk) -> None:
    """What would be replaced would be lost."""
    for name in ("a", "b"):
        disk.make_directory(name)
        disk.write_file(f"{name}/{name}", b"")
    with pytest.raises(OSError, match="not empty"):
        disk.rename("a", "b")


def test_a_link_of_a_link_is_one(disk: Disk, root: Path) -> None:
    (root / "link").symlink_to("/etc/passwd")
    disk.link("link", "other")
    assert (root / "other").is_symlink()


# Files


def test_writing(disk: Disk, root: Path) -> None:
    disk.write_file("a", b"data")
    disk.write_file("b", b"", sync=False)
    assert (root / "a").read_bytes() == b"data"
    assert (root / "b").read_bytes() == b""
    assert mode(root / "a") == 0o600
    with pytest.raises(FileExistsError):
        disk.write_file("a", b"other")
    assert disk.read_file("a", 4) == b"data"


def test_a_file_is_written_through_no_link(disk: Disk, root: Path) -> None:
    (root / "link").symlink_to("elsewhere")
    with pytest.raises(FileExistsError):
        disk.write_file("link", b"data")
    assert not (root / "elsewhere").exists()


@pytest.mark.parametrize("sync", [True, False])
def test_what_is_synced(disk: Disk, monkeypatch: pytest.MonkeyPatch, sync: bool) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    disk.write_file("a", b"data", sync=sync)
    assert len(synced) == sync
    disk.sync_directory(".")
    assert len(synced) == sync + 1


def test_a_device_that_takes_little_at_a_time(
    disk: Disk, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow(io.FileIO):
        def write(self, data: Any) -> int:
            return super().write(data[:3])

    def slow(fd: int, *_: object, **__: object) -> Slow:
        return Slow(fd, "wb")

    monkeypatch.setattr("builtins.open", slow)
    disk.write_file("a", b"0123456789")
    monkeypatch.undo()
    assert (root / "a").read_bytes() == b"0123456789"


@pytest.mark.parametrize("kind", ["link", "dangling", "directory", "fifo", "socket", "large"])
def test_what_is_no_small_plain_file(
    disk: Disk, root: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.chdir(root)  # the path of a socket has to be short
    (root / "small").write_bytes(b"1234")
    (root / "large").write_bytes(b"12345")
    (root / "directory").mkdir()
    (root / "link").symlink_to("small")
    (root / "dangling").symlink_to("nowhere")
    os.mkfifo(root / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
    assert disk.read_file("small", 4) == b"1234"
    with pytest.raises(UnreadableRecord, match="no plain file of at most 4 bytes"):
        disk.read_file(kind, 4)
    assert disk.size(kind) == (5 if kind == "large" else -1)


@pytest.mark.parametrize("path", ["missing", "file/inside"])
def test_what_is_not_there(disk: Disk, root: Path, path: str) -> None:
    (root / "file").touch()
    for look in (lambda: disk.read_file(path, 4), lambda: disk.size(path)):
        with pytest.raises((FileNotFoundError, NotADirectoryError)):
            look()


# Blobs


@pytest.fixture
def maker(storage: Storage) -> Iterator[Maker]:
    maker = Maker(storage)
    yield maker
    maker.let_go()


def test_storing(disk: Disk, root: Path, maker: Maker) -> None:
    blob = maker.blob(b"data")
    disk.store("0", blob)
    disk.store("1", blob)
    disk.link("1", "2")
    for name in ("0", "1", "2"):
        assert (root / name).read_bytes() == b"data"
        assert mode(root / name) == 0o400
    inodes = {(root / name).stat().st_ino for name in ("0", "1", "2")}
    assert len(inodes) == (2 if blob.in_memory else 1)  # what is on the disk is not copied
    assert content(blob) == b"data"
    with pytest.raises(FileExistsError):
        disk.store("0", blob)
    assert disk.size("0") == 4


def test_storing_from_another_filesystem(
    disk: Disk, root: Path, maker: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def across(*_: object, **__: object) -> None:
        raise OSError(errno.EXDEV, "another filesystem")

    monkeypatch.setattr(os, "link", across)
    disk.store("0", maker.blob(b"data"))
    assert (root / "0").read_bytes() == b"data"
    assert mode(root / "0") == 0o400


def test_storing_what_the_user_may_change(disk: Disk, root: Path, on_disk: Storage) -> None:
    maker = Maker(on_disk)
    blob = maker.blob(b"data")
    blob._offered = True  # as a save does
    disk.store("0", blob)
    maker.let_go()
    assert (root / "0").read_bytes() == b"data"


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_a_sync_that_fails_is_not_tried_again(
    disk: Disk, maker: Maker, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """What a second one says is of no worth: fsync(2)."""
    synced: list[int] = []

    def fail(fd: int) -> None:
        synced.append(fd)
        raise OSError(code, "injected")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="injected"):
        disk.store("0", maker.blob(b"data"))
    assert len(synced) == 1


def test_a_stored_file_as_a_blob(disk: Disk, root: Path, on_disk: Storage) -> None:
    maker = Maker(on_disk)
    disk.store("0", maker.blob(b"data"))
    maker.let_go()
    blob = disk.blob("0", on_disk)
    owner = blob.own("the test")
    assert (blob.size, blob.in_memory, content(blob)) == (4, False, b"data")
    disk.store("1", blob)  # a child's: no copy
    assert (root / "0").stat().st_ino == (root / "1").stat().st_ino
    owner.let_go()
    assert (root / "0").exists()


def test_a_blob_is_opened_through_no_link(disk: Disk, root: Path, on_disk: Storage) -> None:
    (root / "link").symlink_to("/etc/passwd")
    with pytest.raises(OSError, match="symbolic links"):
        disk.blob("link", on_disk)
    assert on_disk.open_blobs == 0


def test_a_stored_file_is_given_to_nobody(disk: Disk, root: Path, on_disk: Storage) -> None:
    """A save would let the user change it."""
    maker = Maker(on_disk)
    blob = maker.blob(b"data")
    disk.store("0", blob)
    assert isinstance(blob, Blob)
    owner = blob.own("the last")
    maker.let_go()
    with blob.offered(owner) as file:
        assert file is None
    owner.let_go()
