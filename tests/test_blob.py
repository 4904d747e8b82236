"""A blob is filled once, never changes then, and is closed once by its last owner."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Iterator

import pytest

from starlette_upload_keepalive.files.blob import Blob
from starlette_upload_keepalive.files.private_file import PrivateFile
from starlette_upload_keepalive.files.storage import Storage
from starlette_upload_keepalive.quantities import KIB, MIB

pytestmark = pytest.mark.anyio


SIZES = [0, 10, 2 * MIB]


@pytest.mark.parametrize("size", SIZES)
async def test_each_reader_has_a_position_of_its_own(storage: Storage, size: int) -> None:
    """P3: whatever the size, and wherever the bytes are."""
    data = os.urandom(size)
    blob = Blob(storage)
    owner = blob.own("the test")
    await blob.fill_in_thread(lambda: [data], on_disk=storage.memory_max_size == 0)
    assert blob.size == size
    with blob.open() as first, blob.open() as second:
        assert first.read() == data
        assert second.read(4) == data[:4]
        first.seek(0)
        assert second.read() == data[4:]
        assert first.read() == data
    owner.let_go()


def test_nobody_can_write_to_what_others_read(storage: Storage) -> None:
    """P3: divergence 8, the file of an upload is read-only."""
    blob = Blob(storage)
    owner = blob.own("the test")
    blob.fill([b"abc"])
    with blob.open() as file:
        assert not file.writable()
        for write in (
            lambda: file.write(b"x"),
            lambda: file.writelines([b"x"]),
            lambda: file.truncate(0),
        ):
            with pytest.raises(io.UnsupportedOperation):
                write()
        assert file.read() == b"abc"
    owner.let_go()


@pytest.mark.parametrize(
    "slices", [[], [b""], [b"", b"ab", b"c"], [b"a" * 5000, b"b", b"c" * 5000]]
)
def test_slices_of_any_size_come_out_in_order(storage: Storage, slices: list[bytes]) -> None:
    blob = Blob(storage)
    owner = blob.own("the test")
    for piece in slices:
        blob.append(piece)
    if blob.unwritten:
        blob.write_out()
    if slices and any(slices):
        with blob.open() as file:
            assert file.read() == b"".join(slices)
    assert blob.size == len(b"".join(slices))
    owner.let_go()


def test_many_small_slices_take_little_more_than_their_bytes() -> None:
    """P7: each object of Python's has a price."""
    blob = Blob(Storage())
    owner = blob.own("the test")
    for _ in range(1000):
        blob.append(b"x")
    assert len(blob._pending) <= 2
    owner.let_go()


def test_a_large_slice_is_kept_as_it_is() -> None:
    """P12: to gather it with others would copy it."""
    blob, large = Blob(Storage()), bytes(4 * KIB)
    owner = blob.own("the test")
    for piece in (b"x", large, b"y", b"z", large):
        blob.append(piece)
    assert [piece is large for piece in blob._pending] == [False, True, False, True]
    owner.let_go()


@pytest.mark.parametrize("read", [True, False])
def test_bytes_are_kept_once_and_not_longer_than_needed(read: bool) -> None:
    """P7: whoever holds a closed blob, such as an error's traceback, holds no bytes."""
    blob = Blob(Storage())
    owner = blob.own("the test")
    blob.append(b"x" * 5000)
    blob.append(b"y" * 5000)
    if read:
        blob.open().close()
        assert blob._pending == []
    owner.let_go()
    assert (blob._pending, blob._data) == ([], None)


def test_a_slice_is_never_changed_by_the_next() -> None:
    blob, first = Blob(Storage()), b"first"
    owner = blob.own("the test")
    blob.fill([first, b"second", b"third"])
    assert first == b"first"
    owner.let_go()


@pytest.mark.parametrize(("size", "in_memory"), [(99, True), (100, True), (101, False)])
async def test_what_is_too_large_for_memory_goes_to_disk(size: int, in_memory: bool) -> None:
    """P7: memory_max_size is the most that stays in memory."""
    storage = Storage(memory_max_size=100)
    blob = Blob(storage)
    owner = blob.own("the test")
    await blob.fill_in_thread(lambda: [b"x"] * size)
    assert blob.in_memory is in_memory
    assert storage.memory.used == (size if in_memory else 0)
    with blob.open() as file:
        assert file.read() == b"x" * size
    owner.let_go()
    assert storage.memory.used == 0


