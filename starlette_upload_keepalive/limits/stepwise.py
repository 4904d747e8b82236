"""Awaits something, with a time limit for each step of it that takes time at all."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from functools import partial
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
        go_on: Callable[[], Any] = partial(next, steps)
        while True:
            try:
                waits_for = go_on()
            except StopIteration as end:
                result: T = end.value
                return result
            finally:
                del go_on  # what it raises, and has a traceback with this frame, is in it
            sent: Any = None  # if it was too long
            try:
                with anyio.move_on_after(self._seconds()) as scope:
                    sent = yield waits_for
            except BaseException as error:  # noqa: BLE001 - it is raised in there
                go_on = partial(steps.throw, error)
            else:
                # Trio gives even what it raises as a value, so that the scope sees none of it.
                too_long = scope.cancel_called
                go_on = (
                    partial(steps.throw, self._error()) if too_long else partial(steps.send, sent)
                )
