"""How much is going on, at a glance."""

from __future__ import annotations

from dataclasses import dataclass

from .job_state import JobState


@dataclass(frozen=True, kw_only=True)
class Stats:
    """How much is going on.

    Attributes:
        open_uploads: Stored files that somebody owns.
        memory_bytes: The bytes of those that are in memory.
        disk_bytes: The bytes of those that are on disk.
        jobs: How many jobs are in each state; of those that are done, how many ever were.
        oldest_waiting_seconds: How long the job has waited that has waited longest for a
            free thread or task; None if none waits.
        busy_threads: How many ``handler_threads`` are taken.
        busy_tasks: How many ``handler_tasks`` are taken.
    """

    open_uploads: int
    memory_bytes: int
    disk_bytes: int
    jobs: dict[JobState, int]
    oldest_waiting_seconds: float | None
    busy_threads: int
    busy_tasks: int
