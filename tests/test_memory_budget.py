"""P7: what is in memory is counted, written or not, and however many uploads come at once."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

import anyio
import pytest
from anyio.lowlevel import checkpoint

from starlette_upload_keepalive import Upload
from starlette_upload_keepalive.files.blob import Blob
from starlette_upload_keepalive.files.budget import Budget
from starlette_upload_keepalive.files.private_file import PrivateFile
from starlette_upload_keepalive.files.storage import Storage
from starlette_upload_keepalive.files.write_behind import WriteBehind
from starlette_upload_keepalive.quantities import KIB, MIB
from tests.stored import (
    CANCELS,
    Gate,
    cancel,
    content,
    filling,
    gate_of_writes,
    wait_until_idle,
)

pytestmark = pytest.mark.anyio

gate = pytest.fixture(gate_of_writes)

MESSAGE = 64 * KIB
LEAST = 128 * KIB  # what is worth a write where memory is short
STEP = 256 * KIB


def limit(storage: Storage, size: int) -> None:
    storage.memory = Budget(size)


async def test_what_is_collected_is_counted_until_it_is_written(on_disk: Storage) -> None:
    """In steps, of which none is taken in vain."""
    used = on_disk.memory
    async with filling(on_disk) as blob:
        blob.append(bytes(MESSAGE))
        assert used.used == STEP
        blob.append(bytes(STEP - MESSAGE))
        assert used.used == STEP
        blob.append(bytes(STEP + 1))
        assert used.used == 2 * STEP + 1
        batch = blob.take_batch()
        blob.append(b"x")
        assert used.used == 3 * STEP + 1
        blob.write_batch(batch)
        assert used.used == STEP
        blob.write_out()
        assert used.used == 0


async def test_what_has_outgrown_memory_is_counted_once(storage: Storage) -> None:
    most = storage.memory_max_size
    async with filling(storage) as blob:
        blob.append(bytes(most))
        blob.append(bytes(10))
        assert storage.memory.used == most + STEP


@pytest.mark.parametrize(("left", "lacks"), [(STEP, False), (STEP - 1, True), (0, True)])
async def test_where_memory_is_short_a_little_is_worth_a_write(
    on_disk: Storage, left: int, lacks: bool
) -> None:
    limit(on_disk, left)
    async with filling(on_disk) as blob:
        blob.append(bytes(LEAST - 1))
        assert blob.lacks_memory is lacks
        assert not blob.is_due(MIB)
        blob.append(b"x")
        assert blob.is_due(MIB) is lacks
        assert on_disk.memory.used == (0 if lacks else STEP)


async def test_less_than_a_little_is_due_where_that_is_enough(on_disk: Storage) -> None:
    limit(on_disk, 0)
    async with filling(on_disk) as blob:
        blob.append(b"x")
        assert blob.is_due(1)


@pytest.mark.parametrize(("budget", "most"), [(64 * MIB, MIB), (0, LEAST)])
async def test_a_copy_takes_no_more_than_there_is(on_disk: Storage, budget: int, most: int) -> None:
    limit(on_disk, budget)
    async with filling(on_disk) as blob:
        collected: list[int] = []

        def chunks() -> Iterator[bytes]:
            for _ in range(40):
                collected.append(blob.unwritten)
                yield bytes(MESSAGE)

        blob.fill(chunks())
        assert max(collected) == most - MESSAGE


async def test_where_memory_is_short_a_write_is_waited_for(on_disk: Storage, gate: Gate) -> None:
    """Also where what came before is not, for which there was memory; the third comes alone."""
    limit(on_disk, STEP)
    returned = list[int]()

    async def write_three(blob: Blob) -> None:
        async with WriteBehind(on_disk.threads) as behind:
            for size in (STEP, 1, STEP + 1):
                blob.append(bytes(size))
                await behind.write(blob)
                returned.append(behind._under_way)
            await behind.flush()

    async with filling(on_disk) as blob, anyio.create_task_group() as tasks:
        tasks.start_soon(write_three, blob)
        await gate.entered()
        await anyio.wait_all_tasks_blocked()
        assert returned == [1]
        gate.open()
    assert returned == [1, 0, 0]
    assert on_disk.memory.used == 0


async def test_many_at_once_take_the_budget_and_a_little_each(on_disk: Storage, gate: Gate) -> None:
    """However slow the disk; and each is stored, for none waits for memory that others have."""
    limit(on_disk, 2 * MIB)
    on_disk.threads.limit = 2
    count, size = 20, 3 * MIB
    sent = 0

    async def stream() -> AsyncGenerator[bytes, None]:
        nonlocal sent
        for _ in range(size // MESSAGE):
            sent += MESSAGE
            yield bytes(MESSAGE)

    async def store() -> None:
        async with await Upload.from_stream(stream(), storage=on_disk) as upload:
            assert upload.size == size

    async with anyio.create_task_group() as tasks:
        for _ in range(count):
            tasks.start_soon(store)
        await gate.entered()
        await anyio.wait_all_tasks_blocked()
        # Nothing is written yet: what was sent is in memory.
        assert sent <= on_disk.memory.limit + count * LEAST
        assert on_disk.memory.used <= on_disk.memory.limit
        gate.open()
    assert (sent, on_disk.memory.used) == (count * size, 0)


async def test_memory_that_comes_free_is_taken_again(on_disk: Storage) -> None:
    """P12: a moment of need makes no upload slow for the rest of its bytes."""
    limit(on_disk, STEP)
    assert on_disk.memory.take(1)
    async with filling(on_disk) as blob:
        blob.append(bytes(LEAST))
        assert blob.is_due(MIB)
        blob.write_out()
        on_disk.memory.give_back(1)
        blob.append(bytes(LEAST))
        assert not blob.is_due(MIB)


async def test_nothing_stays_counted_of_what_could_not_be_written(
    on_disk: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P2: the batch that failed, the one behind it, and what was collected after them."""
    gate = Gate()

    def fail(*_: object) -> None:
        gate.enter()
        raise OSError("of the test")

    monkeypatch.setattr(PrivateFile, "write", fail)

    async def write_two() -> None:
        async with filling(on_disk) as blob, WriteBehind(on_disk.threads) as behind:
            for _ in range(2):
                blob.append(bytes(STEP))
                await behind.write(blob)
            blob.append(bytes(STEP))
            assert on_disk.memory.used == 3 * STEP
            gate.open()
            await behind.flush()

    with pytest.raises(OSError, match="of the test"):
        await write_two()
    assert on_disk.memory.used == 0


