"""Writing goes on while more is collected: bounded, in its place, and ended with the block."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from starlette_upload_keepalive.files import write_behind
from starlette_upload_keepalive.files.blob import Blob
from starlette_upload_keepalive.files.doorbell import Doorbell
from starlette_upload_keepalive.files.private_file import PrivateFile
from starlette_upload_keepalive.files.storage import Storage
from starlette_upload_keepalive.files.threads import WorkerThreads
from starlette_upload_keepalive.files.write_behind import WriteBehind
from starlette_upload_keepalive.quantities import KIB, MIB
from tests.stored import PATIENCE, Gate, content, filling, gate_of_writes

pytestmark = pytest.mark.anyio

gate = pytest.fixture(gate_of_writes)

LEAST = 512 * KIB
BATCH = MIB


class Steps:
    """Holds each write until it is let through."""

    def __init__(self) -> None:
        self._places = threading.Semaphore(0)

    def let_through(self, writes: int) -> None:
        self._places.release(writes)

    def enter(self) -> None:
        assert self._places.acquire(timeout=PATIENCE)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    """Lets writes through one by one; they write nothing."""
    steps = Steps()

    def write(_file: PrivateFile, _buffers: Sequence[bytes]) -> None:
        steps.enter()

    monkeypatch.setattr(PrivateFile, "write", write)
    return steps


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the thread wait for the next batch for as long as a test may take."""
    monkeypatch.setattr(write_behind, "_LINGER", PATIENCE)


@pytest.fixture
def rings(monkeypatch: pytest.MonkeyPatch) -> list[Doorbell]:
    """Get the doorbell each time that it is rung."""
    rings: list[Doorbell] = []
    ring = Doorbell.ring

    def noted(doorbell: Doorbell) -> None:
        rings.append(doorbell)
        ring(doorbell)

    monkeypatch.setattr(Doorbell, "ring", noted)
    return rings


async def until_written(behind: WriteBehind, under_way: int = 0) -> None:
    while behind._under_way > under_way:
        await checkpoint()


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
        assert behind._scope is None


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


@pytest.mark.usefixtures("patient")
async def test_a_little_is_due_once_all_is_written_although_the_thread_stays(
    on_disk: Storage,
) -> None:
    async with filling(on_disk) as blob, WriteBehind(on_disk.threads) as behind:
        await behind.write(blob)
        await until_written(behind)
        blob.append(b"a" * LEAST)
        assert behind.is_due(blob)
        await behind.write(blob)
        await behind.flush()


@pytest.mark.usefixtures("patient")
async def test_a_thread_keeps_nothing_of_what_it_has_written(on_disk: Storage) -> None:
    """P7: while it waits for the next batch, the last one is freed."""

    class Piece(bytearray):
        """Bytes that can be watched."""

    async with filling(on_disk) as blob, WriteBehind(on_disk.threads) as behind:
        piece = Piece(b"abc")
        blob._pending.append(piece)
        gone = weakref.ref(piece)
        del piece
        await behind.write(blob)
        await until_written(behind)
        assert gone() is None
        await behind.flush()


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("fails", [False, True])
async def test_the_end_does_not_wait_for_a_batch_that_never_comes(
    on_disk: Storage, fails: bool
) -> None:
    """P5: nor does the answer, therefore."""
    began = anyio.current_time()
    async with filling(on_disk) as blob:
        with suppress(ValueError):
            async with WriteBehind(on_disk.threads) as behind:
                await behind.write(blob)
                await until_written(behind)
                if fails:
                    raise ValueError
                await behind.flush()
    assert anyio.current_time() - began < PATIENCE


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


@pytest.mark.usefixtures("patient")
async def test_it_waits_for_one_of_the_three_only(
    on_disk: Storage, steps: Steps, rings: list[Doorbell]
) -> None:
    """And the thread tells of a batch once: nobody waits any more when it has the next."""
    async with filling(on_disk) as blob, WriteBehind(on_disk.threads) as behind:
        behind._doorbell = Doorbell()
        for _ in range(2):
            await behind.write(blob)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(behind.write, blob)
            await anyio.wait_all_tasks_blocked()
            assert rings == []
            steps.let_through(1)
        steps.let_through(2)
        await until_written(behind)
        assert len(rings) == 1
        await behind.flush()


@pytest.mark.usefixtures("patient")
async def test_it_goes_on_waiting_if_it_was_woken_for_nothing(
    on_disk: Storage, steps: Steps
) -> None:
    """P7: by a thread that rang late, for the batch before."""
    async with filling(on_disk) as blob, WriteBehind(on_disk.threads) as behind:
        behind._doorbell = Doorbell()
        behind._doorbell.ring()
        for _ in range(2):
            await behind.write(blob)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(behind.write, blob)
            await anyio.wait_all_tasks_blocked()
            assert behind._waits
            steps.let_through(3)
        await behind.flush()


@pytest.mark.usefixtures("patient")
async def test_it_does_not_wait_for_a_batch_that_was_written_before_it_could(
    on_disk: Storage, steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread looks whether anybody waits after each batch, and not again."""
    async with filling(on_disk) as blob, WriteBehind(on_disk.threads) as behind:

        def made_as_a_batch_is_written(behind: WriteBehind) -> Doorbell | anyio.Event:
            steps.let_through(1)
            while behind._under_way > 2:
                pass
            return signal(behind)

        signal = WriteBehind._signal
        monkeypatch.setattr(WriteBehind, "_signal", made_as_a_batch_is_written)
        for _ in range(2):
            await behind.write(blob)
        await anyio.wait_all_tasks_blocked()  # the thread is at the first of them
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(behind.write, blob)
            await anyio.wait_all_tasks_blocked()
            assert (behind._under_way, behind._waits) == (2, False)
            steps.let_through(2)
        await behind.flush()


async def test_a_batch_is_counted_before_it_is_told_of(
    on_disk: Storage, steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else who is woken finds nothing changed, and waits for one batch too many."""
    under_way = list[int]()
    ring = Doorbell.ring

    async with filling(on_disk) as blob, WriteBehind(on_disk.threads) as behind:
        behind._doorbell = Doorbell()

        def noted(doorbell: Doorbell) -> None:
            under_way.append(behind._under_way)
            ring(doorbell)

        monkeypatch.setattr(Doorbell, "ring", noted)
        for _ in range(2):
            await behind.write(blob)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(behind.write, blob)
            await anyio.wait_all_tasks_blocked()
            steps.let_through(3)
        await behind.flush()
    assert under_way[0] == 2


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
