"""One fsync for all who wait for one."""

from __future__ import annotations

import threading
from collections.abc import Callable


class SharedSync:
    """Syncs something for many threads at once.

    A sync covers what was done before it has begun. So whoever comes while one
    is under way waits for the next, together with all others who do.

    Args:
        sync: Does it. Blocks.
    """

    def __init__(self, sync: Callable[[], None]) -> None:
        self._sync = sync
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        self._next: _Round | None = None

    def __call__(self) -> None:
        """Return when a sync has ended that has begun after this call. Blocks.

        Raises:
            Exception: That sync failed. What it was for is not on the disk, and won't be
                if it is tried again (fsync(2)).
        """
        with self._lock:
            leads = self._next is None
            this = self._next = self._next or _Round()
        if leads:
            self._lead(this)
        this.ended.wait()
        if this.error is not None:
            raise this.error

    def _lead(self, this: _Round) -> None:
        with self._turn:
            with self._lock:
                self._next = None  # it begins: those who come from now on have the next
            try:
                self._sync()
            except BaseException as error:  # noqa: BLE001 - raised to all who wait for it
                this.error = error
            finally:
                this.ended.set()


class _Round:
    """One sync, and who waits for it."""

    def __init__(self) -> None:
        self.ended: threading.Event = threading.Event()
        self.error: BaseException | None = None