@pytest.mark.parametrize("budget", [64 * MIB, STEP, 0])
@pytest.mark.parametrize(("anyio_backend", "how"), CANCELS)
async def test_nothing_stays_counted_of_what_is_cancelled(
    on_disk: Storage, gate: Gate, how: str, budget: int
) -> None:
    """P2: nor before the thread is done with it."""
    limit(on_disk, budget)

    async def write_on() -> None:
        async with filling(on_disk) as blob, WriteBehind(on_disk.threads) as behind:
            while True:
                blob.append(bytes(STEP))
                await behind.write(blob)

    await cancel(how, gate, write_on)
    while on_disk.memory.used:
        await checkpoint()
    wait_until_idle(on_disk)


async def test_bytes_that_are_given_are_counted_left_or_not(on_disk: Storage) -> None:
    """They are in memory already; others find less."""
    limit(on_disk, 10)
    data = os.urandom(100)
    with Upload.from_bytes(data, storage=on_disk) as upload:
        assert (on_disk.memory.used, on_disk.open_blobs) == (100, 1)
        assert not on_disk.memory.take(1)
        assert upload.file.read() == data
    assert on_disk.memory.used == 0


async def test_a_file_that_finds_no_memory_left_is_stored(tmp_path: Path) -> None:
    """Without any budget all files are on disk, at once and whole."""
    storage = Storage(memory_budget=0, directory=tmp_path)
    chunks = [os.urandom(size) for size in (1, MESSAGE, LEAST, MIB, 7)]

    async def stream() -> AsyncGenerator[bytes, None]:
        for chunk in chunks:
            yield chunk

    async with await Upload.from_stream(stream(), storage=storage) as upload:
        blob = upload._view.blob
        assert (blob.in_memory, content(blob)) == (False, b"".join(chunks))
    storage.closer.drain()
