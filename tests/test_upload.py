"""An upload is a ``UploadFile`` that its owner closes, and that no other owner disturbs."""

from __future__ import annotations

import csv
import errno
import gc
import io
import os
import shutil
import tarfile
import threading
import zipfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import anyio
import anyio.lowlevel
import pytest
from starlette.datastructures import Headers, UploadFile

from starlette_upload_keepalive import Upload, UploadClosed
from starlette_upload_keepalive.blob import Blob
from starlette_upload_keepalive.storage import MIB, Storage
from starlette_upload_keepalive.upload import let_go_of_all
from tests.stored import (
    CANCELS,
    KINDS,
    Gate,
    WatchedThreads,
    assert_empty,
    cancel,
    count_closings,
    make_storage,
    make_upload,
    wait_until_idle,
)

pytestmark = pytest.mark.anyio


@pytest.fixture(params=KINDS)
def storage(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Storage]:
    storage = make_storage(request.param, monkeypatch)
    yield storage
    assert_empty(storage)


@pytest.fixture
def on_disk() -> Iterator[Storage]:
    storage = Storage(memory_max_size=0)
    storage.threads = WatchedThreads()
    yield storage
    assert_empty(storage)


# What every UploadFile can do


@pytest.mark.parametrize("size", [0, 10, 2 * MIB])
async def test_owners_neither_move_nor_change_each_others_bytes(
    storage: Storage, size: int
) -> None:
    """P3: whatever the size, and wherever the bytes are."""
    data = os.urandom(size)
    async with make_upload(storage, data) as first, first._share("a job") as second:
        assert await first.read() == data
        assert await second.read(4) == data[:4]
        await first.seek(0)
        await first.write(b"first")
        assert await second.read() == data[4:]
        assert first.size == max(size, 5)
        assert second.size == size
        await second.seek(0)
        await second.write(b"2nd")
        await first.seek(0)
        assert await first.read() == b"first" + data[5:]
        await second.seek(0)
        assert await second.read() == b"2nd" + data[3:]
        async with first._share("another job") as third:
            assert await third.read() == b"first" + data[5:]


async def test_a_write_after_a_share_is_the_writers_own(storage: Storage) -> None:
    """P3: also when the writer has written before."""
    async with make_upload(storage, b"abc") as upload:
        await upload.write(b"X")
        async with upload._share("a job") as shared:
            await upload.write(b"YZ!")
            assert await shared.read() == b"Xbc"
        await upload.seek(0)
        assert await upload.read() == b"XYZ!"


def test_it_is_what_starlette_calls_an_upload() -> None:
    headers = Headers({"content-type": "image/png", "x-more": "1"})
    blob = Blob(Storage())
    with Upload(blob, owner="the test", filename="a.png", headers=headers) as upload:
        assert isinstance(upload, UploadFile)
        assert upload.filename == "a.png"
        assert upload.content_type == "image/png"
        assert upload.headers is headers
        assert repr(upload) == "<Upload 'a.png', 0 bytes>"
    assert repr(upload) == "<Upload 'a.png', 0 bytes, closed>"


async def test_a_file_may_be_put_in_place_of_ours(storage: Storage) -> None:
    async with make_upload(storage, b"abc") as upload:
        upload.file = io.BytesIO(b"theirs")
        assert await upload.read() == b"theirs"
        await upload.write(b"!")
        async with upload._share("a job") as shared:
            assert await shared.read() == b"theirs!"


async def test_bytes_in_memory_are_read_without_a_thread(storage: Storage) -> None:
    """P7, P12: the loop waits for no disk, and for no thread where there is no disk."""
    calls: list[int] = []
    run = storage.threads.run

    async def counted(*args: Any, **options: Any) -> Any:
        calls.append(1)
        return await run(*args, **options)

    async with make_upload(storage, b"abc") as upload:
        storage.threads.run = counted  # type: ignore[method-assign]
        await upload.seek(1)
        await upload.read()
    assert len(calls) == (0 if storage.memory_max_size else 2)


# Its end


