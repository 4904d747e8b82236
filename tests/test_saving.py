"""A save is the whole file or nothing, under a name that it never takes from another."""

from __future__ import annotations

import errno
import io
import os
import shutil
import stat
import threading
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import anyio
import pytest

from starlette_upload_keepalive import UploadClosed, saving
from starlette_upload_keepalive.storage import MIB, Storage
from tests.stored import CANCELS, Gate, cancel, make_upload, wait_until_idle

pytestmark = pytest.mark.anyio


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
    """P3: whatever is done to it, no owner of the upload sees it."""
    async with make_upload(storage, b"abc") as upload:
        saved = await upload.save(tmp_path / "saved")
        saved.write_bytes(b"XYZ")
        assert await upload.read() == b"abc"


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
    path, copy = tmp_path / "saved", saving.copy

    def copy_and_lose(*args: Any, **options: Any) -> None:
        copy(*args, **options)
        path.write_bytes(b"theirs")

    monkeypatch.setattr(saving, "copy", copy_and_lose)
    async with make_upload(storage, b"ours") as upload:
        with pytest.raises(FileExistsError):
            await upload.save(path)
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


by_each = pytest.mark.parametrize("by", ["the system", "us"])


def copy_by(by: str, monkeypatch: pytest.MonkeyPatch, half_way: Callable[[], None]) -> None:
    """Have a copy made by the system or by us, and something happen when half of it is done."""
    copy_file_range, copyfileobj = os.copy_file_range, shutil.copyfileobj

    def by_the_system(source: int, target: int, count: int) -> int:
        if by == "us":
            raise OSError(errno.EXDEV, "of the test")
        copied = copy_file_range(source, target, 2)
        half_way()
        return copied + copy_file_range(source, target, count)

    def by_us(source: Any, target: Any, length: int) -> None:
        target.write(source.read(2))
        target.flush()
        half_way()
        copyfileobj(source, target, length)

    monkeypatch.setattr(os, "copy_file_range", by_the_system)
    monkeypatch.setattr(shutil, "copyfileobj", by_us)


@by_each
@pytest.mark.parametrize("overwrite", [False, True])
async def test_a_reader_sees_the_whole_file_or_none(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overwrite: bool, by: str
) -> None:
    path, gate, seen = tmp_path / "saved", Gate(), list[bytes]()
    if overwrite:
        path.write_bytes(b"before")
    copy_by(by, monkeypatch, gate.enter)
    async with make_upload(storage, b"after") as upload, anyio.create_task_group() as tasks:

        async def save() -> None:
            await upload.save(path, overwrite=overwrite)

        tasks.start_soon(save)
        await gate.entered()
        seen += [path.read_bytes()] if path.exists() else []
        gate.open()
    assert seen == ([b"before"] if overwrite else [])
    assert path.read_bytes() == b"after"


@pytest.mark.parametrize("copied", [0, 2])
async def test_a_system_that_stops_copying_is_helped_out(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, copied: int
) -> None:
    copy_file_range, steps = os.copy_file_range, iter([copied, 0])

    def stop(source: int, target: int, _: int) -> int:
        step = next(steps)
        return copy_file_range(source, target, step) if step else 0

    monkeypatch.setattr(os, "copy_file_range", stop)
    async with make_upload(storage, b"the data") as upload:
        saved = await upload.save(tmp_path / "saved")
    assert saved.read_bytes() == b"the data"


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

    def noting_link(*args: Any, **more: Any) -> None:
        order.append("name")
        link(*args, **more)

    def noting_replace(*args: Any) -> None:
        order.append("name")
        replace(*args)

    monkeypatch.setattr(os, "fsync", noting_fsync)
    monkeypatch.setattr(os, "link", noting_link)
    monkeypatch.setattr(os, "replace", noting_replace)
    async with make_upload(storage, b"the data") as upload:
        await upload.save(path, overwrite=overwrite)
        assert order == ["name"]
        order.clear()
        await upload.save(path, overwrite=True, durable=True)
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


@pytest.mark.parametrize("name", ["", ".", "/"])
async def test_what_names_no_file(storage: Storage, name: str) -> None:
    async with make_upload(storage, b"data") as upload:
        with pytest.raises(ValueError, match="names no file"):
            await upload.save(name, overwrite=True)


async def test_a_system_that_may_not_copy(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a sandbox that allows only the system calls it knows."""

    def refuse(*_: int) -> int:
        raise PermissionError(errno.EPERM, "of the test")

    monkeypatch.setattr(os, "copy_file_range", refuse)
    async with make_upload(storage, b"data") as upload:
        saved = await upload.save(tmp_path / "saved")
    assert saved.read_bytes() == b"data"


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
    ("name", "error"), [("missing/saved", FileNotFoundError), ("file/saved", NotADirectoryError)]
)
async def test_a_directory_that_is_none(
    storage: Storage, tmp_path: Path, name: str, error: type[OSError]
) -> None:
    (tmp_path / "file").touch()
    async with make_upload(storage, b"abc") as upload:
        with pytest.raises(error):
            await upload.save(tmp_path / name)


@by_each
async def test_a_full_disk_leaves_nothing(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    """P2: nor does it touch the file that was to be replaced."""
    path = tmp_path / "saved"
    path.write_bytes(b"before")

    def fail() -> None:
        raise OSError(errno.ENOSPC, "of the test")

    copy_by(by, monkeypatch, fail)
    async with make_upload(storage, b"after") as upload:
        with pytest.raises(OSError, match="of the test"):
            await upload.save(path, overwrite=True)
    assert path.read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["saved"]


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
    monkeypatch.setattr(saving, "copy", gate.before(saving.copy))

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
    monkeypatch.setattr(saving, "copy", gate.before(saving.copy))
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
    copy = saving.copy

    def tell_and_copy(*args: Any, **options: Any) -> None:
        threads.append(threading.get_ident())
        copy(*args, **options)

    monkeypatch.setattr(saving, "copy", tell_and_copy)
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
        with pytest.raises(FileExistsError):
            saving._name(tmp_path / "another", saved)  # taken since it was looked for
    assert saved.read_bytes() == b"abc"
    assert os.listdir(tmp_path) == ["saved"]
