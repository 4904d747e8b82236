"""What ends writing early, a failure or a cancel, leaves nothing behind."""

from __future__ import annotations

import asyncio
import errno
import weakref
from collections.abc import Sequence

import anyio
import pytest
from anyio.lowlevel import checkpoint

from starlette_upload_keepalive.files import write_behind
from starlette_upload_keepalive.files.blob import Blob
from starlette_upload_keepalive.files.private_file import PrivateFile
from starlette_upload_keepalive.files.storage import Storage
from starlette_upload_keepalive.files.write_behind import WriteBehind
from starlette_upload_keepalive.files.write_through import WriteThrough
from tests.stored import CANCELS, Gate, cancel, count_closings, filling, wait_until_idle

pytestmark = pytest.mark.anyio

OUT_OF_SPACE = OSError(errno.ENOSPC, "of the test")


@pytest.mark.parametrize("error", [OUT_OF_SPACE, MemoryError("of the test")])
@pytest.mark.parametrize("batches", [1, 2, 3, 4])
async def test_a_device_that_fails_is_told_of(
    on_disk: Storage, monkeypatch: pytest.MonkeyPatch, batches: int, error: Exception
) -> None:
    """P2: at the next write, or when all is flushed; and nothing is left behind."""

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(PrivateFile, "write", fail)

    async def write(blob: Blob) -> None:
        async with WriteBehind(on_disk.threads) as behind:
            for _ in range(batches):
                blob.append(b"abc")
                await behind.write(blob)
            await behind.flush()

    async with filling(on_disk) as blob:
        with pytest.raises(type(error), match="of the test"):
            await write(blob)
        assert blob.owners == ["the test"]


async def test_after_a_failure_no_more_is_collected(
    on_disk: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P7: the next write tells of it, and not only the end of a long body."""

    def fail(*_: object) -> None:
        raise OUT_OF_SPACE

    async def write_twice(blob: Blob) -> None:
        async with WriteBehind(on_disk.threads) as behind:
            await behind.write(blob)
            while behind._scope is not None:
                await checkpoint()
            await behind.write(blob)

    monkeypatch.setattr(PrivateFile, "write", fail)
    async with filling(on_disk) as blob:
        with pytest.raises(OSError, match="of the test"):
            await write_twice(blob)


async def test_what_is_queued_behind_a_failure_is_let_go_of(
    on_disk: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P2: also where the block ends without asking what became of it."""
    gate = Gate()

    def fail(*_: object) -> None:
        gate.enter()
        raise OUT_OF_SPACE

    monkeypatch.setattr(PrivateFile, "write", fail)
    async with filling(on_disk) as blob:
        async with WriteBehind(on_disk.threads) as behind:
            for _ in range(2):
                await behind.write(blob)
            gate.open()
        assert blob.owners == ["the test"]


@pytest.mark.parametrize("at_once", [False, True])
async def test_a_failure_keeps_no_bytes(
    on_disk: Storage, monkeypatch: pytest.MonkeyPatch, at_once: bool
) -> None:
    """P2: whoever keeps the error, such as a circle with what it came through."""

    class Piece(bytearray):
        """Bytes that can be watched."""

    def fail(_: PrivateFile, buffers: Sequence[bytes]) -> None:
        _batch = buffers[:]  # as what really writes has some of its own
        raise OUT_OF_SPACE

    async def write(blob: Blob) -> None:
        if at_once:
            await WriteThrough(on_disk.threads).write(blob)
            return
        async with WriteBehind(on_disk.threads) as behind:
            await behind.write(blob)
            await behind.flush()

    monkeypatch.setattr(PrivateFile, "write", fail)
    async with filling(on_disk) as blob:
        piece = Piece(b"abc")
        blob._pending.append(piece)
        gone = weakref.ref(piece)
        del piece
        with pytest.raises(OSError, match="of the test") as failed:
            await write(blob)
        assert gone() is None
        assert failed.value is OUT_OF_SPACE


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


@pytest.mark.parametrize("pieces", [(b"abc", b"def"), (b"abc", b"def", b"ghi")])
async def test_what_is_queued_when_the_block_is_cancelled_is_not_written(
    on_disk: Storage, monkeypatch: pytest.MonkeyPatch, pieces: Sequence[bytes]
) -> None:
    """P2: but let go of. With three it is cancelled while it waits to write more."""
    gate = Gate()
    written: list[bytes] = []
    write = gate.before(PrivateFile.write)

    def recording(file: PrivateFile, buffers: Sequence[bytes]) -> None:
        written.append(b"".join(buffers))
        write(file, buffers)

    ended = anyio.Event()

    async def write_all(blob: Blob) -> None:
        try:
            async with WriteBehind(on_disk.threads) as behind:
                for piece in pieces:
                    blob.append(piece)
                    await behind.write(blob)
                await anyio.sleep_forever()
        finally:
            ended.set()

    monkeypatch.setattr(PrivateFile, "write", recording)
    async with filling(on_disk) as blob:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(write_all, blob)
            await gate.entered()
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                for _ in range(10):  # anyio 4.1 wakes who is cancelled again and again
                    await checkpoint()
            assert not ended.is_set()  # before nothing is being written any more
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


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_native_cancel_while_no_thread_is_at_work(
    on_disk: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_behind, "_LINGER", 0.0)
    idle = anyio.Event()

    async def write_and_wait(blob: Blob) -> None:
        async with WriteBehind(on_disk.threads) as behind:
            await behind.write(blob)
            while behind._scope is not None:
                await checkpoint()
            idle.set()
            await anyio.sleep_forever()

    async with filling(on_disk) as blob:
        task = asyncio.ensure_future(write_and_wait(blob))
        await idle.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("ending", ["a cancel scope", "an error", "the block's own end"])
async def test_a_native_cancel_of_what_ends_already_waits_for_no_disk(
    on_disk: Storage, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    """A server that has to end would wait for a disk that hangs."""
    gate = Gate()

    def hang(*_: object) -> None:
        gate.enter()

    monkeypatch.setattr(PrivateFile, "write", hang)
    scope = anyio.CancelScope()

    async def write_and_end(blob: Blob) -> None:
        with scope:
            async with WriteBehind(on_disk.threads) as behind:
                await behind.write(blob)
                await gate.entered()
                if ending == "a cancel scope":
                    scope.cancel()
                    await checkpoint()
                if ending == "an error":
                    raise ValueError("of the test")

    async with filling(on_disk) as blob:
        task = asyncio.ensure_future(write_and_end(blob))
        await gate.entered()
        await anyio.wait_all_tasks_blocked()
        assert not task.done()
        task.cancel()
        await anyio.wait_all_tasks_blocked()
        ended = task.done()
        gate.open()
        await asyncio.wait([task])
        wait_until_idle(on_disk)
        assert ended
        assert blob.owners == ["the test"]
