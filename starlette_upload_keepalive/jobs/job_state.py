"""Where a job stands, and how far it is."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class JobState(str, Enum):
    """Where a job stands."""

    STAGED = "staged"
    """It waits for its request to be accepted and to end."""
    WAITING = "waiting"
    """It waits for a free thread, task or process."""
    RUNNING = "running"
    """Its handler is at work."""
    DELAYED = "delayed"
    """It waits for the time of its next attempt."""
    SUCCEEDED = "succeeded"
    """Its handler has returned."""
    FAILED = "failed"
    """Its handler has raised, and is not tried again."""
    CANCELLED = "cancelled"
    """It was cancelled, or the app was shut down first."""
    DISCARDED = "discarded"
    """Its request was not accepted or vetoed it, or its handler gave up on it."""


DONE = frozenset(
    {JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.DISCARDED},
)


@dataclass(frozen=True)
class Progress:
    """How far a job is.

    Attributes:
        fraction: From 0 to 1.
        message: What it is doing, for people.
    """

    fraction: float
    message: str = ""
