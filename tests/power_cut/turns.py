"""Several processes, or threads of one, that take their steps in an order that is chosen."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from .model_disk import Killed

Choose = Callable[[Sequence[int]], int]
"""Chooses which of those goes on that can."""


class Turns:
    """Lets one of several go on at a time, from one step to the next."""

    def __init__(self) -> None:
        self._bodies: list[_Body] = []
        self._current: _Body | None = None

    def run(self, choose: Choose, *bodies: Callable[[], object]) -> None:
        """Run all to their end.

        Raises:
            BaseException: What the first of them has raised, but for `Killed`.
        """
        self._bodies = [_Body(body) for body in bodies]
        while left := [n for n, body in enumerate(self._bodies) if not body.ended]:
            able = [number for number in left if self._bodies[number].able()]
            assert able, "each waits for another"
            self._current = self._bodies[choose(able)]
            self._current.go_on()
        self._current = None
        for body in self._bodies:
            if body.error is not None:
                raise body.error

    def pause(self, until: Callable[[], bool] = lambda: True) -> None:
        """Let others go on first; called by the one whose turn it is."""
        if self._current is not None:
            self._current.wait(until)


class _Body:
    """One of those that take turns, in a thread of its own."""

    def __init__(self, body: Callable[[], object]) -> None:
        self.error: BaseException | None = None
        self.ended = False
        self.able: Callable[[], bool] = lambda: True
        self._body = body
        self._turn = threading.Semaphore(0)
        self._paused = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def go_on(self) -> None:
        self._turn.release()
        self._paused.acquire()
        if self.ended:
            self._thread.join()

    def wait(self, until: Callable[[], bool]) -> None:
        self.able = until
        self._paused.release()
        self._turn.acquire()

    def _run(self) -> None:
        self._turn.acquire()
        try:
            self._body()
        except Killed:
            pass
        except BaseException as error:  # noqa: BLE001
            self.error = error
        finally:
            self.ended = True
            self._paused.release()


class TurnsThreading:
    """What stands in for the module `threading`, so that who waits lets others go on."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns

    def Lock(self) -> _Lock:  # noqa: N802
        return _Lock(self._turns)

    def Event(self) -> _Event:  # noqa: N802
        return _Event(self._turns)


class _Lock:
    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._held = False

    def __enter__(self) -> None:
        if self._held:
            self._turns.pause(lambda: not self._held)
        self._held = True

    def __exit__(self, *_: object) -> None:
        self._held = False


class _Event:
    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._is_set = False

    def set(self) -> None:
        self._is_set = True

    def wait(self) -> None:
        if not self._is_set:
            self._turns.pause(lambda: self._is_set)
