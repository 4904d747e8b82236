"""Writing shares its thread, its descriptors and its task with others."""

from __future__ import annotations

import errno
from collections.abc import AsyncGenerator

import anyio
import pytest
from anyio.lowlevel import checkpoint

from starlette_upload_keepalive.files import write_behind
from starlette_upload_keepalive.files.doorbell import Doorbell
from starlette_upload_keepalive.files.storage import Storage
from starlette_upload_keepalive.files.write_behind import WriteBehind
from starlette_upload_keepalive.quantities import KIB, MIB
from tests.stored import PATIENCE, Gate, content, filling, gate_of_writes

pytestmark = pytest.mark.anyio

gate = pytest.fixture(gate_of_writes)

LEAST = 512 * KIB
FEW = MIB + 64 * KIB


async def test_what_sends_may_hold_a_cancel_scope_open(on_disk: Storage) -> None:
    """As a time limit for the whole body does. Scopes must be left in the order of entering."""

    async def stream() -> AsyncGenerator[bytes, None]:
        with anyio.fail_after(60):
            for piece in (b"a", b"b", b"c"):
                yield piece

    async with filling(on_disk) as blob:
        async with WriteBehind(on_disk.threads) as behind:
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


async def test_others_get_the_thread_while_nothing_more_comes(
    on_disk: Storage, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P7: it does not linger for the next batch of a slow client while they wait."""
    monkeypatch.setattr(write_behind, "_LINGER", PATIENCE)
    on_disk.threads.limit = 1
    began = anyio.current_time()
    async with filling(on_disk) as blob, WriteBehind(on_disk.threads) as behind:
        blob.append(b"a")
        await behind.write(blob)
        await gate.entered()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(on_disk.threads.run, int)
            await anyio.wait_all_tasks_blocked()
            gate.open()
        assert anyio.current_time() - began < PATIENCE
        blob.append(b"b")
        await behind.write(blob)
        await behind.flush()
        assert content(blob) == b"ab"


async def test_those_that_wait_for_a_thread_collect_little(on_disk: Storage, gate: Gate) -> None:
    """P7: hundreds of them would take as many times what one does that has its thread."""
    on_disk.threads.limit = 1
    handed_over = [0] * 3

    async def write_many(number: int) -> None:
        async with filling(on_disk) as blob, WriteBehind(on_disk.threads) as behind:
            for _ in range(6):
                blob.append(b"x")
                handed_over[number] += 1
                await behind.write(blob)
                for _ in range(5):  # as long as more is received
                    await checkpoint()
            await behind.flush()

    async with anyio.create_task_group() as tasks:
        for number in range(3):
            tasks.start_soon(write_many, number)
            await anyio.wait_all_tasks_blocked()
        assert handed_over == [3, 2, 1]  # the second has yet to ask for a thread
        gate.open()
    assert handed_over == [6, 6, 6]


async def test_without_a_descriptor_for_its_bell_it_waits_all_the_same(
    on_disk: Storage, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P7: they are few where many uploads wait for a slow disk."""

    def fail(*_: object) -> None:
        raise OSError(errno.EMFILE, "of the test")

    async def write_many() -> None:
        async with filling(on_disk) as blob, WriteBehind(on_disk.threads) as behind:
            for number in range(50):
                blob.append(bytes([number]))
                await behind.write(blob)
            await behind.flush()
            assert content(blob) == bytes(range(50))

    monkeypatch.setattr(write_behind, "Doorbell", fail)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(write_many)
        await gate.entered()
        await anyio.wait_all_tasks_blocked()  # until it waits for the thread
        gate.open()


async def test_many_uploads_that_wait_for_a_slow_disk_share_few_descriptors(
    on_disk: Storage, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P7: else the process runs out of them, and refuses uploads."""
    on_disk.threads.limit = 2
    bells: list[Doorbell] = []

    def made() -> Doorbell:
        bells.append(Doorbell())
        return bells[-1]

    async def write_many() -> None:
        async with filling(on_disk) as blob, WriteBehind(on_disk.threads) as behind:
            for _ in range(10):
                blob.append(b"x")
                await behind.write(blob)
            await behind.flush()

    monkeypatch.setattr(write_behind, "Doorbell", made)
    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(write_many)
        await gate.entered()
        await anyio.wait_all_tasks_blocked()
        gate.open()
    assert len(bells) < 10  # those of the last, when few are left
