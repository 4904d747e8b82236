"""Waiting until something has changed. For one event loop."""

from __future__ import annotations

import anyio


class Changes:
    """Tells those who wait that something is worth a look."""

    def __init__(self) -> None:
        self._changed: anyio.Event | None = None

    @property
    def awaited(self) -> bool:
        """Whether somebody waits. From any thread."""
        return self._changed is not None

    def notice(self) -> None:
        """Let those who wait look again."""
        if self._changed is not None:
            self._changed.set()
            self._changed = None

    async def wait(self) -> None:
        """Wait until something is worth a look.

        Cancellation: nothing is lost.
        """
        if self._changed is None:
            self._changed = anyio.Event()
        await self._changed.wait()
