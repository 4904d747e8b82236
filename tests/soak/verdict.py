"""Whether all was kept that was promised: to clients, about runs, and on the disk."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from starlette_upload_keepalive.spool.layout import CLAIMED, CORRUPT, DEAD, OWNERS, READY, TRASH

from .journal import Line
from .processes import Life
from .requests import KINDS, Sent


def violations(
    sent: Iterable[Sent], lines: Sequence[Line], lives: Sequence[Life], root: Path
) -> list[str]:
    """Return what broke a promise, in words.

    Args:
        sent: What the clients have sent.
        lines: The journal of all processes.
        lives: All processes of servers, by number.
        root: The directory of the spool, after all have ended.
    """
    jobs = runs_by_job(lines)
    seen = {line.life: line.at for line in lines}
    return [
        *wrong_answers(sent, jobs, cut_off=any(len(life.told) > 1 for life in lives)),
        *[wrong for job, runs in jobs.items() for wrong in wrong_runs(job, runs, lives, seen)],
        *[wrong for job, runs in jobs.items() for wrong in wrong_counts(job, runs, lives)],
        *leftovers(root),
    ]


class Run:
    """One attempt at a job, as the journal tells of it."""

    def __init__(self, start: Line) -> None:
        self.start = start
        self.end: Line | None = None
        self.noted: Line | None = None

    def add(self, line: Line) -> None:
        if line.what == "noted":
            self.noted = line
        else:
            self.end = line


def runs_by_job(lines: Iterable[Line]) -> dict[str, list[Run]]:
    """Group the journal by job."""
    jobs = defaultdict[str, list[Run]](list)
    for line in lines:
        runs = jobs[line.job]
        if line.what == "start":
            runs.append(Run(line))
        else:
            # Several lives may be at it, wrongly: each goes on with its own.
            [*_, own] = [run for run in runs if run.start.life == line.life]
            own.add(line)
    return jobs


def wrong_answers(
    sent: Iterable[Sent], jobs: Mapping[str, Sequence[Run]], *, cut_off: bool
) -> Iterator[str]:
    """Find requests of which not all was done, or not what was answered."""
    # A second interrupt has uvicorn cancel requests, and answer so.
    broken_off: set[int | None] = {None, 500} if cut_off else {None}
    by_file = defaultdict[str, list[tuple[str, Run]]](list)
    for job, runs in jobs.items():
        for run in runs:
            by_file[run.start.file].append((job, run))
    for request in sent:
        kind, names = KINDS[request.path], sorted(request.files)
        title = f"{request.path} {names} ({request.status})"
        if request.status not in ({400} if kind.path == "/refused" else {200, 202}) | broken_off:
            yield f"{title}: it should have been answered otherwise"
        ran = [(name, *each) for name in names for each in by_file.pop(name, [])]
        found = {(run.start.task, name, job) for name, job, run in ran}
        tasks = Counter((task, name) for task, name, _ in found)
        wanted = Counter((task, name) for task in kind.tasks for name in names)
        # Without an answer, all of it or nothing.
        if tasks != wanted and (tasks or request.acknowledged):
            yield f"{title}: missing {dict(wanted - tasks)}, too many {dict(tasks - wanted)}"
        if request.jobs and set(request.jobs) != {job for _, _, job in found}:
            yield f"{title}: other jobs were run than it was told: {found}"
        yield from wrong_bytes(request, found, jobs)
    for name in by_file:
        yield f"{name}: nobody has sent it"


def wrong_bytes(
    request: Sent, found: Iterable[tuple[str, str, str]], jobs: Mapping[str, Sequence[Run]]
) -> Iterator[str]:
    """Find runs that have read other bytes than were sent."""
    for task, name, job in found:
        for run in jobs[job]:
            end = run.end
            if end is not None and end.what == "end" and end.sha256 != request.files[name]:
                yield f"{job} ({task} of {name}): it has read other bytes"


def wrong_runs(
    job: str, runs: Sequence[Run], lives: Sequence[Life], seen: Mapping[int, float]
) -> Iterator[str]:
    """Find runs of a job that there should not be, and a job that was not run to its end."""
    for run, following in pairwise(runs):
        life, start = lives[run.start.life], following.start
        if start.attempt <= run.start.attempt:
            yield f"{job}: attempt {start.attempt} comes after attempt {run.start.attempt}"
        if start.at < end_of(run, life, seen):
            yield f"{job}: it was run twice at a time"
        elif run.noted is not None:
            yield f"{job}: it was run again, although its end was noted"
        elif (run.end is None or run.end.what != "raised") and start.at < life.ending_at:
            yield f"{job}: it was run again, although life {life.number} was not to end yet"
    if not runs or runs[-1].end is None or runs[-1].end.what != "end":
        yield f"{job}: it was not run to its end"


def end_of(run: Run, life: Life, seen: Mapping[int, float]) -> float:
    """Return when a run has ended at the earliest."""
    if run.end is not None:
        return run.end.at
    # A thread ends with its process, which lived when it was last seen.
    return max(life.ending_at, seen[life.number])


def wrong_counts(job: str, runs: Sequence[Run], lives: Sequence[Life]) -> Iterator[str]:
    """Find failures and crashes that were counted and are none: to be told to end is neither."""
    failures = killed = 0
    for number, run in enumerate(runs):
        # One that was killed before its handler's first line was not seen.
        crashes = killed + run.start.attempt - 1 - number
        if run.start.failures > failures:
            yield f"{job}: {run.start.failures} failures were counted, and {failures} seen"
        if run.start.crashes > crashes:
            yield f"{job}: {run.start.crashes} crashes were counted, and {crashes} seen"
        failures += run.end is not None and run.end.what == "raised"
        killed += lives[run.start.life].killed_at < math.inf


def leftovers(root: Path) -> Iterator[str]:
    """Find what should not be in a spool that nobody uses and that has nothing to do."""
    for folder in (CLAIMED, CORRUPT, DEAD, OWNERS, READY, TRASH):
        for path in sorted((root / folder).iterdir()):
            inside = [each.name for each in path.iterdir()] if path.is_dir() else []
            yield f"{path.relative_to(root)} is left over: {inside[:5]}"
