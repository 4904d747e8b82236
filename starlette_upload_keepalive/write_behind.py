"""Writing while more is received: bounded, and never in the event loop."""

from __future__ import annotations

import math
import queue
import threading
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple

import anyio
from anyio import CancelScope
from anyio.abc import TaskGroup

from .blob import Batch, Blob
from .owner import Owner
from .storage import KIB, MIB
from .threads import WorkerThreads

if TYPE_CHECKING:
    from typing_extensions import Self

# While nothing is being written, a little is worth a write: it bounds what slow clients keep in
# memory. While something is, more is collected: each write costs a change of threads or two.
_LEAST = 512 * KIB
_BATCH = 2 * MIB
# One is written while the next is collected. The second waits in the kernel for the first, so
# that the disk has work until the event loop has heard of it.
_MOST = 2
# How long a thread waits for the next batch. To start one takes the event loop 0.1 ms.
_LINGER = 0.002


class _Write(NamedTuple):
    blob: Blob
    batch: Batch
    owner: Owner


class WriteBehind:
    """Writes blobs to disk in worker threads, while the event loop collects what comes next.

    Enter it with ``async with``, use it in that task alone, and `flush` at its
    end. Once the block has ended nothing is being written any more.

    Args:
        threads: Where the writes happen.
    """

    def __init__(self, threads: WorkerThreads) -> None:
        self._threads = threads
        self._tasks: TaskGroup | None = None  # only where there is something to write
        self._writing: list[CancelScope] = []  # one for each thread
        self._queue: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        self._under_way = 0
        self._counting = threading.Lock()  # between writers; the event loop only looks
        self._waits = False
        self._written = anyio.Event()
        self._failure: BaseException | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._tasks is None:
            return
        if exc is not None:
            self._drop_queue()
        for _ in range(_MOST):
            self._queue.put(None)
        cancelled = isinstance(exc, anyio.get_cancelled_exc_class())
        if cancelled and anyio.current_effective_deadline() != -math.inf:
            # Natively: whoever does that, such as a server that has to end, waits for nobody.
            for scope in self._writing:
                scope.cancel()
        try:
            if exc is None or cancelled:
                await self._tasks.__aexit__(exc_type, exc, traceback)
            else:  # no concern of the task group, which would wrap it in an exception group
                await self._tasks.__aexit__(None, None, None)
        finally:
            self._drop_queue()

    def is_due(self, blob: Blob) -> bool:
        """Whether a blob has collected enough to be worth a write."""
        return blob.unwritten >= (_BATCH if self._under_way else _LEAST)

    async def write(self, blob: Blob) -> None:
        """Write what a blob has collected, and wait only while too much is under way.

        Raises:
            OSError: The device is full or failed, or no descriptor is left: now, or
                when an earlier batch was written. The blobs can then only be let go of.

        Cancellation: threads finish what they are writing; each owns its blob meanwhile.
        """
        if self._tasks is None:
            self._tasks = anyio.create_task_group()
            await self._tasks.__aenter__()
        self._queue.put(_Write(blob, blob.take_batch(), blob.own("a write in progress")))
        with self._counting:
            self._under_way += 1
        if len(self._writing) < self._under_way:
            scope = anyio.CancelScope(shield=True)
            self._writing.append(scope)
            self._tasks.start_soon(self._run_writer, scope)
        await self._wait(_MOST)

    async def flush(self) -> None:
        """Wait until all is written.

        Raises:
            OSError: As for `write`.

        Cancellation: as for `write`.
        """
        await self._wait(1)

    async def _wait(self, too_many: int) -> None:
        """Wait while that many batches are under way."""
        while self._under_way >= too_many and self._failure is None:
            self._written = anyio.Event()
            self._waits = True
            if self._under_way >= too_many:  # perhaps a thread wrote one before it saw us wait
                await self._written.wait()
            self._waits = False
        self._raise_failure()

    async def _run_writer(self, scope: CancelScope) -> None:
        try:
            with scope:
                while await self._threads.run(self._write_queued, abandon_on_cancel=True):
                    self._written.set()
                    if self._queue.empty():
                        break
        except Exception as error:  # noqa: BLE001 - raised where the body is read
            self._failure = self._failure or error  # what follows one is like it
        finally:
            self._writing.remove(scope)
            self._written.set()

    def _write_queued(self) -> bool:
        """Write until nothing more comes, or somebody waits to hear of it.

        Returns:
            Whether more may come: False if the block ends.
        """
        while True:
            try:
                write = self._queue.get(timeout=_LINGER)
            except queue.Empty:
                return True
            if write is None:
                return False
            try:
                write.blob.write_batch(write.batch)
            finally:
                write.owner.let_go()
            del write  # its bytes are not to be kept while waiting for the next
            with self._counting:
                self._under_way -= 1
            if self._waits:
                return True  # anyio tells the event loop, and does not wait for it as a call would

    def _drop_queue(self) -> None:
        with suppress(queue.Empty):
            while True:
                write = self._queue.get_nowait()
                if write is not None:
                    write.owner.let_go()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure
