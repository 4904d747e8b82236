"""A body is counted and timed as it comes in."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
import pytest

from starlette_upload_keepalive import Limits, RequestTooLarge, UploadTooSlow
from starlette_upload_keepalive.limits.reception import Reception
from tests.clock import Clock, anyio_backend, clock

__all__ = ["anyio_backend", "clock"]

pytestmark = pytest.mark.anyio


def timed(timeout: float = 60, **limits: int) -> Reception:
    return Reception(Limits(receive_timeout=timeout, **limits), clock=anyio.current_time)


def test_bytes_are_counted() -> None:
    reception = Reception(size=10)
    reception.take(b"four")
    assert (reception.received, reception.missing) == (4, 6)
    reception.take(bytes(100))  # a server that counts sees to it that there are no more
    assert reception.missing == 0
    assert Reception().missing == 0


def test_more_than_may_come() -> None:
    reception = Reception(Limits(max_request_size=10))
    reception.take(bytes(10))
    with pytest.raises(RequestTooLarge) as refused:
        reception.take(b"x")
    assert (refused.value.status_code, refused.value.max_size) == (413, 10)


@asynccontextmanager
async def receiving(reception: Reception) -> AsyncGenerator[list[Exception]]:
    """Wait for a message that never comes, in a task, and list what that raises."""
    raised: list[Exception] = []

    async def wait() -> None:
        try:
            with reception:
                await anyio.sleep_forever()
        except UploadTooSlow as error:
            raised.append(error)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        yield raised
        tasks.cancel_scope.cancel()


async def test_a_client_that_sends_nothing(clock: Clock) -> None:
    async with receiving(timed()) as raised:
        await clock.advance(60)
        assert raised == []
        await clock.advance(1)
        assert [str(error) for error in raised] == [
            "408: The upload is too slow. Nothing has come for 60 seconds."
        ]


async def test_each_message_gives_time_anew(clock: Clock) -> None:
    reception = timed()
    async with receiving(reception) as raised:
        for _ in range(10):
            await clock.advance(50)
            reception.take(b"x")
        assert raised == []
        await clock.advance(61)
        assert len(raised) == 1


async def test_what_comes_soon_after_another_gives_time_too(clock: Clock) -> None:
    """The timer is set once a second only, and never too early for what came in between."""
    reception = timed()
    async with receiving(reception) as raised:
        await clock.advance(10)
        reception.take(b"x")
        await clock.advance(0.9)
        reception.take(b"x")
        await clock.advance(60)
        assert raised == []
        await clock.advance(0.1)
        assert len(raised) == 1


async def test_no_time_passes_while_the_client_waits_for_us(clock: Clock) -> None:
    reception = timed(min_rate=100)
    async with receiving(reception) as raised:
        await clock.advance(5)
        with reception.at_rest():
            await clock.advance(1000)
        assert raised == []
        await clock.advance(50)
        reception.take(bytes(100 * 45))  # in 55 seconds, of which the first 10 are free
        assert raised == []
        await clock.advance(61)
        assert len(raised) == 1


async def test_a_short_timeout_is_met_as_well(clock: Clock) -> None:
    async with receiving(timed(0.8)) as raised:
        await clock.advance(0.8)
        assert raised == []
        await clock.advance(0.1)
        assert len(raised) == 1


async def test_a_body_that_comes_too_slowly(clock: Clock) -> None:
    reception = timed(min_rate=100)
    async with receiving(reception):
        await clock.advance(10)
        reception.take(b"x")  # a slow start
        for _ in range(5):
            await clock.advance(1)
            reception.take(bytes(100))
        await clock.advance(2)
        with pytest.raises(UploadTooSlow) as refused:
            reception.take(b"x")
        assert refused.value.detail == (
            "The upload is too slow. It comes with less than 100 bytes a second."
        )


async def test_without_a_timeout_nothing_is_timed(clock: Clock) -> None:
    reception = Reception(Limits(receive_timeout=None), clock=anyio.current_time)
    async with receiving(reception) as raised:
        with reception.at_rest():
            await clock.advance(1e6)
        await clock.advance(1e6)
        reception.take(b"x")
        assert raised == []


async def test_whoever_cancels_is_not_told_of_slowness(clock: Clock) -> None:
    with anyio.move_on_after(5) as scope, timed():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(clock.advance, 5)
            await anyio.sleep_forever()
    assert scope.cancelled_caught
