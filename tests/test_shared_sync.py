"""One sync serves all who came before it has begun, and none who came later."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from starlette_upload_keepalive.spool.shared_sync import SharedSync

PATIENCE = 10


class Syncs:
    """Holds each sync until it is let go, and lets it fail if told to."""

    def __init__(self) -> None:
        self.begun: list[threading.Event] = [threading.Event() for _ in range(10)]
        self.go_on: list[threading.Event] = [threading.Event() for _ in range(10)]
        self.errors: dict[int, BaseException] = {}
        self.count = 0
        self.shared = SharedSync(self._sync)

    def _sync(self) -> None:
        number, self.count = self.count, self.count + 1
        self.begun[number].set()
        assert self.go_on[number].wait(PATIENCE)
        if number in self.errors:
            raise self.errors[number]


class Caller:
    """Asks for a sync, in a thread of its own."""

    def __init__(self, sync: Callable[[], None]) -> None:
        self._sync = sync
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        try:
            self._sync()
        except BaseException as error:  # noqa: BLE001 - looked at by the test
            self.error = error

    def returned(self) -> BaseException | None:
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()
        return self.error


class CountedEvent(threading.Event):
    """Tells how many wait for it."""

    def __init__(self, arrived: Callable[[], None]) -> None:
        super().__init__()
        self._arrived = arrived

    def wait(self, timeout: float | None = None) -> bool:
        self._arrived()
        return super().wait(timeout)


@pytest.fixture
def syncs() -> Syncs:
    return Syncs()


def test_one_alone(syncs: Syncs) -> None:
    syncs.go_on[0].set()
    syncs.go_on[1].set()
    syncs.shared()
    assert syncs.count == 1
    syncs.shared()
    assert syncs.count == 2


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> threading.Semaphore:
    """Count those who wait for a round that another leads."""
    arrived = threading.Semaphore(0)
    module = "starlette_upload_keepalive.spool.shared_sync"

    class Round:
        def __init__(self) -> None:
            self.ended = CountedEvent(arrived.release)
            self.error: BaseException | None = None

    monkeypatch.setattr(f"{module}._Round", Round)
    return arrived


def arrive(waiting: threading.Semaphore, number: int) -> None:
    for _ in range(number):
        assert waiting.acquire(timeout=PATIENCE)


def late_round(syncs: Syncs, waiting: threading.Semaphore) -> tuple[Caller, list[Caller]]:
    """Have a sync be under way, and five more callers who came meanwhile."""
    first = Caller(syncs.shared)
    assert syncs.begun[0].wait(PATIENCE)
    late = [Caller(syncs.shared) for _ in range(5)]
    arrive(waiting, 4)  # the fifth leads, and waits for its turn
    return first, late


def test_who_comes_while_one_is_under_way_waits_for_the_next(
    syncs: Syncs, waiting: threading.Semaphore
) -> None:
    first, late = late_round(syncs, waiting)

    assert not syncs.begun[1].is_set()  # they don't sync at the same time
    syncs.go_on[0].set()
    assert first.returned() is None
    assert syncs.begun[1].wait(PATIENCE)
    assert all(caller.thread.is_alive() for caller in late)

    last = Caller(syncs.shared)  # the second is under way
    syncs.go_on[1].set()
    assert [caller.returned() for caller in late] == [None] * 5
    assert syncs.begun[2].wait(PATIENCE)
    syncs.go_on[2].set()
    assert last.returned() is None
    assert syncs.count == 3


@pytest.mark.parametrize("error", [OSError(5, "no"), RuntimeError("no"), KeyboardInterrupt()])
def test_a_failure_reaches_all_of_its_round_and_only_them(
    syncs: Syncs, waiting: threading.Semaphore, error: BaseException
) -> None:
    syncs.errors[1] = error
    first, late = late_round(syncs, waiting)

    syncs.go_on[0].set()
    assert first.returned() is None
    assert syncs.begun[1].wait(PATIENCE)
    after = Caller(syncs.shared)
    syncs.go_on[1].set()
    assert [caller.returned() for caller in late] == [error] * 5
    syncs.go_on[2].set()
    assert after.returned() is None


def test_the_first_fails_and_the_next_does_not(syncs: Syncs, waiting: threading.Semaphore) -> None:
    syncs.errors[0] = OSError(28, "full")
    first, late = late_round(syncs, waiting)
    syncs.go_on[0].set()
    syncs.go_on[1].set()
    assert first.returned() is syncs.errors[0]
    assert [caller.returned() for caller in late] == [None] * 5
