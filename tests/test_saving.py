"""A save is the whole file or nothing, under a name that it never takes from another."""

from __future__ import annotations

import errno
import io
import os
import socket
import stat
import threading
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import anyio
import pytest

from starlette_upload_keepalive import UploadClosed, detach
from starlette_upload_keepalive.files import saving
from starlette_upload_keepalive.files.storage import Storage
from starlette_upload_keepalive.quantities import MIB
from tests.stored import CANCELS, Gate, cancel, make_upload, wait_until_idle

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["as it can", "by a copy"], autouse=True)
def way(request: pytest.FixtureRequest) -> None:
    """Save a file on disk as its last owner, and where it can't be linked."""
    if request.param == "by a copy":
        request.getfixturevalue("only_copies")


@pytest.mark.parametrize("size", [0, 10, 2 * MIB])
async def test_the_bytes_are_under_the_name(storage: Storage, tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    async with make_upload(storage, data) as upload:
        await upload.seek(5)
        saved = await upload.save(str(tmp_path / "saved"))
        assert saved == tmp_path / "saved"
        assert saved.read_bytes() == data
        assert await upload.read() == data[5:]  # the position is as it was
    assert os.listdir(tmp_path) == ["saved"]
    assert saved.read_bytes() == data


async def test_a_saved_file_is_the_users(storage: Storage, tmp_path: Path) -> None:
    """P3: whatever is done to it, no other owner of the upload sees it."""
    async with make_upload(storage, b"abc") as upload:
        with detach(upload) as other:
            saved = await upload.save(tmp_path / "saved")
            saved.write_bytes(b"XYZ")
            assert await upload.read() == await other.read() == b"abc"


@pytest.mark.parametrize("mask", [0o022, 0o077])
async def test_permissions_are_those_of_any_new_file(
    storage: Storage, tmp_path: Path, mask: int
) -> None:
    former = os.umask(mask)
    try:
        async with make_upload(storage, b"abc") as upload:
            saved = await upload.save(tmp_path / "saved")
    finally:
        os.umask(former)
    assert stat.S_IMODE(saved.stat().st_mode) == 0o666 & ~mask


async def test_no_file_is_replaced_unasked(storage: Storage, tmp_path: Path) -> None:
    path = tmp_path / "saved"
    path.write_bytes(b"theirs")
    async with make_upload(storage, b"ours") as upload:
        with pytest.raises(FileExistsError, match="exists: give another name, or overwrite=True"):
            await upload.save(path)
        assert path.read_bytes() == b"theirs"
        await upload.save(path, overwrite=True)
    assert path.read_bytes() == b"ours"
    assert os.listdir(tmp_path) == ["saved"]


async def test_no_file_is_replaced_that_appears_meanwhile(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, check = tmp_path / "saved", saving._check

    def check_and_lose(destination: Path, *, overwrite: bool) -> None:
        check(destination, overwrite=overwrite)
        path.write_bytes(b"theirs")

    monkeypatch.setattr(saving, "_check", check_and_lose)
    async with make_upload(storage, b"ours") as upload:
        with pytest.raises(FileExistsError, match="exists: give another name") as caught:
            await upload.save(path)
        assert (caught.value.errno, caught.value.filename) == (errno.EEXIST, str(path))
        assert await upload.read() == b"ours"
    assert path.read_bytes() == b"theirs"
    assert os.listdir(tmp_path) == ["saved"]


async def test_of_saves_at_once_one_takes_the_name(storage: Storage, tmp_path: Path) -> None:
    path, won = tmp_path / "saved", list[int]()
    contents = [bytes([number]) * MIB for number in range(8)]
    uploads = [make_upload(storage, data) for data in contents]

    async def save(number: int) -> None:
        try:
            await uploads[number].save(path)
        except FileExistsError:
            return
        won.append(number)

    async with anyio.create_task_group() as tasks:
        for number in range(8):
            tasks.start_soon(save, number)
    assert len(won) == 1
    assert path.read_bytes() == contents[won[0]]
    assert os.listdir(tmp_path) == ["saved"]
    for upload in uploads:
        await upload.close()


@pytest.mark.parametrize("overwrite", [False, True])
async def test_durable(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overwrite: bool
) -> None:
    """The bytes are on the disk before they have a name, and the name is before it returns."""
    order = list[str]()
    path, fsync, link, replace = tmp_path / "saved", os.fsync, os.link, os.replace

    def noting_fsync(fd: int) -> None:
        is_directory = stat.S_ISDIR(os.fstat(fd).st_mode)
        order.append("directory" if is_directory else f"{os.fstat(fd).st_size} bytes")
        fsync(fd)

    def noting_link(source: Any, name: Path, **more: Any) -> None:
        if name.suffix != ".part":  # a hidden one, while it is in the making
            order.append("name")
        link(source, name, **more)

    def noting_replace(*args: Any) -> None:
        order.append("name")
        replace(*args)

    monkeypatch.setattr(os, "fsync", noting_fsync)
    monkeypatch.setattr(os, "link", noting_link)
    monkeypatch.setattr(os, "replace", noting_replace)
    async with make_upload(storage, b"the data") as upload:
        with detach(upload):  # so that it is the second save that may link
            await upload.save(path, overwrite=overwrite)
        assert order == ["name"]
        order.clear()
        await upload.save(tmp_path / "durable", overwrite=overwrite, durable=True)
    assert order == ["8 bytes", "name", "directory"]


async def test_two_saves_of_a_file_of_the_owners_own(storage: Storage, tmp_path: Path) -> None:
    """Which has one position, that each of them moves."""
    data = os.urandom(6 * MIB)
    async with make_upload(storage, b"ours") as upload:
        upload.file = io.BytesIO(data)
        async with anyio.create_task_group() as tasks:
            for name in "ab":
                tasks.start_soon(upload.save, tmp_path / name)
    for name in "ab":
        assert await anyio.Path(tmp_path / name).read_bytes() == data


@pytest.mark.parametrize("name", ["", ".", "/", "missing/", "missing/.", ".."])
async def test_what_names_no_file(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    async with make_upload(storage, b"data") as upload:
        with pytest.raises(ValueError, match=f"'{name}' names no file: .*, or use save_to"):
            await upload.save(name, overwrite=True)
    assert os.listdir(tmp_path) == []


def bind_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))


NO_FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "directory": (Path.mkdir, r"is a directory: use save_to\(\), or add a name"),
    "pipe": (os.mkfifo, "is no plain file"),
    "socket": (bind_socket, "is no plain file"),
}


