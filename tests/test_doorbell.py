"""A thread wakes a task, and does not wait for it."""

from __future__ import annotations

import socket
import threading

import anyio
import pytest

from starlette_upload_keepalive.files.doorbell import Doorbell

pytestmark = pytest.mark.anyio


async def test_a_thread_wakes_who_waits() -> None:
    doorbell, woken = Doorbell(), anyio.Event()

    async def wait() -> None:
        await doorbell.wait()
        woken.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        assert not woken.is_set()
        thread = threading.Thread(target=doorbell.ring)
        thread.start()
        await woken.wait()
        thread.join()
    doorbell.close()


async def test_who_waits_later_is_woken_once_for_all_rings() -> None:
    doorbell = Doorbell()
    doorbell.ring()
    doorbell.ring()
    await doorbell.wait()
    with pytest.raises(BlockingIOError):
        doorbell._bell.recv(1)
    doorbell.close()


async def test_a_ring_never_waits() -> None:
    """However often it rings before anybody listens."""
    doorbell = Doorbell()
    for _ in range(10_000):
        doorbell.ring()
    await doorbell.wait()
    doorbell.close()


def test_a_ring_after_the_end_reaches_nobody_elses_socket() -> None:
    """P2: a thread that a native cancel left behind may ring yet."""
    doorbell = Doorbell()
    doorbell.close()
    doorbell.ring()
    doorbell.close()


def test_no_end_is_closed_while_a_thread_rings(monkeypatch: pytest.MonkeyPatch) -> None:
    """P2: a descriptor that is closed may be another's at once."""
    held = list[bool]()
    doorbell = Doorbell()

    class Watched:
        """An end that notes whether the lock is held as it is used."""

        def __init__(self, end: socket.socket) -> None:
            self._end = end

        def send(self, data: bytes) -> int:
            held.append(doorbell._lock.locked())
            return self._end.send(data)

        def close(self) -> None:
            held.append(doorbell._lock.locked())
            self._end.close()

    monkeypatch.setattr(doorbell, "_button", Watched(doorbell._button))
    monkeypatch.setattr(doorbell, "_bell", Watched(doorbell._bell))
    doorbell.ring()
    doorbell.close()
    assert held == [True, True, True]
