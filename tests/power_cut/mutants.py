"""Faults that a spool could have, put into what it was seen to do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from .log import Event, Named, Noted, Synced
from .persistence import Disorder, Remains


class Mutant(NamedTuple):
    """A recording with one fault.

    Attributes:
        kind: Which fault.
        where: What is not done, or not in its order.
        events: What would have happened.
    """

    kind: Literal["without a sync", "swapped rename", "told early"]
    where: str
    events: Sequence[Event]


def mutants(events: Sequence[Event]) -> Iterator[Mutant]:
    """Go over all faults of a recording, one at a time."""
    yield from _without_a_sync(events)
    yield from _swapped_renames(events)
    yield from _told_early(events)


def _without_a_sync(events: Sequence[Event]) -> Iterator[Mutant]:
    for number, event in enumerate(events):
        if isinstance(event, Synced):
            yield Mutant("without a sync", event.where, [*events[:number], *events[number + 1 :]])


def _swapped_renames(events: Sequence[Event]) -> Iterator[Mutant]:
    """Swap each rename with the step before and the step after, where a disk would let it pass."""
    steps = _steps(events)
    for number in range(len(steps) - 1):
        first, second = steps[number], steps[number + 1]
        noted = any(isinstance(event, Noted) for event in (*first, *second))
        if noted or not (_is_rename(first) or _is_rename(second)):
            continue
        swapped = [*steps[:number], second, first, *steps[number + 2 :]]
        mutant = [event for step in swapped for event in step]
        if _is_possible(mutant):
            yield Mutant("swapped rename", f"{_name(first)} / {_name(second)}", mutant)


def _told_early(events: Sequence[Event]) -> Iterator[Mutant]:
    """Tell that jobs are accepted before the last sync of them has ended."""
    for number, event in enumerate(events):
        if isinstance(event, Noted) and event.what == "accepted":
            last = next(n for n in range(number, -1, -1) if isinstance(events[n], Synced))
            early = [*events[:last], event, *events[last:number], *events[number + 1 :]]
            yield Mutant("told early", "accept", early)


def _steps(events: Sequence[Event]) -> list[list[Event]]:
    """Return the events of each call of the disk; what was noted is a step of its own."""
    steps = list[list[Event]]()
    for event in events:
        last = steps[-1][-1] if steps else None
        together = (
            last is not None
            and last.step == event.step
            and not isinstance(event, Noted)
            and not isinstance(last, Noted)
        )
        if together:
            steps[-1].append(event)
        else:
            steps.append([event])
    return steps


def _is_rename(step: Sequence[Event]) -> bool:
    return any(isinstance(event, Named) and event.before and event.after for event in step)


def _is_possible(events: Sequence[Event]) -> bool:
    remains = Remains()
    try:
        for event in events:
            remains.add(event)
    except Disorder:
        return False
    return True


def _name(step: Sequence[Event]) -> str:
    event = step[-1]
    if isinstance(event, Synced):
        return f"sync by {event.where}"
    if isinstance(event, Named):
        return "rename" if event.before and event.after else "name"
    return "write"
