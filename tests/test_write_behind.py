"""Writing goes on while more is collected: bounded, in its place, and ended with the block."""

from __future__ import annotations

import errno
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from starlette_upload_keepalive.files import write_behind
from starlette_upload_keepalive.files.blob import Blob
from starlette_upload_keepalive.files.private_file import PrivateFile
from starlette_upload_keepalive.files.storage import KIB, MIB, Storage
from starlette_upload_keepalive.files.threads import WorkerThreads
from starlette_upload_keepalive.files.write_behind import WriteBehind
from tests.stored import CANCELS, Gate, cancel, count_closings, wait_until_idle

pytestmark = pytest.mark.anyio

LEAST = 512 * KIB
BATCH = MIB


@asynccontextmanager
async def filling(storage: Storage) -> AsyncGenerator[Blob, None]:
    """A blob that is owned for as long as the block lasts."""
    blob = Blob(storage)
    owner = blob.own("the test")
    try:
        yield blob
    finally:
        owner.let_go()


def content(blob: Blob) -> bytes:
    with blob.open() as file:
        return file.read()


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    """Holds each write until it is opened."""
    gate = Gate()
    monkeypatch.setattr(PrivateFile, "write", gate.before(PrivateFile.write))
    return gate


@pytest.mark.parametrize("limit", [1, 8])
async def test_all_is_written_when_it_is_flushed(on_disk: Storage, limit: int) -> None:
    """Whatever the number of threads, and whichever of them comes first."""
    on_disk.threads.limit = limit
    pieces = [bytes([n]) * (n * 1000) for n in range(20)]
    async with filling(on_disk) as blob, WriteBehind(on_disk.threads) as behind:
        for piece in pieces:
            blob.append(piece)
            await behind.write(blob)
        await behind.flush()
        assert content(blob) == b"".join(pieces)


async def test_several_blobs_at_once(on_disk: Storage) -> None:
    async with filling(on_disk) as one, filling(on_disk) as other:
        async with WriteBehind(on_disk.threads) as behind:
            for piece in (b"a" * 1000, b"b" * 10, b"c"):
                for blob in (one, other):
                    blob.append(piece)
                    await behind.write(blob)
            await behind.flush()
        assert content(one) == content(other) == b"a" * 1000 + b"b" * 10 + b"c"


async def test_where_nothing_is_written_nothing_is_started(on_disk: Storage) -> None:
    async with WriteBehind(on_disk.threads) as behind:
        await behind.flush()


async def test_it_is_collected_while_a_batch_is_written(on_disk: Storage, gate: Gate) -> None:
    async with filling(on_disk) as blob, WriteBehind(on_disk.threads) as behind:
        blob.append(b"a" * LEAST)
        await behind.write(blob)  # returns although it is not written
        await gate.entered()
        blob.append(b"b")
        gate.open()
        await behind.write(blob)
        await behind.flush()
        assert content(blob) == b"a" * LEAST + b"b"


async def test_a_little_is_due_while_nothing_is_written_and_more_while_something_is(
    on_disk: Storage, gate: Gate
) -> None:
    """P7: what slow clients send is not kept in memory for long."""
    async with filling(on_disk) as blob, WriteBehind(on_disk.threads) as behind:
        blob.append(b"a" * (LEAST - 1))
        assert not behind.is_due(blob)
        blob.append(b"b")
        assert behind.is_due(blob)
        await behind.write(blob)
        blob.append(b"c" * (BATCH - 1))
        assert not behind.is_due(blob)
        blob.append(b"d")
        assert behind.is_due(blob)
        gate.open()
        await behind.flush()


async def test_it_waits_while_three_batches_are_under_way(on_disk: Storage, gate: Gate) -> None:
    """P7: a slow disk slows the client down, instead of filling the memory."""
    returned = list[int]()

    async def write_five(blob: Blob) -> None:
        async with WriteBehind(on_disk.threads) as behind:
            for piece in (b"a", b"b", b"c", b"d", b"e"):
                blob.append(piece)
                await behind.write(blob)
                returned.append(blob.unwritten)
            await behind.flush()

    async with filling(on_disk) as blob:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(write_five, blob)
            await gate.entered()
            await anyio.wait_all_tasks_blocked()
            assert returned == [0, 0]
            gate.open()
        assert returned == [0] * 5
        assert content(blob) == b"abcde"