def test_what_finds_no_memory_left_goes_to_disk() -> None:
    """P7: the budget is shared, and given back."""
    storage = Storage(memory_max_size=100, memory_budget=150)
    blobs = [Blob(storage) for _ in range(2)]
    owners = [blob.own("the test") for blob in blobs]
    for blob in blobs:
        blob.fill([b"x" * 60, b"y" * 30])
    assert [blob.in_memory for blob in blobs] == [True, False]
    assert storage.memory.used == 90
    with blobs[1].open() as file:
        assert file.read() == b"x" * 60 + b"y" * 30
    for owner in owners:
        owner.let_go()
    assert storage.memory.used == 0


def test_what_has_gone_to_disk_takes_no_memory_that_comes_free() -> None:
    """P7: it would be counted although nothing is there."""
    storage = Storage(memory_max_size=100, memory_budget=100)
    first, second = Blob(storage), Blob(storage)
    owner, other = first.own("the test"), second.own("the test")
    first.append(b"x" * 90)
    second.append(b"y" * 20)
    owner.let_go()
    second.append(b"z")
    assert (storage.memory.used, second.unwritten) == (0, 21)
    other.let_go()


@pytest.mark.parametrize("ends", ["written", "closed"])
def test_memory_is_taken_until_the_disk_has_the_bytes(ends: str) -> None:
    """P7: many that outgrow it at once would be in memory without being counted."""
    storage = Storage(memory_max_size=100, memory_budget=150)
    blob = Blob(storage)
    owner = blob.own("the test")
    blob.append(b"x" * 100)
    blob.append(b"y")
    batch = blob.take_batch()
    assert storage.memory.used == 100
    if ends == "written":
        blob.write_batch(batch)
        assert storage.memory.used == 0
    owner.let_go()
    assert storage.memory.used == 0


def test_what_is_in_memory_needs_no_write(storage: Storage) -> None:
    blob = Blob(storage)
    owner = blob.own("the test")
    blob.append(b"x" * storage.memory_max_size)
    assert blob.unwritten == 0
    blob.append(b"y")
    assert blob.unwritten == storage.memory_max_size + 1
    blob.write_out()
    assert blob.unwritten == 0
    owner.let_go()


def test_a_slice_in_memory_does_not_keep_its_message() -> None:
    """P7: the budget counts the slice alone."""
    message = bytearray(b"x" * 1000)
    blob = Blob(Storage())
    owner = blob.own("the test")
    blob.append(memoryview(message)[10:20])
    message.clear()  # which raises BufferError while somebody looks at it
    with blob.open() as file:
        assert file.read() == b"x" * 10
    owner.let_go()


def test_a_slice_for_the_disk_is_not_copied(on_disk: Storage) -> None:
    message = bytearray(b"x" * 1000)
    blob = Blob(on_disk)
    owner = blob.own("the test")
    blob.append(memoryview(message)[10:20])
    with pytest.raises(BufferError):
        message.clear()
    blob.write_out()
    message.clear()
    with blob.open() as file:
        assert file.read() == b"x" * 10
    owner.let_go()


def test_filling_keeps_no_more_than_a_batch(on_disk: Storage) -> None:
    """P7: a large copy takes little memory."""
    blob, collected = Blob(on_disk), list[int]()
    owner = blob.own("the test")

    def chunks() -> Iterator[bytes]:
        for _ in range(5):
            collected.append(blob._pending_size)
            yield b"x" * MIB

    blob.fill(chunks())
    assert max(collected) < MIB
    owner.let_go()


# Failures and cancellation


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_device_that_fails_leaves_nothing(
    on_disk: Storage, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """P2, P7: the error is told as it is."""

    def fail(*_: object) -> int:
        raise OSError(code, "of the test")

    monkeypatch.setattr(os, "writev", fail)
    blob = Blob(on_disk)
    owner = blob.own("the test")
    blob.append(b"abc")
    with pytest.raises(OSError, match="of the test"):
        blob.write_out()
    assert blob.owners == ["the test"]
    owner.let_go()


async def test_without_a_descriptor_left_nothing_is_left(
    on_disk: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P2, P7: of a blob that could not even begin."""

    def fail(directory: str) -> PrivateFile:
        raise OSError(errno.EMFILE, "of the test", directory)

    monkeypatch.setattr(PrivateFile, "create", fail)
    blob = Blob(on_disk)
    owner = blob.own("the test")
    with pytest.raises(OSError, match="of the test"):
        await blob.fill_in_thread(lambda: [b"abc"])
    owner.let_go()
