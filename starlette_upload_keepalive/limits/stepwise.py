"""Awaits something, with a time limit for each step of it that takes time at all."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from typing import Any, Generic, TypeVar

import anyio

T = TypeVar("T")


class Stepwise(Generic[T]):
    """Awaits something, with a time limit for each step of it that has to wait.

    One cancel scope is around all of it, since a task group in there counts on it that its tasks
    are cancelled with it. The timer, which is half of what a scope takes, is set once something
    waits: mostly nothing has to, as the body has come with its headers.

    Args:
        call: What to await. It is cancelled where it has waited for too long.
        seconds: Tells for how long a step may wait.
        error: Makes what is raised then.
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
        with anyio.CancelScope() as scope:
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
                scope.deadline = anyio.current_time() + self._seconds()
                go_on = steps.send
                try:
                    given = yield waits_for
                except BaseException as error:  # noqa: BLE001 - it is raised in there
                    go_on, given = steps.throw, error
        raise self._error()
