"""A checksum is that of the bytes an owner sees, and computed once."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import AsyncGenerator
from typing import Any

import anyio
import pytest
from starlette.datastructures import UploadFile

from starlette_upload_keepalive import Upload, UploadClosed, Uploads, detach
from starlette_upload_keepalive.files.blob import Blob
from starlette_upload_keepalive.files.checksum import Checksum
from starlette_upload_keepalive.files.memory_file import MemoryFile
from starlette_upload_keepalive.files.storage import Storage
from starlette_upload_keepalive.quantities import MIB
from tests.stored import CANCELS, Gate, WatchedThreads, assert_empty, cancel, make_upload

pytestmark = pytest.mark.anyio


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def count_reads(upload: Upload, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Note which threads open the bytes of an upload."""
    reads: list[int] = []
    open_ = Blob.open

    def open_and_note(blob: Blob) -> Any:
        if blob is upload._view.blob:
            reads.append(threading.get_ident())
        return open_(blob)

    monkeypatch.setattr(Blob, "open", open_and_note)
    return reads


@pytest.mark.parametrize("size", [0, 10, 3 * MIB + 1])
async def test_it_is_that_of_all_bytes(storage: Storage, size: int) -> None:
    data = os.urandom(size)
    async with make_upload(storage, data) as upload:
        await upload.seek(5)
        assert await upload.sha256() == sha256(data)
        assert await upload.read() == data[5:]


async def test_it_is_computed_once_and_in_a_thread(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P7: for all owners, whether they ask at once or later."""
    digests: list[str] = []
    async with make_upload(storage, b"abc") as upload:
        reads = count_reads(upload, monkeypatch)

        async def ask(upload: Upload) -> None:
            async with upload:
                digests.append(await upload.sha256())

        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(ask, detach(upload))
        digests.append(await upload.sha256())
        assert len(reads) == 1
        assert reads != [threading.get_ident()]
    assert digests == [sha256(b"abc")] * 6


async def test_who_asks_meanwhile_waits(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    """And does not begin anew."""
    gate, digests = Gate(), list[str]()
    async with make_upload(storage, b"abc") as upload:
        reads = count_reads(upload, monkeypatch)
        monkeypatch.setattr(Blob, "open", gate.before(Blob.open))

        async def ask() -> None:
            digests.append(await upload.sha256())

        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(ask)
            await gate.entered()
            gate.open()
    assert len(reads) == 1
    assert digests == [sha256(b"abc")] * 3


@pytest.mark.parametrize("streamed", [False, True])
async def test_it_is_that_of_what_was_written(storage: Storage, streamed: bool) -> None:
    """P3: of this owner's bytes, whatever was known of them before."""
    storage.sha256 = streamed
    async with make_upload(storage, b"abc") as upload:
        with detach(upload) as other:
            assert await upload.sha256() == sha256(b"abc")
            await upload.write(b"XY")
            assert await upload.sha256() == sha256(b"XYc")
            await upload.write(b"Z!")
            assert await upload.sha256() == sha256(b"XYZ!")
            assert await other.sha256() == sha256(b"abc")


async def test_it_is_that_of_a_file_of_the_owners_own(storage: Storage) -> None:
    async with make_upload(storage, b"abc") as upload:
        upload.file = MemoryFile(b"theirs")
        assert await upload.sha256() == sha256(b"theirs")


# While the bytes arrive


async def test_what_streams_in_is_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is hashed in the threads that write it."""
    storage = Storage(memory_max_size=10, sha256=True)
    storage.threads = WatchedThreads()
    pieces = [os.urandom(700_000) for _ in range(5)]
    threads: set[int] = set()
    update = Checksum.update

    def update_and_note(*args: Any) -> None:
        threads.add(threading.get_ident())
        update(*args)

    async def stream() -> AsyncGenerator[bytes, None]:
        for piece in [b"12345", *pieces, b"end"]:
            yield piece

    monkeypatch.setattr(Checksum, "update", update_and_note)
    async with await Upload.from_stream(stream(), storage=storage) as upload:
        reads = count_reads(upload, monkeypatch)
        assert await upload.sha256() == sha256(b"12345" + b"".join(pieces) + b"end")
        assert reads == []
    assert threads
    assert threading.get_ident() not in threads
    assert_empty(storage)


async def test_unless_asked_for_it_is_not_hashed(monkeypatch: pytest.MonkeyPatch) -> None:
    updates: list[object] = []
    monkeypatch.setattr(Checksum, "update", updates.append)
    async with make_upload(Storage(memory_max_size=0), b"abc"):
        pass
    assert updates == []
    assert not Uploads().storage.sha256
    assert Uploads(sha256=True).storage.sha256


def test_bytes_of_which_some_have_passed_by_are_read() -> None:
    checksum = Checksum()
    checksum.update([b"a", bytearray(b"b")])
    digest = checksum.of(lambda: MemoryFile(b"abcd"), 4, lambda: None)
    assert digest == sha256(b"abcd")


def test_bytes_that_have_all_passed_by_are_not_read() -> None:
    checksum = Checksum()
    checksum.update([b"a", bytearray(b"b")])
    checksum.update([])
    checksum.update([b"cd"])
    assert checksum.of(not_read, 4, not_read) == sha256(b"abcd")


def not_read() -> Any:
    raise AssertionError("it is known without")


async def test_what_did_not_stream_in_is_read() -> None:
    """Of a file that was taken over, no bytes have passed by."""
    storage = Storage(memory_max_size=0, sha256=True)
    async with make_upload(storage, b"abc") as upload:
        with detach(UploadFile(upload.file, filename="a")) as copied:
            assert await copied.sha256() == sha256(b"abc")
        upload._view.blob._checksum = None
        assert await upload.sha256() == sha256(b"abc")


async def test_what_fails_is_tried_again(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    async with make_upload(storage, b"abc") as upload:
        with monkeypatch.context() as patch:
            patch.setattr(Blob, "open", fail)
            with pytest.raises(OSError, match="of the test"):
                await upload.sha256()
        assert await upload.sha256() == sha256(b"abc")


def fail(_: Blob) -> Any:
    raise OSError("of the test")


async def test_what_is_closed_has_none(storage: Storage) -> None:
    upload = make_upload(storage, b"abc")
    await upload.close()
    with pytest.raises(UploadClosed):
        await upload.sha256()


@pytest.mark.parametrize(("anyio_backend", "how"), CANCELS)
async def test_cancelled_it_is_computed_to_the_end(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """P2: the thread owns the bytes meanwhile."""
    gate = Gate()
    upload = make_upload(storage, b"abc")
    monkeypatch.setattr(Blob, "open", gate.before(Blob.open))

    async def ask() -> None:
        async with upload:
            await upload.sha256()

    await cancel(how, gate, ask)
