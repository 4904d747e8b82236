"""Worker threads of our own, and the thread that closes large files."""

from __future__ import annotations

import logging
import queue
import threading
import weakref
from collections.abc import Callable
from typing import TypeAlias, TypeVar, cast

import anyio.to_thread
from anyio import CapacityLimiter
from anyio.lowlevel import RunVar

T = TypeVar("T")

# A limiter belongs to one event loop, and worker threads may outlive several. One variable for
# all of them: an event loop keeps what is set in it for good.
_Limiters: TypeAlias = "weakref.WeakKeyDictionary[WorkerThreads, CapacityLimiter]"
_limiters: RunVar[_Limiters] = RunVar(f"{__name__}.limiters")

logger: logging.Logger = logging.getLogger("starlette_upload_keepalive")


def _nothing() -> None:
    """Do nothing: what `WorkerThreads.run` lets go of by default."""


class WorkerThreads:
    """A bounded number of worker threads, apart from anyio's default forty.

    The default limiter is shared with sync endpoints: behind forty of them
    that sleep, one write of an upload waits for as long as they do.

    Args:
        limit: How many threads may be busy at once, in each event loop; None
            for anyio's forty, infinite if somebody else sees to it.
    """

    def __init__(self, limit: float | None) -> None:
        self.limit = limit

    async def run(
        self,
        call: Callable[[], T],
        *,
        let_go: Callable[[], None] = _nothing,
        abandon_on_cancel: bool = False,
    ) -> T:
        """Run a call in a worker thread and let go of what it worked on.

        Args:
            call: What to run; it takes no arguments.
            let_go: Called exactly once when the call has ended: in the thread,
                or here if the thread was cancelled before it began. A native
                ``task.cancel()`` breaks through anyio's shield, so only the
                thread itself knows when it is done with a file.
            abandon_on_cancel: Leave the thread behind instead of waiting for it.

        Cancellation: waits for the call to end, unless it is to be abandoned or
            the task is cancelled natively; then the thread goes on alone.
        """
        turn = threading.Lock()  # taken once: by the thread, or by whoever cancels it

        def work() -> T:
            if not turn.acquire(blocking=False):
                return cast("T", None)  # nobody is left to see it
            try:
                return call()
            finally:
                let_go()

        try:
            return await anyio.to_thread.run_sync(
                work, limiter=self.limiter(), abandon_on_cancel=abandon_on_cancel
            )
        finally:
            if turn.acquire(blocking=False):
                let_go()

    def limiter(self) -> CapacityLimiter | None:
        """Return what bounds them in this event loop; None if it is anyio's own."""
        if self.limit is None:
            return None
        limiters: _Limiters | None = _limiters.get(None)
        if limiters is None:
            limiters = weakref.WeakKeyDictionary()
            _limiters.set(limiters)
        if self not in limiters:
            limiters[self] = CapacityLimiter(self.limit)
        return limiters[self]


# Its put is reentrant: a finalizer may call it in mid-put.
_Calls: TypeAlias = "queue.SimpleQueue[Callable[[], None] | None]"


class Closer:
    """A thread that closes large files, so that the event loop need not.

    Closing an unlinked file of 1 GB takes the kernel about 85 ms on ext4. The
    thread starts with the first file and ends with `drain` or with the closer.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        # Each thread has a queue of its own, so that no other takes the None that ends it.
        self._calls: _Calls | None = None
        self._thread: threading.Thread | None = None
        self._stop: Callable[[], object] | None = None

    def close(self, call: Callable[[], None]) -> None:
        """Have the thread make a call that closes a file. Returns at once.

        Args:
            call: What to run. An ``OSError`` that it raises is logged.
        """
        with self._lock:
            if self._calls is not None:
                self._calls.put(call)
                return
            # There before the thread starts: a finalizer may call us meanwhile.
            self._calls = queue.SimpleQueue()
            self._calls.put(call)
            self._start(self._calls)

    def drain(self) -> None:
        """Wait until all that was handed over is closed, and end the thread."""
        with self._lock:
            thread, stop = self._thread, self._stop
            self._calls = self._thread = self._stop = None
            if stop is not None:
                stop()  # puts the None that ends the thread
        if thread is not None:
            thread.join()

    def _start(self, calls: _Calls) -> None:
        thread = threading.Thread(
            target=_call_until_none,
            args=(calls,),
            name="upload closer",
            daemon=True,
        )
        try:
            thread.start()
        except RuntimeError:  # the interpreter or the system has no thread left to give
            self._calls = None
            calls.put(None)
            _call_until_none(calls)
            return
        self._thread = thread
        self._stop = weakref.finalize(self, calls.put, None)


def _call_until_none(calls: _Calls) -> None:
    while (call := calls.get()) is not None:
        try:
            call()
        except OSError:  # noqa: PERF203 - the next file is closed all the same
            logger.exception("A file of an upload could not be closed.")
