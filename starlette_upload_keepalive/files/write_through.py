"""Writing while nothing more is received: for bodies that have little to write."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from traceback import clear_frames

from starlette_upload_keepalive.quantities import KIB, MIB

from .blob import Batch, Blob
from .threads import WorkerThreads

BATCH = MIB
"""The bytes that are worth a write that is waited for."""

FEW = BATCH + 64 * KIB
"""The size of a body of one batch, with the form around it."""


class WriteThrough:
    """Writes blobs to disk in a worker thread, and waits for it.

    Most small bodies stay in memory: this takes no preparation.

    Args:
        threads: Where the writes happen.
        waiting: Entered while they do.
    """

    def __init__(
        self,
        threads: WorkerThreads,
        waiting: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._threads = threads
        self._waiting = waiting

    def is_due(self, blob: Blob) -> bool:
        """Whether a blob has collected enough to be worth a write."""
        return blob.is_due(BATCH)

    async def write(self, blob: Blob) -> None:
        """Write what a blob has collected.

        Raises:
            OSError: The device is full or failed, or no descriptor is left. The blob can
                then only be let go of.

        Cancellation: the thread finishes what it is writing; it owns the blob meanwhile.
        """
        owner = blob.own("a write in progress")
        batch = blob.take_batch()
        try:
            with self._waiting():
                await self._threads.run(partial(blob.write_batch, batch), let_go=owner.let_go)
        except Exception as error:
            forget(error, batch)
            raise


def forget(error: Exception, *batches: Batch) -> None:
    """Free the bytes that could not be written.

    What brings an error out of a thread is in a circle with it, and that with its traceback: until
    it is collected, all would stay that is in there.
    """
    for batch in batches:
        batch.pieces.clear()
    clear_frames(error.__traceback__)
