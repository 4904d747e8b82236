"""Our worker threads let go of what they work on, and the closer closes all it is given."""

from __future__ import annotations

import gc
import logging
import threading
import weakref
from collections.abc import Callable, Iterator

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from starlette_upload_keepalive.files.threads import Closer, WorkerThreads
from tests.stored import CANCELS, PATIENCE, Gate, WatchedThreads, cancel

pytestmark = pytest.mark.anyio


# Worker threads


async def test_forty_sync_endpoints_asleep_do_not_delay_a_write() -> None:
    """P7: the default threads are the app's, ours are our own."""
    gate = Gate()
    limiter = anyio.to_thread.current_default_thread_limiter()
    async with anyio.create_task_group() as tasks:
        for _ in range(40):
            tasks.start_soon(anyio.to_thread.run_sync, gate.enter)
        await anyio.wait_all_tasks_blocked()
        try:
            assert limiter.available_tokens == 0
            with anyio.fail_after(PATIENCE):
                assert await WorkerThreads(1).run(threading.get_ident) != threading.get_ident()
        finally:
            gate.open()


async def test_no_more_threads_than_allowed_are_busy() -> None:
    """P7: threads have a limit."""
    threads, gate, started = WorkerThreads(2), Gate(), threading.Semaphore(0)
    third_started = True

    def work() -> None:
        started.release()
        gate.enter()

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(threads.run, work)
        for _ in range(2):
            assert await anyio.to_thread.run_sync(lambda: started.acquire(timeout=PATIENCE))
        await anyio.wait_all_tasks_blocked()
        third_started = started.acquire(blocking=False)
        gate.open()
    assert not third_started


def test_one_object_serves_several_event_loops() -> None:
    """An app is started on asyncio and on trio in turn, as its tests do."""
    threads = WorkerThreads(1)
    for backend in ("asyncio", "trio", "asyncio"):
        assert anyio.run(threads.run, lambda: 7, backend=backend) == 7


async def test_nothing_is_kept_of_threads_that_are_gone() -> None:
    """P2: an upload of its own storage leaves no memory behind in the event loop."""
    threads = WorkerThreads(1)
    await threads.run(lambda: None)
    limiter = weakref.ref(threads.limiter())
    del threads
    with anyio.fail_after(PATIENCE):  # trio's thread may be about to forget it
        while limiter() is not None:
            gc.collect()
            await anyio.lowlevel.checkpoint()


class Failed(Exception):
    """What a call raises here."""


def fail() -> None:
    raise Failed


@pytest.mark.parametrize("call", [lambda: None, fail], ids=["returns", "raises"])
async def test_the_thread_lets_go_when_the_call_has_ended(call: Callable[[], None]) -> None:
    """P2: exactly once, and in the thread."""
    let_go: list[int] = []
    try:
        await WorkerThreads(1).run(call, let_go=lambda: let_go.append(threading.get_ident()))
    except Failed:
        assert call is fail
    assert len(let_go) == 1
    assert let_go != [threading.get_ident()]


@pytest.mark.parametrize(("anyio_backend", "how"), CANCELS)
async def test_a_cancelled_thread_lets_go_when_it_is_done(how: str) -> None:
    """P2: not before, even where a native cancel breaks through the shield."""
    threads, gate, let_go = WatchedThreads(), Gate(), list[str]()

    def work() -> None:
        gate.enter()
        let_go.append("worked")

    async def run() -> None:
        await threads.run(work, let_go=lambda: let_go.append("let go"))

    await cancel(how, gate, run)
    await anyio.to_thread.run_sync(threads.wait_until_idle)
    assert let_go == ["worked", "let go"]


async def test_an_abandoned_thread_lets_go_when_it_is_done() -> None:
    threads, gate, let_go = WatchedThreads(), Gate(), list[str]()

    def work() -> None:
        gate.enter()
        let_go.append("worked")

    async def run() -> None:
        await threads.run(work, let_go=lambda: let_go.append("let go"), abandon_on_cancel=True)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        await gate.entered()
        tasks.cancel_scope.cancel()
    assert let_go == []  # nobody waited for it
    gate.open()
    threads.wait_until_idle()
    assert let_go == ["worked", "let go"]


