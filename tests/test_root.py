"""A directory that can't keep what a spool promises is refused, and the error says what to do."""

from __future__ import annotations

import errno
import logging
import os
from pathlib import Path

import pytest

from starlette_upload_keepalive.exceptions import SpoolUnusable
from starlette_upload_keepalive.files import filesystem
from starlette_upload_keepalive.files.storage import Storage
from starlette_upload_keepalive.spool import root as root_module
from starlette_upload_keepalive.spool.directory_spool import DirectorySpool
from starlette_upload_keepalive.spool.root import check_root, what_to_do


def mount(monkeypatch: pytest.MonkeyPatch, root: Path, kind: str) -> None:
    """Have the root be on a filesystem of that kind."""
    table = root.parent / "mountinfo"
    table.write_text(
        "21 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n"
        f"23 21 0:30 / {root} rw shared:5 - {kind} host:/export rw\n"
    )
    monkeypatch.setattr(filesystem, "_MOUNTS", table)


def refused(root: Path, *, allow_network: bool = False) -> str:
    with pytest.raises(SpoolUnusable) as error:
        check_root(root, allow_network=allow_network)
    return str(error.value)


def test_a_good_one(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    check_root(root, allow_network=False)
    root.chmod(0o755)
    check_root(root, allow_network=False)
    assert caplog.records == []


@pytest.mark.parametrize("lacks", ["a lock", "/proc"])
def test_another_system(root: Path, monkeypatch: pytest.MonkeyPatch, lacks: str) -> None:
    if lacks == "a lock":
        monkeypatch.delattr(os, "lockf")
    else:
        monkeypatch.setattr(root_module, "_DESCRIPTORS", "/not/there")
    assert "needs Linux" in refused(root)


def test_missing(root: Path) -> None:
    there = root / "missing"
    assert f"Create it, for the user that the app runs as: mkdir -p -m 700 {there}" in refused(
        there
    )


def test_below_a_file(root: Path) -> None:
    (root / "file").touch()
    told = refused(root / "file" / "spool")
    assert "can't be reached: Not a directory. Check the directories that it is in." in told


def test_a_link(root: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(root)
    told = refused(tmp_path / "link")
    assert "is a symbolic link" in told
    assert f"Give the directory itself: {root}" in told


def test_a_file(root: Path) -> None:
    (root / "file").touch()
    assert "is no directory" in refused(root / "file")


@pytest.mark.parametrize("mode", [0o702, 0o777, 0o1777])
def test_writable_by_everybody(root: Path, mode: int) -> None:
    root.chmod(mode)
    assert f"Take that away: chmod 700 {root}" in refused(root)


def test_not_writable(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests may be allowed everything."""
    asked: list[int] = []

    def no(_path: Path, mode: int) -> bool:
        asked.append(mode)
        return False

    monkeypatch.setattr(os, "access", no)
    told = refused(root)
    assert "mounted read-only" in told
    assert f"chown {os.getuid()} {root}" in told
    assert asked == [os.R_OK | os.W_OK | os.X_OK]


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "ceph", "fuse.sshfs", "9p", "virtiofs"])
def test_a_network_filesystem(root: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    mount(monkeypatch, root, kind)
    told = refused(root)
    assert f"a network filesystem ({kind})" in told
    assert "Put it on a local disk" in told
    assert "allow_network=True" in told
    check_root(root, allow_network=True)


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "overlay", "zfs"])
def test_a_local_filesystem(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    mount(monkeypatch, root, kind)
    check_root(root, allow_network=False)
    assert caplog.records == []


@pytest.mark.parametrize("kind", ["tmpfs", "ramfs"])
def test_a_filesystem_in_memory(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    mount(monkeypatch, root, kind)
    check_root(root, allow_network=False)
    (told,) = caplog.records
    assert told.levelno == logging.WARNING
    assert told.getMessage() == (
        f"The spool's directory {root} is on a {kind}: what it keeps outlives the process, but "
        "no restart of the machine. Put it on a disk."
    )


def test_a_system_that_does_not_tell(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filesystem, "_MOUNTS", Path("/nowhere/mountinfo"))
    check_root(root, allow_network=False)


def test_a_spool_looks_at_its_root(
    root: Path, monkeypatch: pytest.MonkeyPatch, on_disk: Storage
) -> None:
    """And has made nothing in it."""
    mount(monkeypatch, root, "nfs4")
    with pytest.raises(SpoolUnusable):
        DirectorySpool(root).open(on_disk)
    assert list(root.iterdir()) == []
    forced = DirectorySpool(root, allow_network=True)
    forced.open(on_disk)
    forced.close()


def test_an_error_in_a_directory_that_is_as_it_was(root: Path) -> None:
    """It has another cause, which the error itself tells."""
    for number in (errno.ENOENT, errno.ENOSPC):
        error = OSError(number, os.strerror(number))
        assert what_to_do(error, root, allow_network=False) is None
    root.rmdir()
    assert what_to_do(error, root, allow_network=False) is None
    gone = what_to_do(FileNotFoundError(errno.ENOENT, "gone"), root, allow_network=False)
    assert gone is not None
    assert "mkdir -p -m 700" in gone
