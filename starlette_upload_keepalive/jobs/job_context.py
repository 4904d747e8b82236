"""What a handler knows of its job, and may tell of it."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Protocol

from anyio.lowlevel import checkpoint

from .job_state import Progress


class Told(Protocol):
    """The job, as its handler may know it: the job itself, or what stands for it elsewhere."""

    id: str
    attempt: int

    def _note(self, progress: Progress) -> None: ...

    def _sees_stop(self) -> bool: ...


class JobContext:
    """What a handler knows of its job; annotate its second parameter with it.

    Attributes:
        id: The job's id.
        attempt: Which attempt this is, counted from 1.
    """

    def __init__(self, job: Told) -> None:
        self._job = job
        self.id: str = job.id
        self.attempt: int = job.attempt

    @property
    def cancelled(self) -> bool:
        """Whether the handler is asked to stop.

        The app is shutting down, the job was cancelled, or it takes longer than
        its timeout. A handler in a thread can't be stopped from outside, so let
        it look here now and then; one that has seen this counts as stopped when
        it returns. One on the event loop is cancelled.
        """
        return self._job._sees_stop()

    def progress(self, fraction: float, message: str = "") -> Checkpoint:
        """Tell how far the job is. Takes effect at once.

        Args:
            fraction: From 0 to 1.
            message: What it is doing, for people.

        Returns:
            Something to await on the event loop, so that others get a turn. In
            a thread, just call.

        Raises:
            ValueError: The fraction is not from 0 to 1.
        """
        if not 0 <= fraction <= 1:
            raise ValueError(f"fraction must be from 0 to 1, not {fraction}.")
        self._job._note(Progress(fraction, message))
        return Checkpoint()


class Checkpoint:
    """Lets others have a turn when awaited, and need not be."""

    def __await__(self) -> Generator[Any, Any, None]:
        return checkpoint().__await__()
