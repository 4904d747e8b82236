"""Writing while more is received: bounded, and never in the event loop."""

from __future__ import annotations

import math
import queue
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple

import anyio

from starlette_upload_keepalive.quantities import KIB

from .blob import Batch, Blob
from .doorbell import Doorbell
from .owner import Owner
from .threads import WorkerThreads
from .write_through import BATCH, WriteThrough, forget

if TYPE_CHECKING:
    from typing_extensions import Self

# While nothing is being written, a little is worth a write: it bounds what slow clients keep in
# memory. While something is, more is collected: each write has to get the interpreter's lock.
_LEAST = 512 * KIB
# How many batches may be handed over and not yet written. With two the thread has something to
# do while the event loop is woken; one more evens out what either is held up by. Where uploads wait
# for a thread, more would only take memory, of each of them; and where memory is short, there is
# none to take.
_MOST = 3
_MOST_WHERE_SCARCE = 1
# How long the thread waits for the next batch. To start one takes the event loop 0.1 ms.
_LINGER = 0.002


class _Write(NamedTuple):
    blob: Blob
    batch: Batch
    owner: Owner


class WriteBehind:
    """Writes blobs to disk in a worker thread, while the event loop collects what comes next.

    What the memory budget has no room for is written sooner and waited for.

    Enter it with ``async with``, use it in that task alone, and `flush` at its
    end. Once the block has ended nothing is being written any more.

    Args:
        threads: Where the writes happen, one at a time. A thread is taken only
            while there is something to write, and left when others want one.
        waiting: Entered while more can't be taken because the disk is slower.
    """

    def __init__(
        self,
        threads: WorkerThreads,
        waiting: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._threads = threads
        self._waiting = waiting
        self._through = WriteThrough(threads, waiting)
        self._tasks = anyio.create_task_group()
        self._limiter: anyio.CapacityLimiter | None = None
        self._scope: anyio.CancelScope | None = None  # of the writer, if there is one
        self._queue: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        # Each is counted by one thread alone, and looked at by both.
        self._handed_over = 0
        self._written = 0
        self._waits = False
        self._doorbell: Doorbell | None = None  # only where the disk is slower than the client
        self._turn_over: anyio.Event | None = None
        self._ended: anyio.Event | None = None
        self._failure: BaseException | None = None

    async def __aenter__(self) -> Self:
        # Before anything is received: whatever sends may hold a cancel scope of its own open from
        # one message to the next, and scopes must be left in the order of entering.
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc is not None:
            self._drop_queue()
        self._queue.put(None)
        cancelled = isinstance(exc, anyio.get_cancelled_exc_class())
        natively = cancelled and anyio.current_effective_deadline() != -math.inf
        try:
            if not natively:
                with anyio.CancelScope(shield=True):  # a task group's own holds up a native cancel
                    await self._writer_ended()
        finally:
            if self._scope is not None:
                # Whoever cancels natively, such as a server that has to end, waits for nobody.
                self._scope.cancel()
            try:
                if exc is None or cancelled:
                    await self._tasks.__aexit__(exc_type, exc, traceback)
                else:  # no concern of the task group, which would wrap it in an exception group
                    await self._tasks.__aexit__(None, None, None)
            finally:
                self._drop_queue()
                self._failure = None  # its traceback has us
                if self._doorbell is not None:
                    self._doorbell.close()

    def is_due(self, blob: Blob) -> bool:
        """Whether a blob has collected enough to be worth a write."""
        return blob.is_due(BATCH if self._under_way else _LEAST)

    async def write(self, blob: Blob) -> None:
        """Write what a blob has collected, and wait only while too much is under way.

        That is three batches; one where others wait for a thread, or the blob lacks memory.

        Raises:
            OSError: The device is full or failed, or no descriptor is left: now, or when
                an earlier batch was written. The blobs can then only be let go of.

        Cancellation: the thread finishes what it is writing; it owns the blob meanwhile.
        """
        lacks_memory = blob.lacks_memory
        if lacks_memory and self._under_way == 0:
            await self._through.write(blob)
            return
        owner = blob.own("a write in progress")
        self._queue.put(_Write(blob, blob.take_batch(), owner))
        self._handed_over += 1
        if self._scope is None:
            self._scope = anyio.CancelScope(shield=True)
            self._limiter = self._threads.limiter()
            self._tasks.start_soon(self._run_writer, self._scope)
        scarce = lacks_memory or self._crowded
        most = _MOST_WHERE_SCARCE if scarce else _MOST
        while self._under_way >= most and self._failure is None:
            signal = self._signal()
            self._waits = True
            if self._under_way >= most:  # perhaps the thread was done before it saw us wait
                with self._waiting():
                    await signal.wait()
            self._waits = False
        self._raise_failure()

    async def flush(self) -> None:
        """Wait until all is written. Nothing can be written afterwards.

        Raises:
            OSError: As for `write`.

        Cancellation: as for `write`.
        """
        if self._handed_over:
            self._queue.put(None)
            await self._writer_ended()
            self._raise_failure()

    async def _writer_ended(self) -> None:
        if self._scope is not None:
            self._ended = anyio.Event()
            await self._ended.wait()

    @property
    def _under_way(self) -> int:
        return self._handed_over - self._written

    @property
    def _crowded(self) -> bool:
        """Whether others wait for a thread, or may: of anyio's own nobody tells."""
        return self._limiter is None or self._limiter.statistics().tasks_waiting > 0

    def _signal(self) -> Doorbell | anyio.Event:
        """Return what the thread will tell by that it has written something."""
        # It takes descriptors, of which many uploads that wait for a slow disk have none to spare;
        # who else wants a thread shows when the first batch has been written.
        if self._doorbell is None and self._written > 0 and not self._crowded:
            with suppress(OSError):  # with no descriptor left the end of its turn will do
                self._doorbell = Doorbell()
        if self._doorbell is None:
            self._turn_over = anyio.Event()
            return self._turn_over
        return self._doorbell

    async def _run_writer(self, scope: anyio.CancelScope) -> None:
        try:
            with scope:
                while not self._queue.empty():  # else what came as the thread ended is forgotten
                    await self._threads.run(self._write_queued, abandon_on_cancel=True)
                    if self._turn_over is not None:
                        self._turn_over.set()
        except Exception as error:  # noqa: BLE001 - raised where the body is read
            forget(error)
            self._failure = error
        finally:
            self._scope = None
            if self._doorbell is not None:
                self._doorbell.ring()
            for event in (self._turn_over, self._ended):
                if event is not None:
                    event.set()

    def _write_queued(self) -> None:
        """Write what is handed over, until nothing more comes or others want the thread.

        The next turn is after theirs: threads are given to those who have asked first.
        """
        with suppress(queue.Empty):
            while (write := self._queue.get(timeout=_LINGER)) is not None:
                try:
                    write.blob.write_batch(write.batch)
                finally:
                    write.owner.let_go()
                del write  # its bytes are not to be kept while waiting for the next
                self._written += 1
                if self._waits and self._doorbell is not None:
                    self._doorbell.ring()
                elif self._waits:
                    return  # which tells the event loop as well
                if self._crowded:
                    return

    def _drop_queue(self) -> None:
        with suppress(queue.Empty):
            while True:
                write = self._queue.get_nowait()
                if write is not None:
                    write.owner.let_go()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure
