"""Where jobs wait for a free thread or task: in memory."""

from __future__ import annotations

from collections import deque
from typing import Any

from .job import Job, RunIn


class MemorySpool:
    """The jobs that wait, first in, first out. Lost with the process."""

    def __init__(self) -> None:
        self._waiting: dict[RunIn, deque[Job[Any]]] = {"thread": deque(), "loop": deque()}

    def publish(self, job: Job[Any]) -> None:
        """Let a job wait for a thread, or for a task of the event loop."""
        self._waiting[job.run_in].append(job)

    def claim(self, run_in: RunIn) -> Job[Any] | None:
        """Take the job that has waited longest, if one waits."""
        waiting = self._waiting[run_in]
        return waiting.popleft() if waiting else None

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))
