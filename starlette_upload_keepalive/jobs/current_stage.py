"""Where the jobs wait that are submitted here."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any, Protocol


class TakesJobs(Protocol):
    """Takes the jobs that are submitted to handlers."""

    parent_id: str | None

    @property
    def ended(self) -> bool:
        """Whether it takes no more, so that they are submitted as from anywhere else."""
        ...

    def add(self, staged: Any) -> None:
        """Take a job.

        Raises:
            NotAccepted: It is not to run.
            NotRunning: It can't run.
            NotDurable: It can't be kept.
        """

    def next_child_id(self) -> str | None:
        """Return the id of the next job; None if any will do."""


current_stage: ContextVar[TakesJobs | None] = ContextVar("current_stage", default=None)
"""That of the request that is served here, or of the job whose handler runs here."""