@pytest.mark.parametrize("linked", [False, True])
@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("kind", NO_FILES)
async def test_only_files_are_replaced(
    storage: Storage, tmp_path: Path, kind: str, overwrite: bool, linked: bool
) -> None:
    make, message = NO_FILES[kind]
    path = thing = tmp_path / "thing"
    make(thing)
    if linked:
        path = tmp_path / "link"
        path.symlink_to("thing")
    there, before = sorted(os.listdir(tmp_path)), thing.stat()
    async with make_upload(storage, b"data") as upload:
        with pytest.raises(FileExistsError, match=message) as caught:
            await upload.save(path, overwrite=overwrite)
    assert (caught.value.errno, caught.value.filename) == (errno.EEXIST, str(path))
    assert (sorted(os.listdir(tmp_path)), path.is_symlink()) == (there, linked)
    assert (thing.stat().st_ino, thing.stat().st_mode) == (before.st_ino, before.st_mode)


@pytest.mark.parametrize(
    ("target", "message"), [("file", "The file exists"), ("missing", "A link to nothing exists")]
)
async def test_a_link_is_replaced_itself(
    storage: Storage, tmp_path: Path, target: str, message: str
) -> None:
    (tmp_path / "file").write_bytes(b"theirs")
    path = tmp_path / "link"
    path.symlink_to(target)
    async with make_upload(storage, b"ours") as upload:
        with pytest.raises(FileExistsError, match=message) as caught:
            await upload.save(path)
        assert (caught.value.errno, caught.value.filename) == (errno.EEXIST, str(path))
        await upload.save(path, overwrite=True)
    assert not path.is_symlink()
    assert path.read_bytes() == b"ours"
    assert (tmp_path / "file").read_bytes() == b"theirs"
    assert sorted(os.listdir(tmp_path)) == ["file", "link"]


