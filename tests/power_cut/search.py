"""Goes through all that power cuts may leave of a scenario, and looks whether all holds."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from .log import Event, Noted
from .model_disk import ROOT, Files
from .persistence import Remains
from .promises import Broken, Expected, Promises
from .restart import restart, settled
from .world import Scenario, World, by_the_model

# No number that stands for chance is drawn twice.
EACH = 1_000_000
# Of what a second cut may leave, at each moment.
FEW = 10


class Recording(NamedTuple):
    """What happened.

    Attributes:
        events: All of it, in order.
        expected: What each job must be.
        durable: How many events are past, and all durable.
    """

    events: Sequence[Event]
    expected: Mapping[str, Expected]
    durable: int = 0


class Left(NamedTuple):
    """What a power cut may leave.

    Attributes:
        files: The files.
        promises: What was promised by then.
        key: What is equal of two that are.
        after: How many events there were before.
    """

    files: Files
    promises: Promises
    key: int
    after: int


def record(scenario: Scenario) -> Recording:
    """Run a scenario."""
    world = World()
    try:
        with by_the_model():
            scenario(world)
    finally:
        world.close()
    return Recording(tuple(world.files.log), world.expected)


def contents(files: Files, directory: int = ROOT) -> object:
    """Return what is equal of files that are the same by name and content."""
    return frozenset(
        (
            name,
            contents(files, inode) if inode in files.directories else files.data[inode],
        )
        for name, (_, inode) in files.directories[directory].items()
    )


@dataclass
class Search:
    """Looks at what may be left, once at each.

    Args:
        most: As for `Remains.states`.
        seed: What chance begins with.
        again: How often of a thousand the power is cut once more, after the restart.
    """

    most: int = 2000
    seed: int = 0
    again: int = 0
    seen: set[int] = field(default_factory=set[int])
    is_whole: bool = True
    """Whether nothing was left to chance."""
    broken: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])

    def __post_init__(self) -> None:
        self._chance = random.Random(self.seed)

    def look(self, name: str, recording: Recording, *, first: bool = False) -> bool:
        """Look at all of a recording that was not seen before.

        Args:
            name: What is told of what is broken.
            recording: What happened.
            first: Return when one is broken.

        Returns:
            Whether all holds.
        """
        return self._look(name, recording, Promises(), 1, first=first)

    def _look(
        self, name: str, recording: Recording, promises: Promises, cut: int, *, first: bool
    ) -> bool:
        holds = True
        for left in self.lefts(recording, promises, self.most if cut == 1 else FEW):
            if left.key in self.seen:
                continue
            self.seen.add(left.key)
            once_more = cut == 1 and self._chance.randrange(1000) < self.again
            before = settled(left.files) if once_more else []
            try:
                with by_the_model(cut * EACH):
                    world = restart(left.files, recording.expected, left.promises)
            except Broken as error:
                holds = False
                self.broken.append((f"{name} after {left.after} events", str(error)))
                if first:
                    return False
                continue
            if once_more:
                more = Recording([*before, *left.files.log], world.expected, len(before))
                if not self._look(f"{name}, again", more, left.promises, 2, first=first):
                    holds = False
        return holds

    def lefts(self, recording: Recording, promises: Promises, most: int) -> Iterator[Left]:
        """Go over what may be left, whenever the power is cut; the same may come twice."""
        events, remains, moments = recording.events, Remains(), list[int]()
        for number, event in enumerate(events):
            if number >= recording.durable and remains.changes(event):
                moments.append(number)
            remains.add(event)
        # The last comes first: the more was promised, the sooner something is broken.
        for moment in [len(events), *reversed(moments)]:
            remains, promised = Remains(), promises
            for event in events[:moment]:
                remains.add(event)
                if isinstance(event, Noted):
                    promised = promised.after(event)
            yield from self._lefts(remains, promised, moment, most)

    def _lefts(
        self, remains: Remains, promises: Promises, number: int, most: int
    ) -> Iterator[Left]:
        self.is_whole = self.is_whole and remains.ways <= most
        promised = promises.key
        for files in remains.states(most, self._chance):
            yield Left(files, promises, hash((promised, contents(files))), number)
