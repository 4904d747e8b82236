"""Which forms are taken in: decided before anything of their bodies is read."""

from __future__ import annotations

import errno
from collections.abc import Callable
from functools import partial

from .exceptions import (
    RequestTooLarge,
    StorageFull,
    TooManyJobs,
    TooManyOpenFiles,
    TooManyUploads,
)
from .files.disk_errors import told_to_the_client
from .files.over_limit import OverLimit
from .files.storage import Storage
from .limits.limits import Limits
from .limits.reception import Reception


class Admission:
    """Takes forms in, or refuses them before anything of their bodies is read.

    Args:
        limits: How much may come in.
        storage: Where files are to live.
        pending_jobs: Tells how many jobs are not done.
        kept: Whether jobs are kept in a spool, and so even what is in memory on a disk.
    """

    def __init__(
        self,
        limits: Limits,
        storage: Storage,
        pending_jobs: Callable[[], int] = lambda: 0,
        *,
        kept: bool = False,
    ) -> None:
        self.limits = limits
        self.storage = storage
        self._pending_jobs = pending_jobs
        self._kept = kept
        self._receiving = set[Reception]()

    def admit(self, size: int | None) -> Reception:
        """Take a form in. The caller lets it `leave` once it has been received, or not.

        Args:
            size: The bytes of its body, if they are known.

        Raises:
            UploadRefused: It is too large, or too much is going on.
        """
        most = self.limits.max_request_size
        if size is not None and most is not None and size > most:
            raise RequestTooLarge(most)
        if len(self._receiving) >= (many := self.limits.max_concurrency):
            raise TooManyUploads from OverLimit(
                errno.EAGAIN, f"As many forms are received as max_concurrency allows: {many:,}"
            )
        if self._pending_jobs() >= (many := self.limits.max_pending_jobs):
            raise TooManyJobs from OverLimit(
                errno.EAGAIN, f"As many jobs are not done as max_pending_jobs allows: {many:,}"
            )
        reception = Reception(self.limits, size)
        self._receiving.add(reception)
        return reception

    async def check_room(self, reception: Reception) -> None:
        """See that there is room for a form, and for what is still to come of others.

        Raises:
            StorageError: There is none.

        Cancellation: a look at the disk is finished.
        """
        storage = self.storage
        large = reception.missing > storage.memory_max_size
        if not (large or self._kept):
            return
        if large and storage.open_files.left <= 0:
            raise TooManyOpenFiles from storage.open_files.over()
        with told_to_the_client():
            left = storage.free_space.known(storage.directory)
            if left is None:
                look = partial(storage.free_space.look, storage.directory)
                left = await storage.threads.run(look)
        # What costs a client no more than a header takes no room from others: it is believed that
        # as much more comes as has come.
        others = sum(min(each.missing, each.received) for each in self._receiving)
        if reception.missing + others > left:
            raise StorageFull from storage.free_space.over(storage.directory)
        if reception.missing + others > storage.disk.left:
            raise StorageFull from storage.disk.over()

    def leave(self, reception: Reception) -> None:
        """Know that a form is being received no more."""
        self._receiving.discard(reception)
