"""A copy is made by the system where it can, and by us where it can not."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from starlette_upload_keepalive.files.storage import Storage
from tests.stored import Gate, make_upload

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("only_copies")]


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
