"""Time that passes only when a test says so, on both event loops."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

import anyio
import pytest
import trio
import trio.testing


class Clock(Protocol):
    """Tells an event loop what time it is."""

    @property
    def backend(self) -> tuple[str, dict[str, Any]]:
        """What anyio is told, to run an event loop with it."""
        ...

    async def settle(self) -> None:
        """Wait until all tasks wait, but for threads."""

    async def advance(self, seconds: float) -> None:
        """Let time pass, and all happen that is due then."""


class TrioClock:
    """Trio's own, with which it is tested itself."""

    def __init__(self) -> None:
        self._clock = trio.testing.MockClock()

    @property
    def backend(self) -> tuple[str, dict[str, Any]]:
        return "trio", {"clock": self._clock}

    async def settle(self) -> None:
        await trio.testing.wait_all_tasks_blocked()

    async def advance(self, seconds: float) -> None:
        await self.settle()
        self._clock.jump(seconds)
        await self.settle()


class AsyncioClock:
    """asyncio has none, but its loops may be asked for the time by overriding one method."""

    def __init__(self) -> None:
        self._now = 1000.0

    @property
    def backend(self) -> tuple[str, dict[str, Any]]:
        return "asyncio", {"loop_factory": self._make_loop}

    async def settle(self) -> None:
        loop: Any = asyncio.get_running_loop()
        await asyncio.sleep(0)  # what is due becomes ready
        await asyncio.sleep(0)
        while loop._ready:  # noqa: ASYNC110 - nothing tells when there is no more
            await asyncio.sleep(0)

    async def advance(self, seconds: float) -> None:
        await self.settle()
        self._now += seconds
        await self.settle()

    def _make_loop(self) -> asyncio.AbstractEventLoop:
        clock = self

        class Loop(asyncio.SelectorEventLoop):
            def time(self) -> float:
                return clock._now

        return Loop()


@pytest.fixture(params=[AsyncioClock, TrioClock], ids=["asyncio", "trio"])
def clock(request: pytest.FixtureRequest) -> Clock:
    """The clock of the test's event loop."""
    made: Clock = request.param()
    return made


@pytest.fixture
def anyio_backend(clock: Clock) -> tuple[str, dict[str, Any]]:
    """Run the tests of a module that imports this by the clock, on each event loop."""
    return clock.backend


async def thread_is_done(event: Any) -> None:
    """Wait for a ``threading.Event`` without a deadline in the event loop's seconds."""
    if not await anyio.to_thread.run_sync(event.wait, 20):
        raise AssertionError("It did not happen.")
