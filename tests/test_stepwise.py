"""What is awaited has a time limit wherever it waits, and is otherwise as if awaited directly."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio
import pytest
from anyio.lowlevel import checkpoint

from starlette_upload_keepalive.limits.stepwise import Stepwise
from tests.clock import Clock, anyio_backend, clock

__all__ = ["anyio_backend", "clock"]

T = TypeVar("T")

pytestmark = pytest.mark.anyio


class TooLong(Exception):
    pass


def stepwise(call: Awaitable[T], seconds: Callable[[], float] = lambda: 10) -> Stepwise[T]:
    return Stepwise(call, seconds, TooLong)


async def at_once() -> str:
    return "done"


async def in_steps() -> str:
    for _ in range(3):
        await checkpoint()
    return "done"


@pytest.mark.parametrize("call", [at_once, in_steps])
async def test_its_result(call: Callable[[], Awaitable[str]]) -> None:
    assert await stepwise(call()) == "done"


async def test_what_it_raises() -> None:
    async def fail() -> None:
        await checkpoint()
        raise KeyError("as the test wants it")

    with pytest.raises(KeyError):
        await stepwise(fail())


async def test_each_step_has_the_time_anew(clock: Clock) -> None:
    async def sleep() -> str:
        for _ in range(5):
            await anyio.sleep(9)
        return "done"

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_advance, clock, 9, 5)
        assert await stepwise(sleep()) == "done"


async def test_it_is_cancelled_where_a_step_takes_too_long(clock: Clock) -> None:
    seen: list[type[BaseException]] = []

    async def sleep() -> None:
        try:
            with anyio.CancelScope():
                await anyio.sleep_forever()
        except BaseException as error:
            seen.append(type(error))
            raise

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_advance, clock, 10, 1)
        with pytest.raises(TooLong):
            await stepwise(sleep())
    assert seen == [anyio.get_cancelled_exc_class()]


async def test_tasks_that_it_waits_for_are_cancelled_with_it(clock: Clock) -> None:
    ended: list[str] = []

    async def sleep() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.append("task")

    async def wait_for_task() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(sleep)
        ended.append("never")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_advance, clock, 10, 1)
        with pytest.raises(TooLong):
            await stepwise(wait_for_task())
        assert ended == ["task"]


async def test_what_it_has_done_when_the_time_is_over_is_done(clock: Clock) -> None:
    async def shielded() -> str:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(11)
        return "done"

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_advance, clock, 11, 1)
        assert await stepwise(shielded()) == "done"


async def test_scopes_and_task_groups_within_it_are_left_in_their_order() -> None:
    async def nested() -> str:
        with anyio.CancelScope():
            await checkpoint()
            async with anyio.create_task_group() as tasks:
                await checkpoint()
                tasks.start_soon(checkpoint)
            with anyio.move_on_after(0):
                await anyio.sleep_forever()
            await anyio.to_thread.run_sync(int)
        return "done"

    assert await stepwise(nested()) == "done"


async def test_its_time_depends_on_what_it_waits_for(clock: Clock) -> None:
    seconds = 1e9

    async def sleep() -> None:
        nonlocal seconds
        await anyio.sleep(1000)
        seconds = 10
        await anyio.sleep(1000)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_advance, clock, 1000, 2)
        with pytest.raises(TooLong):
            await stepwise(sleep(), lambda: seconds)


async def test_whoever_cancels_from_outside_cancels_it(clock: Clock) -> None:
    cleaned_up = False

    async def sleep() -> None:
        nonlocal cleaned_up
        try:
            await anyio.sleep_forever()
        finally:
            cleaned_up = True

    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_advance, clock, 1, 1)
            tasks.start_soon(_cancel_after, scope, 1)
            await stepwise(sleep())
    assert scope.cancelled_caught
    assert cleaned_up


async def test_what_has_taken_too_long_needs_no_garbage_collector(clock: Clock) -> None:
    """P2: an error knows the frames that it passed, and they what was received."""

    class Received:
        pass

    seen: list[weakref.ref[Received]] = []

    async def sleep() -> None:
        received = Received()
        seen.append(weakref.ref(received))
        await anyio.sleep_forever()

    async def too_long() -> None:
        with pytest.raises(TooLong):
            await stepwise(sleep())

    gc.disable()
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(too_long)
            tasks.start_soon(_advance, clock, 10, 1)
        assert [each() for each in seen] == [None]
    finally:
        gc.enable()


async def _advance(clock: Clock, seconds: float, times: int) -> None:
    for _ in range(times):
        await clock.advance(seconds)


async def _cancel_after(scope: anyio.CancelScope, seconds: float) -> None:
    await anyio.sleep(seconds)
    scope.cancel()
