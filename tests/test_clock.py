"""The clock of the tests goes only as they tell it to."""

from __future__ import annotations

import anyio
import pytest

from tests.clock import Clock, anyio_backend, clock

__all__ = ["anyio_backend", "clock"]

pytestmark = pytest.mark.anyio


async def test_what_is_due_happens_and_nothing_else(clock: Clock) -> None:
    woken = list[float]()

    async def sleep(seconds: float) -> None:
        await anyio.sleep(seconds)
        woken.append(seconds)

    began = anyio.current_time()
    async with anyio.create_task_group() as tasks:
        for seconds in (3600, 1, 60):
            tasks.start_soon(sleep, seconds)
        await clock.advance(0.5)
        assert woken == []
        await clock.advance(0.5)
        assert woken == [1]
        await clock.advance(59)
        assert woken == [1, 60]
        await clock.advance(3540)
    assert woken == [1, 60, 3600]
    assert anyio.current_time() - began == pytest.approx(3600)


async def test_a_deadline_passes(clock: Clock) -> None:
    scope = anyio.CancelScope()

    async def wait() -> None:
        with scope:
            scope.deadline = anyio.current_time() + 10
            await anyio.sleep_forever()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await clock.advance(9)
        assert not scope.cancel_called
        await clock.advance(1)
    assert scope.cancelled_caught