async def test_close_again_does_nothing(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    """P2: neither to the file nor to another owner's."""
    closings = count_closings(monkeypatch)
    upload = make_upload(storage, b"abc")
    other = upload._share("another")
    file = upload.file
    for _ in range(2):
        await upload.close()
    assert file.closed
    assert await other.read() == b"abc"
    await other.close()
    assert len(closings) == (0 if storage.memory_max_size else 1)


@pytest.mark.parametrize("way", ["close", "with", "async with"])
async def test_what_is_closed_can_not_be_used(storage: Storage, way: str) -> None:
    upload = make_upload(storage, b"abc")
    if way == "close":
        await upload.close()
    elif way == "with":
        with upload as entered:
            assert entered is upload
    else:
        async with upload as entered:
            assert entered is upload
    for use in (upload.read, upload.__aenter__, lambda: upload.seek(0), lambda: upload.write(b"")):
        with pytest.raises(UploadClosed, match="the test has let go of it"):
            await use()
    for plain_use in (lambda: upload.file, upload.__enter__, lambda: upload._share("a job")):
        with pytest.raises(UploadClosed, match="the test has let go of it"):
            plain_use()


async def test_closed_when_the_block_fails(storage: Storage) -> None:
    """P2: under every kind of exit."""
    for upload in (make_upload(storage, b"abc"), make_upload(storage, b"abc")):
        with pytest.raises(SystemExit):
            async with upload:
                raise SystemExit
    assert storage.open_blobs == 0


def test_what_is_forgotten_is_told_and_closed(storage: Storage) -> None:
    """P2: a ResourceWarning names the owner and the field."""
    uploads = [make_upload(storage, b"abc", owner="handler 'thumbnail'")]
    file = uploads[0].file
    with pytest.warns(ResourceWarning) as caught:
        uploads.clear()
    assert [str(warning.message) for warning in caught] == [
        "<Upload 'a.bin', 3 bytes> of field 'files' was not closed by handler 'thumbnail'."
    ]
    assert file.closed
    assert storage.open_blobs == 0


def test_an_upload_of_a_closed_blob_is_none(storage: Storage) -> None:
    upload = make_upload(storage, b"abc")
    blob = upload._view.blob
    with upload:
        pass
    with pytest.raises(UploadClosed):
        Upload(blob, owner="too late")  # and its finalizer has nothing to say
    gc.collect()


def test_all_are_closed_although_one_fails(storage: Storage) -> None:
    """P2: the error is told."""

    class Failing(io.BytesIO):
        def close(self) -> None:
            super().close()
            raise OSError(errno.EIO, "of the test")

    uploads = [make_upload(storage, b"abc") for _ in range(3)]
    uploads[1].file = Failing()
    with pytest.raises(OSError, match="of the test"):
        let_go_of_all(uploads)
    assert storage.open_blobs == 0


def test_a_discard_without_a_request() -> None:
    upload = Upload.from_bytes(b"abc")
    with upload, pytest.raises(RuntimeError, match="came in with a request"):
        upload.discard()


def test_a_discard_goes_to_where_it_came_in() -> None:
    discarded: list[Upload] = []

    class Origin:
        def discard(self, upload: Upload) -> None:
            discarded.append(upload)

    with Upload.from_bytes(b"abc") as upload, upload._share("a job", origin=Origin()) as shared:
        shared.discard()
        assert discarded == [shared]


# Other sources


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
        assert upload._view.blob._data is data
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


# Pieces


@pytest.mark.parametrize(("size", "sizes"), [(4, [4, 4, 2]), (10, [10]), (11, [10])])
async def test_chunks_go_over_all_bytes(storage: Storage, size: int, sizes: list[int]) -> None:
    async with make_upload(storage, b"0123456789") as upload:
        await upload.seek(7)
        chunks = [chunk async for chunk in upload.chunks(size)]
    assert [len(chunk) for chunk in chunks] == sizes
    assert b"".join(chunks) == b"0123456789"


async def test_chunks_are_of_a_mebibyte_unless_told() -> None:
    with Upload.from_bytes(b"x" * (MIB + 1)) as upload:
        assert [len(chunk) async for chunk in upload.chunks()] == [MIB, 1]


async def test_chunks_of_no_bytes() -> None:
    upload = Upload.from_bytes(b"abc")
    with upload, pytest.raises(ValueError, match="size must be 1 byte or more, not 0"):
        await anext(upload.chunks(0))


# Libraries that want a file


def zipped() -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("inner.txt", "hello")
    return target.getvalue()


def tarred() -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w:gz") as archive:
        member = tarfile.TarInfo("inner.txt")
        member.size = 5
        archive.addfile(member, io.BytesIO(b"hello"))
    return target.getvalue()


def image() -> bytes:
    target = io.BytesIO()
    pytest.importorskip("PIL.Image").new("RGB", (7, 5)).save(target, "PNG")
    return target.getvalue()


def read_zip(file: BinaryIO) -> object:
    with zipfile.ZipFile(file) as archive:
        return archive.read("inner.txt")


def read_tar(file: BinaryIO) -> object:
    with tarfile.open(fileobj=file) as archive:
        member = archive.extractfile("inner.txt")
        return None if member is None else member.read()


def read_image(file: BinaryIO) -> object:
    with pytest.importorskip("PIL.Image").open(file) as opened:
        opened.load()
        return opened.size


def read_table(file: BinaryIO) -> object:
    return pytest.importorskip("pandas").read_csv(file)["b"].tolist()


def read_csv(file: BinaryIO) -> object:
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    try:
        return [row["b"] for row in csv.DictReader(text)]
    finally:
        text.detach()


def copy_file(file: BinaryIO) -> object:
    target = io.BytesIO()
    shutil.copyfileobj(file, target)
    return target.getvalue()


@pytest.mark.parametrize(
    ("make", "read", "expected"),
    [
        (zipped, read_zip, b"hello"),
        (tarred, read_tar, b"hello"),
        (image, read_image, (7, 5)),
        (lambda: b"a,b\n1,2\n3,4\n", read_table, [2, 4]),
        (lambda: b"a,b\n1,2\n3,4\n", read_csv, ["2", "4"]),
        (lambda: b"hello", copy_file, b"hello"),
    ],
    ids=["zipfile", "tarfile", "PIL", "pandas", "csv", "shutil"],
)
async def test_libraries_read_the_file(
    storage: Storage,
    make: Callable[[], bytes],
    read: Callable[[BinaryIO], object],
    expected: object,
) -> None:
    """P1, P3: two owners at once."""
    async with make_upload(storage, make()) as upload, upload._share("a job") as shared:
        await shared.read(3)
        assert read(upload.file) == expected
        await shared.seek(0)
        assert read(shared.file) == expected


# Cancelled while a thread is at work


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
    write = Blob._write_pending
    monkeypatch.setattr(Blob, "_write_pending", gate.before(write))
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
