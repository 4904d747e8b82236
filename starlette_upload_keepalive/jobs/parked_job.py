"""A job that waits in the spool, and for its turn here."""

from __future__ import annotations

import time

from .spool import WaitingJob
from .work import Work


class ParkedJob:
    """Stands in its handler's line for a job whose bytes are with the spool.

    Args:
        work: The handler.
        waiting: The job, as the spool tells of it.
    """

    __slots__ = ("_waiting_since", "_work", "waiting")

    def __init__(self, work: Work, waiting: WaitingJob) -> None:
        self._work: Work = work
        self._waiting_since: float = time.monotonic()
        self.waiting: WaitingJob = waiting

    @property
    def due_in(self) -> float:
        """The seconds until it may be claimed; negative if it may be."""
        standing = self.waiting.standing
        # What was never started waits for nothing: it was made when the clock was ahead.
        return standing.due - time.time() if standing.attempts else 0.0
