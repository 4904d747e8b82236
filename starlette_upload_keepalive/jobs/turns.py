"""Whose turn it is: fair between handlers, by priority, within their limits."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Generic, Protocol, TypeVar

from .work import Work


class Waiting(Protocol):
    """What stands in a line."""

    _work: Work
    _waiting_since: float


W = TypeVar("W", bound=Waiting)


class Turns(Generic[W]):
    """The jobs that wait for one kind of place: for a thread, or for a task.

    Stride scheduling (Waldspurger and Weihl 1995): each handler is as far as
    the turns it had, weighted by its priority, and the one that is least far is
    next. So a handler with few jobs need not wait behind another's thousands,
    and one of low priority has fewer turns, but has them. The jobs of one
    handler start in the order in which they came.

    Args:
        places: How many jobs may run at once.
    """

    def __init__(self, places: int) -> None:
        self._places = places
        self._busy = 0
        self._lines: dict[Work, _Line[W]] = {}
        self._waiting: dict[Work, _Line[W]] = {}  # those of them in which jobs wait
        self._distance = 0.0  # of the handler that had the last turn

    @property
    def busy(self) -> int:
        """How many places are taken."""
        return self._busy

    @property
    def oldest(self) -> float | None:
        """Since when the job waits that has waited longest (``time.monotonic()``)."""
        return min([line.oldest for line in list(self._waiting.values())], default=None)

    def __len__(self) -> int:
        return sum(len(line.jobs) for line in self._waiting.values())

    def add(self, job: W) -> None:
        """Let a job wait."""
        line = self._lines.get(job._work)
        if line is None:
            line = self._lines[job._work] = _Line(job._work)
        if not line.jobs:
            # What it did not use while it had no jobs is no credit.
            line.distance = max(line.distance, self._distance)
            line.oldest = job._waiting_since
            self._waiting[job._work] = line
        line.jobs[job] = None

    def remove(self, job: W) -> bool:
        """Let a job wait no longer; False if it does not."""
        line = self._waiting.get(job._work)
        if line is None or job not in line.jobs:
            return False
        self._take(line, job)
        return True

    def claim(self) -> W | None:
        """Give the next job a place, if there is one for it."""
        if not self._waiting or self._busy >= self._places:
            return None
        ready = [line for line in self._waiting.values() if line.has_place]
        if not ready:
            return None
        line = min(ready, key=_distance)
        job = next(iter(line.jobs))
        self._take(line, job)
        self._distance = line.distance
        line.distance += line.stride
        line.running += 1
        self._busy += 1
        return job

    def leave(self, job: W) -> None:
        """Free the place of a job."""
        self._lines[job._work].running -= 1
        self._busy -= 1

    def take_all(self) -> list[W]:
        """Let no job wait any longer, and return them."""
        jobs = [job for line in self._waiting.values() for job in line.jobs]
        for job in jobs:
            self.remove(job)
        return jobs

    def _take(self, line: _Line[W], job: W) -> None:
        del line.jobs[job]
        if line.jobs:
            line.oldest = next(iter(line.jobs))._waiting_since
        else:
            del self._waiting[line.work]


class _Line(Generic[W]):
    """The jobs of one handler that wait."""

    __slots__ = ("distance", "jobs", "limit", "oldest", "running", "stride", "work")

    def __init__(self, work: Work) -> None:
        self.work = work
        self.limit = work.options.max_concurrency
        self.stride = 2.0**-work.options.priority
        self.distance = 0.0
        self.oldest = 0.0  # kept here, because other threads ask
        self.running = 0
        # Not a deque: any of them may be cancelled.
        self.jobs: OrderedDict[W, None] = OrderedDict()

    @property
    def has_place(self) -> bool:
        return self.limit is None or self.running < self.limit


def _distance(line: _Line[Any]) -> float:
    return line.distance