async def test_a_slow_client_keeps_no_thread(
    on_disk: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P7: a thread that finds nothing more to write ends, and another comes when there is."""
    monkeypatch.setattr(write_behind, "_LINGER", 0.0)
    async with filling(on_disk) as blob, WriteBehind(on_disk.threads) as behind:
        for piece in (b"a", b"b"):
            blob.append(piece)
            await behind.write(blob)
            while behind._scope is not None:
                await checkpoint()
        assert content(blob) == b"ab"


async def test_a_batch_that_comes_as_its_thread_ends_is_not_forgotten(
    on_disk: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event loop has not heard yet that the thread has ended, and starts no other."""
    monkeypatch.setattr(write_behind, "_LINGER", 0.0)
    run = WorkerThreads.run
    ended, goes_on = anyio.Event(), anyio.Event()

    async def run_and_dawdle(*args: Any, **kwargs: Any) -> Any:
        value: Any = await run(*args, **kwargs)
        ended.set()
        await goes_on.wait()
        return value

    monkeypatch.setattr(WorkerThreads, "run", run_and_dawdle)
    async with filling(on_disk) as blob, WriteBehind(on_disk.threads) as behind:
        blob.append(b"a")
        await behind.write(blob)
        await ended.wait()
        blob.append(b"b")
        await behind.write(blob)
        goes_on.set()
        await behind.flush()
        assert content(blob) == b"ab"


async def test_few_bytes_are_waited_for(on_disk: Storage) -> None:
    """They are not worth a task group; and more may come than was said."""
    async with filling(on_disk) as blob:
        async with WriteBehind(on_disk.threads, size=LEAST) as behind:
            for piece in (b"a" * LEAST, b"b"):
                blob.append(piece)
                await behind.write(blob)
            await behind.flush()
            assert behind._tasks is None
        assert content(blob) == b"a" * LEAST + b"b"


@pytest.mark.parametrize("size", [None, 10, 10 * MIB])
async def test_what_sends_may_hold_a_cancel_scope_open(on_disk: Storage, size: int | None) -> None:
    """As a time limit for the whole body does. Scopes must be left in the order of entering."""

    async def stream() -> AsyncGenerator[bytes, None]:
        with anyio.fail_after(60):
            for piece in (b"a", b"b", b"c"):
                yield piece

    async with filling(on_disk) as blob:
        async with WriteBehind(on_disk.threads, size=size) as behind:
            async for piece in stream():
                blob.append(piece)
                await behind.write(blob)
            await behind.flush()
        assert content(blob) == b"abc"


async def test_others_get_the_thread_in_between(on_disk: Storage, gate: Gate) -> None:
    """P7: one upload after the other would have to end, where the disk is slower than they are."""
    on_disk.threads.limit = 1
    order: list[str] = []

    async def write_many(name: str) -> None:
        async with filling(on_disk) as blob, WriteBehind(on_disk.threads) as behind:
            for _ in range(6):
                blob.append(b"x")
                await behind.write(blob)
                order.append(name)
            await behind.flush()

    async def look() -> None:
        await on_disk.threads.run(lambda: order.append("a look"))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(write_many, "an upload")
        await gate.entered()
        tasks.start_soon(look)
        await anyio.wait_all_tasks_blocked()
        gate.open()
    assert order.index("a look") <= 4
    assert order.count("an upload") == 6


async def test_without_a_descriptor_for_its_bell_it_waits_all_the_same(
    on_disk: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P7: they are few where many uploads wait for a slow disk."""

    def fail(*_: object) -> None:
        raise OSError(errno.EMFILE, "of the test")

    monkeypatch.setattr(write_behind, "Doorbell", fail)
    async with filling(on_disk) as blob, WriteBehind(on_disk.threads) as behind:
        for number in range(50):
            blob.append(bytes([number]))
            await behind.write(blob)
        await behind.flush()
        assert content(blob) == bytes(range(50))


# Failures and cancellation


@pytest.mark.parametrize("batches", [1, 2, 3, 4])
async def test_a_device_that_fails_is_told_of(
    on_disk: Storage, monkeypatch: pytest.MonkeyPatch, batches: int
) -> None:
    """P2: at the next write, or when all is flushed; and nothing is left behind."""

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "of the test")

    monkeypatch.setattr(PrivateFile, "write", fail)

    async def write(blob: Blob) -> None:
        async with WriteBehind(on_disk.threads) as behind:
            for _ in range(batches):
                blob.append(b"abc")
                await behind.write(blob)
            await behind.flush()

    async with filling(on_disk) as blob:
        with pytest.raises(OSError, match="of the test"):
            await write(blob)
        assert blob.owners == ["the test"]


async def test_an_error_of_the_block_is_raised_as_it_is(on_disk: Storage) -> None:
    """And not in an exception group."""

    async def write_and_fail(blob: Blob) -> None:
        async with WriteBehind(on_disk.threads) as behind:
            blob.append(b"abc")
            await behind.write(blob)
            raise ValueError("of the test")

    async with filling(on_disk) as blob:
        with pytest.raises(ValueError, match="of the test"):
            await write_and_fail(blob)
        assert blob.owners == ["the test"]


async def test_what_is_queued_when_the_block_is_cancelled_is_not_written(
    on_disk: Storage, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P2: but let go of."""
    written: list[bytes] = []
    write = PrivateFile.write

    def recording(file: PrivateFile, buffers: Sequence[bytes]) -> None:
        written.append(b"".join(buffers))
        write(file, buffers)

    async def write_two(blob: Blob) -> None:
        async with WriteBehind(on_disk.threads) as behind:
            for piece in (b"abc", b"def"):
                blob.append(piece)
                await behind.write(blob)
            await anyio.sleep_forever()

    monkeypatch.setattr(PrivateFile, "write", recording)
    async with filling(on_disk) as blob:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(write_two, blob)
            await gate.entered()
            tasks.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                await anyio.wait_all_tasks_blocked()
            gate.open()
        assert written == [b"abc"]
        assert blob.owners == ["the test"]


@pytest.mark.parametrize(("anyio_backend", "how"), CANCELS)
async def test_a_cancelled_write_owns_the_blob_until_it_is_done(
    on_disk: Storage, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """P2: no descriptor is closed under a thread that writes to it."""
    gate, closings = Gate(), count_closings(monkeypatch)
    closed_meanwhile: list[bool] = []
    write = PrivateFile.write

    def gated_write(file: PrivateFile, buffers: Sequence[bytes]) -> None:
        gate.enter()
        closed_meanwhile.append(bool(closings))
        write(file, buffers)

    monkeypatch.setattr(PrivateFile, "write", gated_write)
    blob = Blob(on_disk)
    owner = blob.own("the test")
    blob.append(b"abc")

    async def write_all() -> None:
        try:
            async with WriteBehind(on_disk.threads) as behind:
                await behind.write(blob)
                await behind.flush()
        finally:
            owner.let_go()

    await cancel(how, gate, write_all)
    wait_until_idle(on_disk)
    assert closed_meanwhile == [False]
    assert len(closings) == 1
    assert blob.closed


async def test_a_write_cancelled_before_it_began(on_disk: Storage) -> None:
    """P2: the blob is owned by nobody who never came."""
    async with filling(on_disk) as blob:
        blob.append(b"abc")
        with anyio.CancelScope() as scope:
            scope.cancel()
            async with WriteBehind(on_disk.threads) as behind:
                await behind.write(blob)
                await behind.flush()
        wait_until_idle(on_disk)
        assert blob.owners == ["the test"]
