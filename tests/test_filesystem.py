"""It is told once where files would better lie, and only if it is so."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import pytest

from starlette_upload_keepalive import Upload, Uploads
from starlette_upload_keepalive.files import filesystem
from starlette_upload_keepalive.files.filesystem import Filesystem, SpoolAdvice, filesystem_of
from starlette_upload_keepalive.files.storage import Storage
from tests.stored import make_upload

pytestmark = pytest.mark.anyio

MOUNTS = r"""
21 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw,discard
22 21 0:20 / /proc rw - proc proc rw
23 21 0:30 / /tmp rw,nosuid shared:5 - tmpfs tmpfs rw,size=1g
24 21 8:2 / /data rw - btrfs /dev/sdb1 rw,subvol=/
25 24 8:2 /two /data/two rw - btrfs /dev/sdb1 rw,subvol=/two
26 21 8:3 / /with\040space rw - xfs /dev/sdc1 rw
27 21 8:4 / /over rw - ext4 /dev/sdd1 rw
28 21 0:31 / /over rw - ramfs none rw
29 21 0:32 / /run rw - tmpfs tmpfs rw
"""


@pytest.fixture(autouse=True)
def no_advice() -> None:
    """Have it told, unlike in other tests."""


@pytest.fixture
def mounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have several filesystems mounted."""
    table = tmp_path / "mountinfo"
    table.write_text(MOUNTS.lstrip())
    monkeypatch.setattr(filesystem, "_MOUNTS", table)


@pytest.mark.usefixtures("mounts")
@pytest.mark.parametrize(
    ("directory", "found"),
    [
        ("/", Filesystem("/", "ext4", "/dev/sda1")),
        ("/srv/files", Filesystem("/", "ext4", "/dev/sda1")),
        ("/tmp", Filesystem("/tmp", "tmpfs", "tmpfs")),
        ("/tmp/deep/down", Filesystem("/tmp", "tmpfs", "tmpfs")),
        ("/tmpfiles", Filesystem("/", "ext4", "/dev/sda1")),
        ("/data/two/x", Filesystem("/data/two", "btrfs", "/dev/sdb1")),
        ("/with space/x", Filesystem("/with space", "xfs", "/dev/sdc1")),
        ("/over", Filesystem("/over", "ramfs", "none")),
    ],
)
def test_the_filesystem_of_a_directory(directory: str, found: Filesystem) -> None:
    assert filesystem_of(directory) == found


def test_a_link_is_followed(tmp_path: Path, mounts: None) -> None:
    (tmp_path / "link").symlink_to("/data")
    found = filesystem_of(tmp_path / "link")
    assert found is not None
    assert found.kind == "btrfs"


def test_a_system_that_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filesystem, "_MOUNTS", Path("/nowhere/mountinfo"))
    assert filesystem_of("/") is None


def test_this_system() -> None:
    if not Path("/proc/self/mountinfo").exists():
        pytest.skip("this is not Linux")
    found = filesystem_of("/proc/self")
    assert found is not None
    assert found.kind == "proc"


# Advice


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]


@pytest.mark.usefixtures("mounts")
@pytest.mark.parametrize(
    ("directory", "kind"), [("/tmp/x", "tmpfs"), ("/over", "ramfs"), ("/srv", None)]
)
def test_a_default_that_is_in_memory(
    caplog: pytest.LogCaptureFixture, directory: str, kind: str | None
) -> None:
    advice = SpoolAdvice(silent=False)
    for _ in range(2):
        advice.default_used(directory)
    told = (
        f"Uploads that are too large for memory are stored in {directory}, which is a {kind}: in "
        "memory all the same. Give Uploads a directory= on a disk."
    )
    assert warnings(caplog) == ([] if kind is None else [told])


