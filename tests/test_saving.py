"""A save is the whole file or nothing, under a name that it never takes from another."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import threading
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


@pytest.mark.parametrize("overwrite", [False, True])
async def test_a_reader_sees_the_whole_file_or_none(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overwrite: bool
) -> None:
    path, gate, seen = tmp_path / "saved", Gate(), list[bytes]()
    copyfileobj = shutil.copyfileobj

    def stop_half_way(source: Any, target: Any, length: int) -> None:
        target.write(source.read(2))
        target.flush()
        gate.enter()
        copyfileobj(source, target, length)

    if overwrite:
        path.write_bytes(b"before")
    monkeypatch.setattr(shutil, "copyfileobj", stop_half_way)
    async with make_upload(storage, b"after") as upload, anyio.create_task_group() as tasks:

        async def save() -> None:
            await upload.save(path, overwrite=overwrite)

        tasks.start_soon(save)
        await gate.entered()
        seen += [path.read_bytes()] if path.exists() else []
        gate.open()
    assert seen == ([b"before"] if overwrite else [])
    assert path.read_bytes() == b"after"


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


async def test_a_full_disk_leaves_nothing(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P2: nor does it touch the file that was to be replaced."""
    path = tmp_path / "saved"
    path.write_bytes(b"before")

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "of the test")

    monkeypatch.setattr(shutil, "copyfileobj", fail)
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
