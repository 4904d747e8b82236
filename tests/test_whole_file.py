"""An upload is stored in a directory under a name that nobody else has."""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path

import pytest

from starlette_upload_keepalive import UploadClosed
from starlette_upload_keepalive.files.storage import Storage
from tests.stored import make_upload

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("filename", "pattern"),
    [
        ("holiday.jpg", r"holiday-[0-9a-f]{16}\.jpg"),
        ("../../etc/passwd", r"passwd-[0-9a-f]{16}"),
        ("文" * 300 + ".png", r"文+-[0-9a-f]{16}\.png"),
        (None, r"file-[0-9a-f]{16}"),
    ],
)
async def test_the_name_is_like_the_clients(
    storage: Storage, tmp_path: Path, filename: str | None, pattern: str
) -> None:
    async with make_upload(storage, b"abc") as upload:
        upload.filename = filename
        first = await upload.save_to(tmp_path)
        second = await upload.save_to(str(tmp_path))
    assert first != second
    for path in (first, second):
        assert path.parent == tmp_path
        assert re.fullmatch(pattern, path.name)
        assert path.read_bytes() == b"abc"
    assert sorted(os.listdir(tmp_path)) == sorted([first.name, second.name])


async def test_no_file_is_replaced(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a chance of one in 2 ** 64."""

    def same(size: int) -> str:
        return "0" * size * 2

    async with make_upload(storage, b"ours") as upload:
        taken = tmp_path / "a-0000000000000000.bin"
        taken.write_bytes(b"theirs")
        monkeypatch.setattr(secrets, "token_hex", same)
        with pytest.raises(FileExistsError):
            await upload.save_to(tmp_path)
    assert taken.read_bytes() == b"theirs"


async def test_the_directory_must_exist(storage: Storage, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    async with make_upload(storage, b"abc") as upload:
        with pytest.raises(FileNotFoundError, match="does not exist: create it first"):
            await upload.save_to(tmp_path / "missing")
        with pytest.raises(NotADirectoryError, match="No directory"):
            await upload.save_to(tmp_path / "file")
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("durable", [False, True])
async def test_it_is_durable_when_asked(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durable: bool
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    async with make_upload(storage, b"abc") as upload:
        await upload.save_to(tmp_path, durable=durable)
    assert bool(synced) is durable


async def test_what_is_closed_is_not_stored(storage: Storage, tmp_path: Path) -> None:
    upload = make_upload(storage, b"abc")
    await upload.close()
    with pytest.raises(UploadClosed):
        await upload.save_to(tmp_path)
    assert os.listdir(tmp_path) == []
