"""Uploads are made of bytes, paths and streams, too."""

from __future__ import annotations

import gc
import mimetypes
import os
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from starlette_upload_keepalive import Upload
from starlette_upload_keepalive.files.storage import Storage
from starlette_upload_keepalive.quantities import MIB

pytestmark = pytest.mark.anyio


async def test_from_bytes() -> None:
    data = os.urandom(2 * MIB)
    with Upload.from_bytes(data, filename="a.png") as upload:
        assert (upload.filename, upload.content_type) == ("a.png", "image/png")
        assert upload.size == len(data)
        assert await upload.read() == data
        assert upload._view.blob.in_memory


def test_nothing_is_copied_from_bytes() -> None:
    data = os.urandom(100)
    with Upload.from_bytes(data) as upload:
        assert upload._view.blob._joined() is data
        assert upload.content_type is None


@pytest.mark.parametrize("size", [0, 10, 2 * MIB])
async def test_from_path(storage: Storage, tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    path = tmp_path / "a.csv"
    path.write_bytes(data)
    async with await Upload.from_path(path, storage=storage) as upload:
        path.write_bytes(b"changed")
        assert upload.filename == "a.csv"
        assert upload.content_type == "text/csv"
        assert upload.size == size
        assert await upload.read() == data


async def test_what_is_said_of_a_path_counts(tmp_path: Path) -> None:
    (tmp_path / "a.csv").touch()
    async with await Upload.from_path(
        str(tmp_path / "a.csv"), filename="b", content_type="text/plain"
    ) as upload:
        assert (upload.filename, upload.content_type) == ("b", "text/plain")


async def test_from_a_path_that_is_missing(storage: Storage, tmp_path: Path) -> None:
    """P2: nothing is left of it, and no warning either."""
    with pytest.raises(FileNotFoundError):
        await Upload.from_path(tmp_path / "missing", storage=storage)
    assert storage.open_blobs == 0
    gc.collect()


@pytest.mark.parametrize("chunks", [[], [b"abc", b"", b"def"], [b"x" * MIB] * 3 + [b"y"]])
async def test_from_stream(storage: Storage, chunks: list[bytes]) -> None:
    data = b"".join(chunks)
    async with await Upload.from_stream(stream_of(chunks), storage=storage) as upload:
        assert upload.size == len(data)
        if data or storage.memory_max_size:
            assert await upload.read() == data


async def test_an_empty_stream(storage: Storage) -> None:
    """P3: for every size, 0 bytes too."""
    async with await Upload.from_stream(stream_of([]), storage=storage) as upload:
        assert await upload.read() == b""


async def test_a_stream_that_fails(storage: Storage) -> None:
    """P2: what was read so far is dropped."""

    async def stream() -> AsyncIterator[bytes]:
        yield b"x" * MIB
        yield b"x"
        raise OSError("of the test")

    with pytest.raises(OSError, match="of the test"):
        await Upload.from_stream(stream(), storage=storage)
    assert storage.open_blobs == 0


async def stream_of(chunks: list[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


@pytest.mark.parametrize("source", ["path", "stream"])
async def test_the_systems_media_types_are_not_read_in_the_event_loop(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, source: str
) -> None:
    """P7: by whoever comes first; the loop never blocks on the disk."""
    threads: list[int] = []
    init = mimetypes.init

    def init_and_note() -> None:
        threads.append(threading.get_ident())
        init()

    monkeypatch.setattr(mimetypes, "inited", False)
    monkeypatch.setattr(mimetypes, "init", init_and_note)
    path = tmp_path / "a.png"
    path.write_bytes(b"abc")
    if source == "path":
        upload = await Upload.from_path(path)
    else:
        upload = await Upload.from_stream(stream_of([b"abc"]), filename="a.png")
    async with upload:
        assert upload.content_type == "image/png"
    assert len(threads) == 1
    assert threads != [threading.get_ident()]
