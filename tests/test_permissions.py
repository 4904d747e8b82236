"""A file that is linked into a directory is as if it had been made there."""

from __future__ import annotations

import errno
import os
import stat
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from starlette_upload_keepalive.files.permissions import take_owner
from starlette_upload_keepalive.files.storage import Storage
from tests.stored import make_upload

pytestmark = pytest.mark.anyio
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")

ROOT = Path(__file__).parents[1]
GROUP = 12345
# An access control list as the kernel stores it (linux/posix_acl_xattr.h): version 2, then entries
# of tag, permissions and id. It lets that group in.
_OWNER, _GROUP_OWNER, _GROUP, _MASK, _OTHER, _NONE = 1, 4, 8, 16, 32, 0xFFFFFFFF
ACL = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", *entry)
    for entry in [
        (_OWNER, 7, _NONE),
        (_GROUP_OWNER, 5, _NONE),
        (_GROUP, 6, GROUP),
        (_MASK, 7, _NONE),
        (_OTHER, 0, _NONE),
    ]
)


async def save_beside(storage: Storage, directory: Path) -> tuple[Path, Path, bool]:
    """Save a file and make one with `open`; tell also whether the save was a link."""
    async with make_upload(storage, b"abc") as upload:
        inode = os.fstat(upload.file.fileno()).st_ino
        saved = await upload.save(directory / "saved")
        made = directory / "made"
        made.touch()
        return saved, made, saved.stat().st_ino == inode


def rights(path: Path) -> tuple[int, int, int, dict[str, bytes]]:
    status = path.stat()
    attributes = {name: os.getxattr(path, name) for name in os.listxattr(path)}
    return status.st_uid, status.st_gid, status.st_mode, attributes


@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077])
async def test_the_umask(linkable: Storage, tmp_path: Path, mask: int) -> None:
    former = os.umask(mask)
    try:
        saved, made, linked = await save_beside(linkable, tmp_path)
    finally:
        os.umask(former)
    assert linked
    assert rights(saved) == rights(made)
    assert stat.S_IMODE(saved.stat().st_mode) == 0o666 & ~mask


def of_a_group(directory: Path) -> None:
    """Have what is made in a directory belong to its group."""
    os.chown(directory, -1, GROUP)
    directory.chmod(0o2777)


@as_root
async def test_a_directory_that_hands_on_its_group(linkable: Storage, tmp_path: Path) -> None:
    of_a_group(tmp_path)
    saved, made, linked = await save_beside(linkable, tmp_path)
    assert linked
    assert rights(saved) == rights(made)
    assert saved.stat().st_gid == GROUP


@as_root
async def test_a_group_that_the_user_may_not_give(
    linkable: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_a_group(tmp_path)

    def refuse(*_: int) -> None:
        raise PermissionError(errno.EPERM, "of the test")

    monkeypatch.setattr(os, "fchown", refuse)
    saved, made, linked = await save_beside(linkable, tmp_path)
    assert not linked
    assert rights(saved) == rights(made)
    assert saved.stat().st_gid == GROUP


@pytest.mark.parametrize("where", ["destination", "spool"])
async def test_a_directory_with_an_access_control_list(
    linkable: Storage, tmp_path: Path, where: str
) -> None:
    """Which the file would not have, or which it has and would bring along."""
    directory = tmp_path if where == "destination" else Path(linkable.directory)
    try:
        os.setxattr(directory, "system.posix_acl_default", ACL)
    except OSError as error:
        pytest.skip(f"no access control lists here: {error}")
    saved, made, linked = await save_beside(linkable, tmp_path)
    assert not linked
    assert rights(saved) == rights(made)
    assert ("system.posix_acl_access" in rights(saved)[3]) is (where == "destination")


@as_root
def test_a_user_without_rights(tmp_path: Path) -> None:
    """In a process of its own: a directory of a group that it is not in."""
    code = """
import os, sys
from pathlib import Path
from starlette_upload_keepalive.files.blob import Blob
from starlette_upload_keepalive.files.saving import save
from starlette_upload_keepalive.files.storage import Storage

os.chdir(sys.argv[1])
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
storage = Storage(directory="spool", memory_max_size=0)
storage._directory = "spool"  # those above it are not for this user
blob = Blob(storage)
owner = blob.own("the test")
blob.fill([b"abc"])
save(blob, owner, Path("destination/saved"), overwrite=False, durable=True)
owner.let_go()
"""
    tmp_path.chmod(0o711)
    for name in ("spool", "destination"):
        (tmp_path / name).mkdir()
        (tmp_path / name).chmod(0o777)
    of_a_group(tmp_path / "destination")
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, check=True)
    saved = tmp_path / "destination" / "saved"
    assert (saved.stat().st_uid, saved.stat().st_gid) == (65534, GROUP)
    assert saved.read_bytes() == b"abc"
    assert os.listdir(saved.parent) == ["saved"]


@pytest.mark.parametrize(
    ("code", "alike"), [(errno.EOPNOTSUPP, True), (errno.EPERM, False)], ids=["none", "hidden"]
)
def test_attributes_that_can_not_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, alike: bool
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(code, "of the test")

    monkeypatch.setattr(os, "listxattr", refuse)
    with (tmp_path / "a").open("wb") as file, (tmp_path / "b").open("wb") as example:
        assert take_owner(file.fileno(), example.fileno()) is alike


def test_attributes_that_differ(tmp_path: Path) -> None:
    with (tmp_path / "a").open("wb") as file, (tmp_path / "b").open("wb") as example:
        assert take_owner(file.fileno(), example.fileno())
        try:
            os.setxattr(example.fileno(), "user.label", b"one")
        except OSError as error:
            pytest.skip(f"no attributes here: {error}")
        assert not take_owner(file.fileno(), example.fileno())
        os.setxattr(file.fileno(), "user.label", b"another")
        assert not take_owner(file.fileno(), example.fileno())
        os.setxattr(file.fileno(), "user.label", b"one")
        assert take_owner(file.fileno(), example.fileno())