@pytest.mark.parametrize(("code", "fails"), [(errno.EINVAL, False), (errno.EIO, True)])
async def test_directories_that_can_not_be_synced(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, fails: bool
) -> None:
    fsync = os.fsync

    def refuse(fd: int) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(code, "of the test")
        fsync(fd)

    monkeypatch.setattr(os, "fsync", refuse)
    async with make_upload(storage, b"data") as upload:
        with pytest.raises(OSError, match="of the test") if fails else nullcontext():
            await upload.save(tmp_path / "saved", durable=True)


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        ("missing", errno.ENOENT, "does not exist: create it first"),
        ("file", errno.ENOTDIR, "No directory"),
    ],
)
async def test_a_directory_that_is_none(
    storage: Storage, tmp_path: Path, name: str, code: int, message: str
) -> None:
    (tmp_path / "file").touch()
    async with make_upload(storage, b"abc") as upload:
        with pytest.raises((FileNotFoundError, NotADirectoryError), match=message) as caught:
            await upload.save(tmp_path / name / "saved")
    assert (caught.value.errno, caught.value.filename) == (code, str(tmp_path / name))


async def test_what_is_closed_can_not_be_saved(storage: Storage, tmp_path: Path) -> None:
    upload = make_upload(storage, b"abc")
    await upload.close()
    with pytest.raises(UploadClosed):
        await upload.save(tmp_path / "saved")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(("anyio_backend", "how"), CANCELS)
async def test_a_cancelled_save_is_finished_by_its_thread(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """P2: also when the upload is closed meanwhile; nothing is left but the file."""
    gate = Gate()
    upload = make_upload(storage, b"abc")
    monkeypatch.setattr(saving, "_check", gate.before(saving._check))

    async def save() -> None:
        async with upload:
            await upload.save(tmp_path / "saved")

    await cancel(how, gate, save)
    wait_until_idle(storage)
    assert os.listdir(tmp_path) == ["saved"]
    assert (tmp_path / "saved").read_bytes() == b"abc"


async def test_a_save_goes_on_when_its_upload_is_closed(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P2: the thread owns the bytes that it copies."""
    gate = Gate()
    upload = make_upload(storage, b"abc")
    monkeypatch.setattr(saving, "_check", gate.before(saving._check))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(upload.save, tmp_path / "saved")
        await gate.entered()
        await upload.close()
        assert storage.open_blobs == 1
        gate.open()
    assert (tmp_path / "saved").read_bytes() == b"abc"
    assert storage.open_blobs == 0


async def test_it_runs_in_a_thread_of_ours(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P7: the loop never blocks on the disk."""
    threads: list[int] = []
    check = saving._check

    def tell_and_check(destination: Path, *, overwrite: bool) -> None:
        threads.append(threading.get_ident())
        check(destination, overwrite=overwrite)

    monkeypatch.setattr(saving, "_check", tell_and_check)
    async with make_upload(storage, b"abc") as upload:
        await upload.save(tmp_path / "saved")
    assert len(threads) == 1
    assert threads != [threading.get_ident()]


@pytest.mark.parametrize("code", [errno.EPERM, errno.EOPNOTSUPP])
async def test_a_filesystem_without_links_will_do(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", refuse)
    async with make_upload(storage, b"abc") as upload:
        saved = await upload.save(tmp_path / "saved")
        assert saved.read_bytes() == b"abc"
        with pytest.raises(FileExistsError, match="exists: give another name"):
            saving._name(tmp_path / "another", saved)  # taken since it was looked for
    assert saved.read_bytes() == b"abc"
    assert os.listdir(tmp_path) == ["saved"]


async def test_a_filesystem_without_links_and_a_disk_that_fails(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name that was claimed is free again."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "of the test")

    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(os, "replace", refuse)
    async with make_upload(storage, b"abc") as upload:
        with pytest.raises(OSError, match="of the test"):
            await upload.save(tmp_path / "saved")
    assert os.listdir(tmp_path) == []
