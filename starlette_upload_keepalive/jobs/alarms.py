"""Calls at a later time, by one task for all of them."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from contextvars import copy_context

import anyio
from anyio.abc import TaskGroup

# Below this many, cancelled ones are not worth a look.
_FEW = 64


class Alarm:
    """One call to be made.

    Args:
        time: When, in the event loop's seconds.
        number: Which of several at that time comes first.
        call: What to call.
    """

    __slots__ = ("call", "number", "time")

    def __init__(self, time: float, number: int, call: Callable[[], object]) -> None:
        self.time: float = time
        self.number: int = number
        self.call: Callable[[], object] | None = call

    def __lt__(self, other: Alarm) -> bool:
        return (self.time, self.number) < (other.time, other.number)


class Alarms:
    """Makes calls at their time, from `start` to `stop` or for as long as `ring` runs.

    For one event loop.
    """

    def __init__(self) -> None:
        self._tasks: TaskGroup | None = None
        self._ringing: anyio.CancelScope | None = None
        self._context = copy_context()
        self._heap: list[Alarm] = []
        self._cancelled = 0
        self._numbers = itertools.count()
        self._changed: anyio.Event | None = None

    def start(self, tasks: TaskGroup) -> None:
        """Make the calls in a task of that group, which lives only while there are some."""
        self._tasks = tasks

    def stop(self) -> None:
        """Make them no more."""
        self._tasks = None
        if self._ringing is not None:
            self._ringing.cancel()

    def after(self, seconds: float, call: Callable[[], object]) -> Alarm:
        """Have a call made after that many seconds."""
        alarm = Alarm(anyio.current_time() + seconds, next(self._numbers), call)
        heapq.heappush(self._heap, alarm)
        if self._heap[0] is alarm and self._changed is not None:
            self._changed.set()
        if self._ringing is None and self._tasks is not None:
            self._ringing = anyio.CancelScope()
            # Not in the context of whoever happens to be the first.
            self._context.run(self._tasks.start_soon, self._ring, self._ringing)
        return alarm

    def cancel(self, alarm: Alarm) -> None:
        """Make a call no more. Again, or after it was made, does nothing."""
        if alarm.call is None:
            return
        alarm.call = None
        self._cancelled += 1
        if self._cancelled > _FEW and self._cancelled > len(self._heap) // 2:
            # Those far ahead would stay until then: one for each job with a timeout.
            self._heap = [alarm for alarm in self._heap if alarm.call is not None]
            heapq.heapify(self._heap)
            self._cancelled = 0

    async def ring(self) -> None:
        """Make the calls, until there are none to be made.

        Cancellation: the calls are not made.
        """
        while self._heap:
            self._changed = anyio.Event()
            with anyio.CancelScope(deadline=self._heap[0].time):
                await self._changed.wait()
            self._make_due_calls()

    async def _ring(self, scope: anyio.CancelScope) -> None:
        try:
            with scope:
                await self.ring()
        finally:
            self._ringing = None

    def _make_due_calls(self) -> None:
        now = anyio.current_time()
        while self._heap and self._heap[0].time <= now:
            call = self._forget_first()
            if call is not None:
                call()

    def _forget_first(self) -> Callable[[], object] | None:
        alarm = heapq.heappop(self._heap)
        call, alarm.call = alarm.call, None
        if call is None:
            self._cancelled -= 1
        return call
