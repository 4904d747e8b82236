"""From a body's stream to uploads: where the bytes go, and what ends the reading."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException

from starlette_upload_keepalive import StorageError, Upload
from starlette_upload_keepalive.files.private_file import PrivateFile
from starlette_upload_keepalive.files.storage import Storage
from starlette_upload_keepalive.forms import multipart, part_parser
from starlette_upload_keepalive.forms.multipart import FormItems, MultipartReader
from starlette_upload_keepalive.quantities import KIB, MIB
from tests.asgi import BOUNDARY, Part, file_part
from tests.asgi import multipart as encode

pytestmark = pytest.mark.anyio


async def stream(chunks: Iterable[bytes]) -> AsyncGenerator[bytes, None]:
    for chunk in chunks:
        await checkpoint()
        yield chunk


def reader(
    storage: Storage | None = None, *, boundary: str = BOUNDARY, **limits: Any
) -> MultipartReader:
    return MultipartReader(
        f"multipart/form-data; boundary={boundary}",
        storage=storage or Storage(),
        owner="the test",
        **limits,
    )


async def feed(to: MultipartReader, chunks: AsyncGenerator[bytes, None]) -> FormItems:
    async with aclosing(chunks):
        return await to.read(chunks)


async def read(body: bytes, storage: Storage | None = None, *, size: int = 64 * KIB) -> FormItems:
    chunks = [body[start : start + size] for start in range(0, len(body), size)]
    return await feed(reader(storage), stream(chunks))


def uploads_of(items: FormItems) -> list[Upload]:
    return [value for _, value in items if isinstance(value, Upload)]


@pytest.mark.parametrize(
    ("size", "in_memory"), [(0, True), (1, True), (MIB, True), (MIB + 1, False), (3 * MIB, False)]
)
async def test_a_file_stays_in_memory_up_to_the_limit(size: int, in_memory: bool) -> None:
    data = os.urandom(size)
    storage = Storage()
    (upload,) = uploads_of(await read(encode(file_part(data)), storage))

    async with upload:
        assert upload._view.blob.in_memory is in_memory
        assert upload.size == size
        assert await upload.read() == data
        assert storage.memory.used == (size if in_memory else 0)
    assert (storage.open_blobs, storage.memory.used) == (0, 0)


async def test_files_that_find_no_budget_left_go_to_disk() -> None:
    """P7: the memory of all files together is bounded."""
    storage = Storage(memory_budget=25)
    items = await read(encode(*(file_part(b"%010d" % i) for i in range(4))), storage)

    uploads = uploads_of(items)
    assert [upload._view.blob.in_memory for upload in uploads] == [True, True, False, False]
    assert [await upload.read() for upload in uploads] == [b"%010d" % i for i in range(4)]
    for upload in uploads:
        await upload.close()


@pytest.mark.parametrize("memory_max_size", [0, MIB])
@pytest.mark.parametrize("size", [64 * KIB - 1, 64 * KIB, 3 * MIB])
async def test_files_that_share_a_message(memory_max_size: int, size: int) -> None:
    """Large slices are not copied on their way to the disk."""
    files = [os.urandom(size) for _ in range(3)]
    storage = Storage(memory_max_size=memory_max_size)
    body = encode(*map(file_part, files))
    uploads = uploads_of(await read(body, storage, size=len(body)))
    for upload, data in zip(uploads, files, strict=True):
        async with upload:
            assert await upload.read() == data


async def test_a_message_may_be_a_buffer_that_is_used_again() -> None:
    """Against the ASGI specification; but nobody would notice that the file is another."""
    data = os.urandom(3 * MIB)
    body = encode(file_part(data))
    buffer = bytearray(256 * KIB)

    async def reusing() -> AsyncGenerator[Any, None]:
        whole = len(body) - len(body) % len(buffer)
        for start in range(0, whole, len(buffer)):
            buffer[:] = body[start : start + len(buffer)]
            yield buffer
        yield body[whole:]

    (upload,) = uploads_of(await feed(reader(), reusing()))
    async with upload:
        assert await upload.read() == data


async def test_small_pieces_are_gathered() -> None:
    data = os.urandom(9000)
    body = encode(file_part(data))
    form_reader = reader()
    pieces = stream(body[i : i + 1] for i in range(len(body)))
    (upload,) = uploads_of(await feed(form_reader, pieces))
    async with upload:
        assert await upload.read() == data


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Get the size of each write."""
    sizes: list[int] = []
    write = PrivateFile.write

    def noted(file: PrivateFile, buffers: Sequence[bytes]) -> None:
        sizes.append(sum(map(len, buffers)))
        write(file, buffers)

    monkeypatch.setattr(PrivateFile, "write", noted)
    return sizes


