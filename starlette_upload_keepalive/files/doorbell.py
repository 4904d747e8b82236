"""Wakes a task from a thread that does not wait until the event loop has time."""

from __future__ import annotations

import socket
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress

import anyio

_wait_readable: Callable[[socket.socket], Awaitable[None]] = getattr(
    anyio,
    "wait_readable" if hasattr(anyio, "wait_readable") else "wait_socket_readable",  # < 4.7
)


class Doorbell:
    """Wakes one task, as often as it is rung, from any thread.

    anyio's own call into the event loop returns only when that has made it. A
    thread that has more to do would stand still for as long, and then for the
    interpreter's lock: the event loop has that by now.

    Raises:
        OSError: No descriptors are left; it takes two.
    """

    def __init__(self) -> None:
        self._button, self._bell = socket.socketpair()
        for end in (self._button, self._bell):
            end.setblocking(False)
        self._lock = threading.Lock()  # a descriptor that was closed may be another's
        self._closed = False

    async def wait(self) -> None:
        """Wait until it rings; at once if it has since the last time.

        Cancellation: it may be waited for again.
        """
        await _wait_readable(self._bell)
        self._bell.recv(1024)

    def ring(self) -> None:
        """Wake who waits, or will. Once it is closed this does nothing."""
        # If it is full, it rings.
        with self._lock, suppress(BlockingIOError):
            if not self._closed:
                self._button.send(b"!")

    def close(self) -> None:
        """Close it. Again does nothing."""
        with self._lock:
            self._closed = True
            self._button.close()
            self._bell.close()
