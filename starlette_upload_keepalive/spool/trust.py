"""Whether a disk is to be trusted: never again once it has failed."""

from __future__ import annotations

import errno
from collections.abc import Generator
from contextlib import contextmanager

_FAILED = "The disk has failed. Look at it, and start the app again: nothing is accepted before."


class Trust:
    """Knows of the first failure of a disk, for any thread.

    What an fsync has lost is not written by the next, which reports success
    (fsync(2), and PostgreSQL's "fsyncgate" of 2018).
    """

    def __init__(self) -> None:
        self._failure: OSError | None = None

    @contextmanager
    def watched(self) -> Generator[None, None, None]:
        """Do something that counts only on a disk that has never failed.

        Raises:
            OSError: It fails now, or has failed before; the error says what to do.
        """
        self._check()
        try:
            yield
        except OSError as error:
            if error.errno == errno.EIO:
                self._failure = self._failure or error
            self._check()
            raise

    def _check(self) -> None:
        if self._failure is not None:
            raise OSError(errno.EIO, _FAILED) from self._failure