@pytest.mark.parametrize("message", [150, 400])
async def test_a_small_file_on_disk_is_written_once(written: list[int], message: int) -> None:
    """P12: and not begun in the message in which another ends, nor looked at again."""
    body = encode(*(file_part(bytes(size)) for size in (100, 200, 300)))
    items = await read(body, Storage(memory_max_size=0), size=message)
    assert sorted(written) == [100, 200, 300]
    for upload in uploads_of(items):
        await upload.close()


@pytest.mark.parametrize("before", [(), (file_part(b"small"),)], ids=["alone", "behind another"])
async def test_a_large_file_is_written_as_it_arrives(
    before: Sequence[bytes], written: list[int]
) -> None:
    """P7: a message leaves nothing behind that is worth a write."""
    body = encode(*before, file_part(bytes(5 * MIB)))
    form_reader = reader(Storage(memory_max_size=0))

    async def arriving() -> AsyncGenerator[bytes, None]:
        for start in range(0, len(body), 2 * MIB):
            yield body[start : start + 2 * MIB]
            assert form_reader._blob is None or form_reader._blob.unwritten < MIB

    items = await feed(form_reader, arriving())
    assert max(written) < 3 * MIB
    for upload in uploads_of(items):
        await upload.close()


async def test_the_values_keep_their_order_and_their_field_names() -> None:
    items = await read(
        encode(
            Part("a", b"1"), file_part(b"x", name="b"), Part("a", b"2"), file_part(b"", name="a")
        )
    )
    assert [name for name, _ in items] == ["a", "b", "a", "a"]
    assert [value for _, value in items if isinstance(value, str)] == ["1", "2"]
    assert [upload.field_name for upload in uploads_of(items)] == ["b", "a"]
    for upload in uploads_of(items):
        assert isinstance(upload, UploadFile)
        await upload.close()


