"""Awaits something, with a time limit for each step of it that takes time at all."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from typing import Any, Generic, TypeVar

import anyio

T = TypeVar("T")


class Stepwise(Generic[T]):
    """Awaits something, with a time limit for each step of it that has to wait.

    A cancel scope around all of it would take 6 µs in asyncio, which is a tenth of what a small
    form takes; and mostly nothing has to wait, as the body has come with its headers. So the scope
    is opened once something waits, and left before that goes on: scopes that it has opened itself
    are left in their order.

    Args:
        call: What to await.
        seconds: Tells for how long a step may wait.
        error: Makes what is raised in it if that was too long.
    """

    def __init__(
        self,
        call: Awaitable[T],
        seconds: Callable[[], float],
        error: Callable[[], Exception],
    ) -> None:
        self._call = call
        self._seconds = seconds
        self._error = error

    def __await__(self) -> Generator[Any, Any, T]:
        steps = self._call.__await__()
        go_on: Callable[[Any], Any] = steps.send
        given: Any = None
        while True:
            try:
                waits_for = go_on(given)
            except StopIteration as end:
                result: T = end.value
                return result
            finally:
                given = None  # what was raised has this frame in its traceback
            go_on = steps.send
            try:
                with anyio.move_on_after(self._seconds()) as scope:
                    given = yield waits_for
            except BaseException as error:  # noqa: BLE001 - it is raised in there
                go_on, given = steps.throw, error
            else:
                # Trio gives even what it raises as a value, so that the scope sees none of it.
                if scope.cancel_called:
                    go_on, given = steps.throw, self._error()
