"""How much is going on, at a glance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import InitVar, dataclass
from functools import cached_property
from typing import cast

from .job_state import JobState
from .owned_upload import OwnedUpload

_Look = Callable[[], Sequence[OwnedUpload]]


@dataclass(frozen=True, kw_only=True)
class Stats:
    """How much is going on.

    Attributes:
        open_uploads: Stored files that somebody owns.
        memory_bytes: What they take of the memory budget: those in memory, and what is not yet
            written of others.
        disk_bytes: The bytes of those that are on disk.
        jobs: How many jobs are in each state; of those that are done, how many ever were.
        oldest_waiting_seconds: How long the job has waited that has waited longest for a
            free thread, task or process; None if none waits.
        busy_threads: How many ``handler_threads`` are taken.
        busy_tasks: How many ``handler_tasks`` are taken.
        busy_processes: How many ``handler_processes`` are taken.
    """

    open_uploads: int
    memory_bytes: int
    disk_bytes: int
    jobs: dict[JobState, int]
    oldest_waiting_seconds: float | None
    busy_threads: int
    busy_tasks: int
    busy_processes: int
    look: InitVar[_Look]

    def __post_init__(self, look: _Look) -> None:
        # No field: a health check that answers with all of them shall not tell the world.
        vars(self)["_look"] = look

    @cached_property
    def owned(self) -> Sequence[OwnedUpload]:
        """Who owns which upload, those first who have for longest.

        It is looked up when it is first asked for, as it is then. Several may be
        views of one stored file.
        """
        return cast("_Look", vars(self)["_look"])()
