"""Threads and tasks that use one upload at once, and are cancelled, leave it whole."""

from __future__ import annotations

import io
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, BinaryIO

import anyio
import anyio.lowlevel
import pytest

from starlette_upload_keepalive import Upload
from starlette_upload_keepalive.files.blob import Blob
from starlette_upload_keepalive.files.storage import Storage
from starlette_upload_keepalive.quantities import MIB
from tests.stored import CANCELS, Gate, cancel, count_closings, make_upload, wait_until_idle

pytestmark = pytest.mark.anyio


async def stream_of(chunks: list[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


class GatedFile(io.BytesIO):
    """A slow file in the place of ours."""

    def __init__(self, file: BinaryIO, gate: Gate) -> None:
        super().__init__()
        self._file, self._gate = file, gate

    def read(self, size: int | None = -1, /) -> bytes:
        self._gate.enter()
        return self._file.read(-1 if size is None else size)

    def write(self, data: Any, /) -> int:
        self._gate.enter()
        return super().write(data)


@pytest.mark.parametrize(("anyio_backend", "how"), CANCELS)
@pytest.mark.parametrize("act", ["read", "write"])
async def test_cancelled_and_closed_while_a_thread_uses_the_file(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, how: str, act: str
) -> None:
    """P2: the file is closed once, and the thread finds it closed."""
    gate, closings = Gate(), count_closings(monkeypatch)
    upload = make_upload(storage, b"x" * (3 * MIB))
    ours = upload.file
    upload.file = GatedFile(ours, gate)

    async def operation() -> None:
        async with upload:
            await (upload.read() if act == "read" else upload.write(b"x"))

    await cancel(how, gate, operation)
    wait_until_idle(storage)
    assert ours.closed
    assert storage.open_blobs == 0
    assert len(closings) == (0 if storage.memory_max_size else 1)


@pytest.mark.parametrize(("anyio_backend", "how"), CANCELS)
@pytest.mark.parametrize("source", ["path", "stream"])
async def test_a_source_that_is_cancelled(
    on_disk: Storage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, how: str, source: str
) -> None:
    """P2: the thread finishes, and what it copied is dropped."""
    gate, closings = Gate(), count_closings(monkeypatch)
    monkeypatch.setattr(Blob, "write_batch", gate.before(Blob.write_batch))
    path = tmp_path / "a.bin"
    path.write_bytes(b"x" * MIB)

    async def make() -> None:
        if source == "path":
            making = Upload.from_path(path, storage=on_disk)
        else:
            making = Upload.from_stream(stream_of([b"x" * MIB]), storage=on_disk)
        async with await making:
            await anyio.lowlevel.checkpoint()

    await cancel(how, gate, make)
    wait_until_idle(on_disk)
    assert on_disk.open_blobs == 0
    assert len(closings) == 1


async def test_two_tasks_write_at_once(storage: Storage) -> None:
    """P3: neither's bytes are lost, although both make a private copy."""
    async with make_upload(storage, b"") as upload:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(upload.write, b"abc")
            tasks.start_soon(upload.write, b"abc")
        await upload.seek(0)
        assert await upload.read() == b"abcabc"


async def test_a_thread_closes_what_the_loop_reads(storage: Storage) -> None:
    """P2: whoever closes, and in whatever thread."""
    for _ in range(20):
        upload = make_upload(storage, b"x" * 100_000)
        other = upload._share("another")
        closer = threading.Thread(target=upload._let_go)
        closer.start()
        assert len(await other.read()) == 100_000
        other._let_go()
        closer.join()
    assert storage.open_blobs == 0