@pytest.mark.parametrize("size", [10, 3 * MIB])
async def test_an_error_closes_what_was_read_so_far(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P2: nothing is left open, although the test holds on to everything."""
    kept: list[Upload] = []

    def keeping(*args: Any, **named: Any) -> Upload:
        kept.append(Upload(*args, **named))
        return kept[-1]

    monkeypatch.setattr(multipart, "Upload", keeping)
    storage = Storage()
    with pytest.raises(MultiPartException, match=r"Invalid multipart data\."):
        await read(encode(file_part(bytes(size)), file_part(bytes(size)), b"no header"), storage)
    assert len(kept) == 2
    assert all(upload._view.closed for upload in kept)
    assert (storage.open_blobs, storage.memory.used) == (0, 0)


async def test_an_error_of_the_stream_passes_unchanged() -> None:
    error = LookupError("whatever the server raises")

    async def failing() -> AsyncGenerator[bytes, None]:
        yield encode(file_part(bytes(2 * MIB)))[: MIB + KIB]
        raise error

    with pytest.raises(LookupError) as raised:
        await feed(reader(), failing())
    assert raised.value is error


async def test_an_oserror_of_the_stream_is_not_taken_for_one_of_the_disk() -> None:
    error = OSError(28, "not of our disk")

    async def failing() -> AsyncGenerator[bytes, None]:
        yield encode(file_part(bytes(10)))[:-10]
        raise error

    with pytest.raises(OSError, match="not of our disk") as raised:
        await feed(reader(), failing())
    assert raised.value is error


async def test_another_error_of_the_disk_is_a_500(monkeypatch: pytest.MonkeyPatch) -> None:
    """Divergence 3: FastAPI would blame the client for it."""

    def failing(*_: object) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(PrivateFile, "write", failing)
    with pytest.raises(StorageError) as raised:
        await read(encode(file_part(bytes(2 * MIB))))
    assert raised.value.status_code == 500
    assert isinstance(raised.value.__cause__, OSError)


async def test_cancelled_while_it_waits_for_the_body_it_closes_all() -> None:
    storage = Storage()
    waiting = anyio.Event()

    async def stalling() -> AsyncGenerator[bytes, None]:
        yield encode(file_part(bytes(3 * MIB)))[: 2 * MIB]
        waiting.set()
        await anyio.sleep_forever()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(feed, reader(storage), stalling())
        await waiting.wait()
        assert storage.open_blobs == 1
        tasks.cancel_scope.cancel()
    assert storage.open_blobs == 0


# Limits that the newest python-multipart keeps by itself, and earlier ones do not


@pytest.fixture
def unlimited_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the parser take any header, as python-multipart before 0.0.27 does."""

    class Unlimited(part_parser._StateMachine):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            self.max_header_count = 1_000_000
            self.max_header_size = 1_000_000_000

    monkeypatch.setattr(part_parser, "_StateMachine", Unlimited)
    monkeypatch.setattr("python_multipart.multipart.MAX_BOUNDARY_LENGTH", 10_000, raising=False)


def with_headers(*headers: bytes) -> bytes:
    disposition = b'Content-Disposition: form-data; name="a"'
    return encode(b"\r\n".join([disposition, *headers]) + b"\r\n\r\n1")


@pytest.mark.usefixtures("unlimited_parser")
@pytest.mark.parametrize(
    "body",
    [
        pytest.param(with_headers(*(b"x-%d: 1" % i for i in range(8))), id="nine headers"),
        pytest.param(with_headers(b"x: " + b"v" * 4224), id="a long value"),
        pytest.param(with_headers(b"x" * 4224 + b": v"), id="a long name"),
    ],
)
@pytest.mark.parametrize("size", [1, 100, 100_000])
async def test_too_many_or_too_long_headers_are_refused(body: bytes, size: int) -> None:
    """P11, P7: on every version of python-multipart."""
    with pytest.raises(MultiPartException, match=r"Invalid multipart data\."):
        await read(body, size=size)


@pytest.mark.usefixtures("unlimited_parser")
@pytest.mark.parametrize(
    "body",
    [
        pytest.param(with_headers(*(b"x-%d: 1" % i for i in range(7))), id="eight headers"),
        pytest.param(with_headers(b"x: " + b"v" * 4223), id="a long value"),
        pytest.param(with_headers(b"x" * 4223 + b": v"), id="a long name"),
    ],
)
async def test_as_many_and_as_long_headers_as_allowed_pass(body: bytes) -> None:
    assert await read(body) == [("a", "1")]


@pytest.mark.usefixtures("unlimited_parser")
@pytest.mark.parametrize("begin", ["", "X: "], ids=["name", "value"])
async def test_a_header_that_never_ends_is_refused_while_it_arrives(begin: str) -> None:
    """P7: it is not collected until the client gives up."""
    sent = 0

    async def endless() -> AsyncGenerator[bytes, None]:
        nonlocal sent
        yield f"--{BOUNDARY}\r\n{begin}".encode()
        while sent < 100:
            sent += 1
            yield b"v" * KIB

    with pytest.raises(MultiPartException, match=r"Invalid multipart data\."):
        await feed(reader(), endless())
    assert sent <= 5


@pytest.mark.usefixtures("unlimited_parser")
@pytest.mark.parametrize(("length", "refused"), [(0, False), (1, False), (256, False), (257, True)])
async def test_a_boundary_may_have_256_bytes(length: int, refused: bool) -> None:
    boundary = "b" * length
    form_reader = reader(boundary=boundary or '""')
    chunks = stream([encode(Part("a", b"1"), boundary=boundary)])
    if refused:
        with pytest.raises(MultiPartException, match=r"Invalid multipart data\."):
            await feed(form_reader, chunks)
    else:
        assert await feed(form_reader, chunks) == [("a", "1")]


async def test_a_boundary_is_taken_as_it_is_written() -> None:
    boundary = "----WebKitFormBoundaryA1b2"
    chunks = stream([encode(Part("a", b"1"), boundary=boundary)])
    assert await feed(reader(boundary=boundary), chunks) == [("a", "1")]


async def test_limits_count_files_and_fields_apart() -> None:
    body = encode(Part("a"), file_part(b""), Part("b"), file_part(b""))
    items = await feed(reader(max_files=2, max_fields=2), stream([body]))
    assert len(items) == 4
    for upload in uploads_of(items):
        await upload.close()
    with pytest.raises(MultiPartException, match=r"Too many files. Maximum number of files is 1\."):
        await feed(reader(max_files=1, max_fields=2), stream([body]))
    with pytest.raises(MultiPartException, match=r"Maximum number of fields is 1\."):
        await feed(reader(max_files=2, max_fields=1), stream([body]))