@pytest.mark.parametrize(("anyio_backend", "how"), CANCELS)
async def test_cancelled_before_the_thread_began_lets_go_once(how: str) -> None:
    """P2: a call that waits for its turn and is cancelled never runs."""
    threads, gate, let_go = WatchedThreads(1), Gate(), list[str]()
    waiting = Gate()
    waiting.open()

    async def run() -> None:
        await threads.run(lambda: let_go.append("worked"), let_go=lambda: let_go.append("let go"))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(threads.run, gate.enter)
        await gate.entered()  # the only thread is busy
        waiting.enter()
        await cancel(how, waiting, run)
        assert let_go == ["let go"]
        gate.open()
    assert let_go == ["let go"]


async def test_a_thread_that_begins_too_late_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """P2: whoever comes second, the thread or its cancellation, leaves the file alone."""
    late: list[Callable[[], object]] = []
    done: list[str] = []

    async def cancelled(work: Callable[[], object], **_: object) -> None:
        late.append(work)
        raise Failed

    monkeypatch.setattr(anyio.to_thread, "run_sync", cancelled)
    with pytest.raises(Failed):
        await WorkerThreads(1).run(
            lambda: done.append("worked"), let_go=lambda: done.append("let go")
        )
    assert late[0]() is None
    assert done == ["let go"]


# The closer


@pytest.fixture
def closer() -> Iterator[Closer]:
    closer = Closer()
    yield closer
    closer.drain()


def test_a_thread_closes_and_draining_waits_for_it(closer: Closer) -> None:
    """P2, P7: the loop does not wait, the shutdown does."""
    gate, closed = Gate(), list[int]()
    closer.close(gate.enter)
    closer.close(lambda: closed.append(threading.get_ident()))
    assert closed == []
    gate.open()
    closer.drain()
    assert len(closed) == 1
    assert closed != [threading.get_ident()]
    assert "upload closer" not in {thread.name for thread in threading.enumerate()}


def test_a_drained_closer_closes_again(closer: Closer) -> None:
    closed: list[str] = []
    closer.drain()
    for name in ("first", "second"):
        closer.close(lambda name=name: closed.append(name))  # type: ignore[misc]
        closer.drain()
    assert closed == ["first", "second"]


def test_the_thread_ends_with_its_closer() -> None:
    closer, closed = Closer(), threading.Event()
    closer.close(closed.set)
    thread = closer._thread
    assert thread is not None
    del closer
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert closed.is_set()


def test_a_file_that_can_not_be_closed_keeps_no_other_open(
    closer: Closer, caplog: pytest.LogCaptureFixture
) -> None:
    """P2: an error is logged, and the next file closed."""
    closed: list[str] = []

    def fail_to_close() -> None:
        raise OSError(5, "Input/output error")

    closer.close(fail_to_close)
    closer.close(lambda: closed.append("next"))
    closer.drain()
    assert closed == ["next"]
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


def test_without_a_thread_left_files_are_closed_at_once(
    closer: Closer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P2: also where the system or the ending interpreter gives no thread."""

    def no_thread(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    closed: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        closer.close(lambda: closed.append("first"))
        closer.close(lambda: closed.append("second"))
        assert closed == ["first", "second"]
    closer.close(lambda: closed.append("third"))  # threads are back
    closer.drain()
    assert closed == ["first", "second", "third"]


def test_a_file_that_arrives_during_the_drain_is_closed(closer: Closer) -> None:
    """P2: neither the file nor the drain is left waiting."""
    gate, joining, closed = Gate(), threading.Event(), threading.Event()
    closer.close(gate.enter)
    thread = closer._thread
    assert thread is not None
    join = thread.join

    def tell_and_join() -> None:
        joining.set()
        join()

    thread.join = tell_and_join  # type: ignore[method-assign, assignment]
    drain = threading.Thread(target=closer.drain, daemon=True)
    drain.start()
    assert joining.wait(PATIENCE)
    closer.close(closed.set)
    gate.open()
    assert closed.wait(PATIENCE)
    drain.join(PATIENCE)
    assert not drain.is_alive()


def test_a_finalizer_may_close_while_the_thread_starts(
    closer: Closer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P2: the garbage collector interrupts at any point, and one thread is enough."""
    closed: list[str] = []
    start = threading.Thread.start
    started: list[threading.Thread] = []

    def interrupted_start(thread: threading.Thread) -> None:
        started.append(thread)
        if len(started) == 1:
            closer.close(lambda: closed.append("forgotten"))
        start(thread)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", interrupted_start)
        closer.close(lambda: closed.append("first"))
    closer.drain()
    assert sorted(closed) == ["first", "forgotten"]
    assert not any(thread.is_alive() for thread in started)