@pytest.fixture
def devices(monkeypatch: pytest.MonkeyPatch, mounts: None) -> None:
    """Have each directory be on a device of its own, but for those below /srv."""
    stat = os.stat
    of = {"/srv/a": 1, "/srv/b": 1, "/tmp": 2, "/data": 3, "/data/two": 4, "/with space": 5}
    of["/run"] = 6

    def stat_here(path: str | Path | int, **more: Any) -> os.stat_result:
        if str(path) == "/gone":
            raise FileNotFoundError(path)
        if str(path) not in of:
            return stat(path, **more)
        return os.stat_result([0, 0, of[str(path)], *[0] * 7])

    monkeypatch.setattr(os, "stat", stat_here)


@pytest.mark.usefixtures("devices")
@pytest.mark.parametrize(
    ("directory", "destination", "across"),
    [
        ("/srv/a", "/srv/b", False),
        ("/tmp", "/srv/b", True),
        ("/data", "/data/two", False),  # subvolumes
        ("/data", "/with space", True),
        ("/tmp", "/run", True),  # two of the same kind
        ("/gone", "/srv/b", False),
    ],
)
def test_a_copy_to_another_filesystem(
    caplog: pytest.LogCaptureFixture, directory: str, destination: str, across: bool
) -> None:
    advice = SpoolAdvice(silent=False)
    for _ in range(2):
        advice.copied(directory, Path(destination))
    told = (
        f"A file that was saved had to be copied from {directory} to {destination}, which is on "
        "another filesystem. Give Uploads a directory= on that one, and save() need not copy."
    )
    assert warnings(caplog) == ([told] if across else [])


@pytest.mark.usefixtures("devices")
def test_a_system_that_does_not_tell_of_its_filesystems(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It tells of devices."""
    monkeypatch.setattr(filesystem, "_MOUNTS", Path("/nowhere/mountinfo"))
    advice = SpoolAdvice(silent=False)
    advice.default_used("/tmp")
    assert warnings(caplog) == []
    advice.copied("/data", Path("/data/two"))
    assert len(warnings(caplog)) == 1


@pytest.mark.usefixtures("devices")
def test_silence(caplog: pytest.LogCaptureFixture) -> None:
    advice = SpoolAdvice(silent=True)
    advice.default_used("/tmp")
    advice.copied("/tmp", Path("/data"))
    assert warnings(caplog) == []


# Who asks for it


def note(storage: Storage) -> list[tuple[str, ...]]:
    """Note what the advice of a storage is asked for."""
    asked: list[tuple[str, ...]] = []

    class Noting(SpoolAdvice):
        def default_used(self, directory: str) -> None:
            asked.append(("default", directory))

        def copied(self, directory: str, destination: Path) -> None:
            asked.append((directory, str(destination)))

    storage.advice = Noting(silent=False)
    return asked


async def test_the_default_is_looked_at_when_it_is_used(tmp_path: Path) -> None:
    storage = Storage(memory_max_size=2)
    asked = note(storage)
    make_upload(storage, b"ab")._let_go()
    assert asked == []
    make_upload(storage, b"abc")._let_go()
    assert asked == [("default", storage.directory)]
    chosen = Storage(memory_max_size=2, directory=tmp_path)
    asked = note(chosen)
    make_upload(chosen, b"abc")._let_go()
    assert asked == []


@pytest.mark.usefixtures("only_copies")
async def test_copies_are_looked_at(tmp_path: Path) -> None:
    storage = Storage(memory_max_size=2, directory=tmp_path)
    asked = note(storage)
    (tmp_path / "there").mkdir()
    for data in (b"ab", b"abc"):  # in memory, on disk
        async with make_upload(storage, data) as upload:
            await upload.save_to(tmp_path / "there")
    assert asked == [(str(tmp_path), str(tmp_path / "there"))]


@pytest.mark.usefixtures("seen_changes")
async def test_links_are_not(tmp_path: Path) -> None:
    storage = Storage(memory_max_size=0, directory=tmp_path)
    asked = note(storage)
    async with make_upload(storage, b"abc") as upload:
        await upload.save(tmp_path / "saved")
    assert asked == []


async def test_an_app_is_told_and_a_file_by_itself_is_not() -> None:
    assert Uploads().storage.advice._untold
    async with await Upload.from_path(__file__, content_type="text/plain") as upload:
        assert not upload._view.blob.storage.advice._untold
