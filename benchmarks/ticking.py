"""How long an event loop keeps a task waiting that wants to run each millisecond."""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")

_INTERVAL = 0.001


class Tick(NamedTuple):
    """One turn of the task.

    Attributes:
        due: When it wanted to run, in seconds of ``time.perf_counter``.
        late: By how many seconds it came later.
    """

    due: float
    late: float


@asynccontextmanager
async def ticking() -> AsyncGenerator[list[Tick], None]:
    """Tick until the block ends, and collect the ticks."""
    ticks: list[Tick] = []
    ticked = asyncio.Event()

    async def tick() -> None:
        while True:
            due = time.perf_counter() + _INTERVAL
            await asyncio.sleep(_INTERVAL)
            ticks.append(Tick(due, max(0.0, time.perf_counter() - due)))
            ticked.set()

    task = asyncio.create_task(tick())
    try:
        await ticked.wait()
        yield ticks
        ticked.clear()
        await ticked.wait()  # one that is due already is late, too
    finally:
        task.cancel()
        await asyncio.wait([task])


def quantile(late: Sequence[float], share: float) -> float:
    """Return by how many seconds that share of ticks is late at most; 1 is all of them."""
    return sorted(late)[min(int(share * len(late)), len(late) - 1)]


def run_precisely(call: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run it in an event loop that can wait for less than a millisecond.

    epoll(7) waits for whole ones, so that each tick would be late by up to one.
    """
    loop = asyncio.SelectorEventLoop(selectors.SelectSelector())
    try:
        return loop.run_until_complete(call())
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
