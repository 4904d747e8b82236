"""One task makes all calls, each at its time."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial

import anyio
import pytest

from starlette_upload_keepalive.jobs.alarms import Alarms
from tests.clock import Clock, anyio_backend, clock

__all__ = ["anyio_backend", "clock"]

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def ringing(alarms: Alarms) -> AsyncGenerator[None, None]:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(alarms.ring)
        yield
        tasks.cancel_scope.cancel()


async def test_calls_in_the_order_of_their_times(clock: Clock) -> None:
    alarms, made = Alarms(), list[int]()
    for seconds in random.Random(1).sample(range(1, 101), 100):
        alarms.after(seconds, partial(made.append, seconds))
    async with ringing(alarms):
        await clock.advance(0.5)
        assert made == []
        await clock.advance(49.5)
        assert made == list(range(1, 51))
        await clock.advance(50)
    assert made == list(range(1, 101))


async def test_calls_of_one_time_in_the_order_in_which_they_were_asked_for(clock: Clock) -> None:
    alarms, made = Alarms(), list[int]()
    for number in range(100):
        alarms.after(1, partial(made.append, number))
    async with ringing(alarms):
        await clock.advance(1)
    assert made == list(range(100))


async def test_an_earlier_one_comes_while_it_rings(clock: Clock) -> None:
    alarms, made = Alarms(), list[str]()
    alarms.after(100, partial(made.append, "late"))
    async with ringing(alarms):
        await clock.settle()
        alarms.after(1, partial(made.append, "early"))
        await clock.advance(1)
        assert made == ["early"]
        await clock.advance(99)
    assert made == ["early", "late"]


async def test_a_call_may_ask_for_another(clock: Clock) -> None:
    alarms, made = Alarms(), list[float]()

    def again() -> None:
        made.append(anyio.current_time())
        alarms.after(0 if len(made) % 2 else 10, again)

    alarms.after(10, again)
    began = anyio.current_time()
    async with ringing(alarms):
        for _ in range(3):
            await clock.advance(10)
    assert [time - began for time in made] == [10, 10, 20, 20, 30, 30]


async def test_a_cancelled_one_is_not_made(clock: Clock) -> None:
    alarms, made = Alarms(), list[int]()
    first = alarms.after(1, partial(made.append, 1))
    second = alarms.after(2, partial(made.append, 2))
    alarms.cancel(first)
    async with ringing(alarms):
        await clock.advance(2)
        assert made == [2]
        alarms.cancel(second)
        alarms.cancel(first)


async def test_it_ends_when_none_is_left(clock: Clock) -> None:
    alarms = Alarms()
    alarms.after(1, lambda: None)
    alarms.cancel(alarms.after(2, lambda: None))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(alarms.ring)
        await clock.advance(2)


@pytest.mark.parametrize("order", ["first", "last", "any"])
async def test_cancelled_ones_far_ahead_are_forgotten(clock: Clock, order: str) -> None:
    """A job with a timeout of an hour that runs for a moment leaves nothing for that hour."""
    alarms, made = Alarms(), list[int]()
    alarms.after(7200, partial(made.append, 0))
    far = [alarms.after(3600, partial(made.append, -1)) for _ in range(10_000)]
    if order == "last":
        far.reverse()
    if order == "any":
        random.Random(2).shuffle(far)
    for alarm in far:
        alarms.cancel(alarm)
    assert len(alarms._heap) <= 200
    async with ringing(alarms):
        await clock.advance(3600)
        assert made == []
        await clock.advance(3600)
    assert made == [0]


async def test_those_that_were_made_or_are_past_count_as_forgotten(clock: Clock) -> None:
    """Else those far ahead would be gone through too rarely, or each time."""
    alarms = Alarms()
    for _ in range(1000):
        alarms.after(1, lambda: None)
        alarms.after(1, lambda: None)
        alarms.cancel(alarms.after(1000, lambda: None))
    far = [alarms.after(3600, lambda: None) for _ in range(1000)]
    async with ringing(alarms):
        await clock.advance(1000)
        assert len(alarms._heap) == 1000
        alarms.cancel(far[0])
        assert len(alarms._heap) == 1000
        for alarm in far:
            alarms.cancel(alarm)
        assert len(alarms._heap) <= 200


async def test_few_cancelled_ones_of_many_are_not_gone_through(clock: Clock) -> None:
    alarms = Alarms()
    far = [alarms.after(3600, lambda: None) for _ in range(1000)]
    for _ in range(10):
        for alarm in far[:100]:
            alarms.cancel(alarm)
    assert len(alarms._heap) == 1000
