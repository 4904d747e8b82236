"""A body is counted and timed as it comes in."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
import pytest
from anyio.streams.memory import MemoryObjectSendStream

from starlette_upload_keepalive import Limits, RequestTooLarge, UploadTooSlow
from starlette_upload_keepalive.limits.reception import Reception
from tests.clock import Clock, anyio_backend, clock

__all__ = ["anyio_backend", "clock"]

pytestmark = pytest.mark.anyio


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


@dataclass
class Client:
    """Sends to a reception that is under way in a task."""

    reception: Reception
    stream: MemoryObjectSendStream[bytes]
    raised: list[str] = field(default_factory=list[str])

    async def send(self, data: bytes = b"x") -> None:
        await self.stream.send(data)


@asynccontextmanager
async def client_of(reception: Reception) -> AsyncGenerator[Client]:
    send_stream, stream = anyio.create_memory_object_stream[bytes](1)
    client = Client(reception, send_stream)

    async def receive() -> None:
        async for data in stream:
            reception.take(data)

    async def run() -> None:
        try:
            await reception.within_time(receive())
        except UploadTooSlow as error:
            client.raised.append(error.detail)

    async with send_stream, stream, anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        yield client
        tasks.cancel_scope.cancel()


def timed(size: int | None, timeout: float = 60, **limits: int) -> Reception:
    limited = Limits(receive_timeout=timeout, **limits)
    return Reception(limited, size, clock=anyio.current_time)


# A short body, and one that may be long: the second has a coarser timer.
each_size = pytest.mark.parametrize("size", [100_000, None])


@each_size
async def test_a_client_that_sends_nothing(clock: Clock, size: int | None) -> None:
    async with client_of(timed(size)) as client:
        await clock.advance(59.9)
        assert client.raised == []
        await clock.advance(1.1)
        assert client.raised == ["The upload is too slow. Nothing has come for 60 seconds."]


@each_size
async def test_each_message_gives_time_anew(clock: Clock, size: int | None) -> None:
    async with client_of(timed(size)) as client:
        for _ in range(10):
            await clock.advance(50)
            await client.send()
        assert client.raised == []
        await clock.advance(61)
        assert len(client.raised) == 1


@each_size
async def test_what_comes_soon_after_another_gives_time_too(clock: Clock, size: int | None) -> None:
    """Of a long body the timer is set once a second, and never too early for what came since."""
    async with client_of(timed(size)) as client:
        await clock.advance(10)
        await client.send()
        await clock.advance(0.9)
        await client.send()
        await clock.advance(59.9)
        assert client.raised == []
        await clock.advance(1.1)
        assert len(client.raised) == 1


@each_size
async def test_no_time_passes_while_the_client_waits_for_us(clock: Clock, size: int | None) -> None:
    reception = timed(size, min_rate=100)
    go_on = anyio.Event()

    async def receive() -> None:
        with reception.at_rest():
            await go_on.wait()
        reception.take(b"x")  # in time, for all of it was ours
        await anyio.sleep(50)
        reception.take(bytes(100 * 45))  # the first 10 seconds are free
        await anyio.sleep_forever()

    raised: list[UploadTooSlow] = []

    async def run() -> None:
        try:
            await reception.within_time(receive())
        except UploadTooSlow as error:
            raised.append(error)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        await clock.advance(1000)
        go_on.set()
        await clock.advance(50)
        await clock.advance(59)
        assert raised == []
        await clock.advance(2)
        assert len(raised) == 1


@each_size
async def test_a_body_that_comes_too_slowly(clock: Clock, size: int | None) -> None:
    async with client_of(timed(size, min_rate=100)) as client:
        await clock.advance(10)
        await client.send()  # a slow start
        for _ in range(5):
            await clock.advance(1)
            await client.send(bytes(100))
        assert client.raised == []
        await clock.advance(2)
        await client.send()
        await clock.settle()
        assert client.raised == [
            "The upload is too slow. It comes with less than 100 bytes a second."
        ]


async def test_a_short_timeout_is_met_as_well(clock: Clock) -> None:
    async with client_of(timed(None, 0.8)) as client:
        await clock.advance(0.8)
        assert client.raised == []
        await clock.advance(0.1)
        assert len(client.raised) == 1


@each_size
async def test_without_a_timeout_nothing_is_timed(clock: Clock, size: int | None) -> None:
    reception = Reception(Limits(receive_timeout=None), size, clock=anyio.current_time)
    async with client_of(reception) as client:
        await clock.advance(1e6)
        await client.send()
        await clock.settle()
        assert (client.raised, reception.received) == ([], 1)


@each_size
async def test_whoever_cancels_is_not_told_of_slowness(clock: Clock, size: int | None) -> None:
    with anyio.move_on_after(5) as scope:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(clock.advance, 5)
            await timed(size).within_time(anyio.sleep_forever())
    assert scope.cancelled_caught
