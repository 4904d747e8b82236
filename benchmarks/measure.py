"""Rounds, medians, tables: how every figure is measured.

Contenders that do the same thing take turns, each round in another order, and
each is compared with the first one of its own round: whatever else the machine
does meanwhile hits all of them alike. What is told is the median, and how far
the middle half of the rounds lies apart.
"""

from __future__ import annotations

import gc
import random
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias, TypeVar

T = TypeVar("T")
# A run is timed, unless it returns what it has measured itself.
Run: TypeAlias = "Callable[[], Awaitable[Sequence[float] | None]]"


class WrongResult(Exception):
    """A contender did not do what it is measured for."""


@dataclass(frozen=True)
class Contender:
    """One way to do what a race is about.

    Attributes:
        name: What the table calls it.
        run: Does it once. Only this is timed; or it returns a cost for each unit of the race,
            each above zero.
        check: Does it once as well, and raises `WrongResult` if it was not done right.
    """

    name: str
    run: Run
    check: Callable[[], Awaitable[object]]


@dataclass(frozen=True)
class Unit:
    """What figures are told in.

    Attributes:
        name: "MB/s" or "µs".
        amount: What one run amounts to if the unit is a rate, else how many of the unit make one
            of what is measured: a second, if it is time.
        is_rate: Whether more is better.
        what: What is measured, if that is not the time that a run takes.
    """

    name: str
    amount: float
    is_rate: bool
    what: str = ""

    def figure(self, cost: float) -> float:
        """Return what a run that took that much comes to."""
        return self.amount / cost if self.is_rate else self.amount * cost

    def of(self, what: str) -> Unit:
        """Return the same unit for something else that is measured."""
        return replace(self, what=what)


MILLISECONDS = Unit("ms", 1e3, is_rate=False)
MICROSECONDS = Unit("µs", 1e6, is_rate=False)
NANOSECONDS = Unit("ns", 1e9, is_rate=False)


@dataclass(frozen=True)
class Middle:
    """The median of the rounds and their middle half."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Middle:
        """Summarise one value for each round."""
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, low, high)


@dataclass(frozen=True)
class Row:
    """What one contender came to.

    Attributes:
        name: The contender.
        figure: In the unit of the table.
        ratio: How many times as good as the first contender: as fast, or as little.
        more: How much more it takes than the first contender, in the unit of the table.
    """

    name: str
    figure: Middle
    ratio: Middle
    more: Middle


@dataclass(frozen=True)
class Table:
    """What a race came to; the first contender is what the others are compared with.

    Attributes:
        title: What they did.
        unit: What the figures are told in.
        names: The contenders.
        rounds: What a run took, in each round for each contender.
    """

    title: str
    unit: Unit
    names: Sequence[str]
    rounds: Sequence[Sequence[float]]

    @classmethod
    def mean(cls, title: str, tables: Sequence[Table], names: Sequence[str]) -> Table:
        """Return the geometric mean of tables, round by round, for those who are in all of them."""
        rounds = [
            [
                statistics.geometric_mean([table.cost(turn, name) for table in tables])
                for name in names
            ]
            for turn in range(len(tables[0].rounds))
        ]
        return cls(title, MICROSECONDS, names, rounds)

    def cost(self, turn: int, name: str) -> float:
        """Return what a run took one contender in one round."""
        return self.rounds[turn][self.names.index(name)]

    @property
    def rows(self) -> list[Row]:
        """The contenders, summarised."""
        figure, rounds = self.unit.figure, self.rounds
        return [
            Row(
                name,
                figure=Middle.of([figure(costs[i]) for costs in rounds]),
                ratio=Middle.of([costs[0] / costs[i] for costs in rounds]),
                more=Middle.of([figure(costs[i]) - figure(costs[0]) for costs in rounds]),
            )
            for i, name in enumerate(self.names)
        ]

    def __str__(self) -> str:
        """Lay it out for people."""
        name = max(map(len, self.names))
        lines = [
            self.title,
            f"{'':{name}}  {self.unit.name:>10}  {'middle half':>17}  {'ratio':>6}  middle half",
        ]
        for i, row in enumerate(self.rows):
            line = (
                f"{row.name:{name}}  {digits(row.figure.median):>10}  "
                f"{digits(row.figure.low):>8}-{digits(row.figure.high):<8}  "
                f"{row.ratio.median:>6.2f}  {row.ratio.low:>5.2f}-{row.ratio.high:<5.2f}"
            )
            if not self.unit.is_rate and i > 0:
                line += f"  {digits(row.more.median, sign='+')} {self.unit.name}"
            lines.append(line.rstrip())
        return "\n".join(lines)


@dataclass
class Bench:
    """One session of benchmarks: how thorough it is, and what it found.

    Attributes:
        rounds: How often each contender has its turn.
        quick: Only see that everything works; the figures mean nothing.
        slow_disk: A directory on a disk that is slow, if there is one.
        tables: The results so far.
    """

    rounds: int
    quick: bool = False
    slow_disk: Path | None = None
    tables: list[Table] = field(default_factory=list[Table])

    def pick(self, size: T, *, quick: T) -> T:
        """Return a size, or the one that is to be used for a quick look."""
        return quick if self.quick else size

    async def race(
        self,
        title: str,
        units: Unit | Sequence[Unit],
        contenders: Sequence[Contender],
        *,
        repeat: int = 1,
    ) -> None:
        """Check all contenders, let them take turns, and print a table for each unit.

        Args:
            title: What they do.
            units: What the figures are told in; several if the runs measure so much themselves.
            contenders: The first is what the others are compared with.
            repeat: How many runs are timed as one, where a single one is too short.

        Raises:
            WrongResult: A contender did not do what it should.
        """
        for contender in contenders:
            await contender.check()
        rounds = [await _round(contenders, repeat, turn) for turn in range(self.rounds)]
        names = [contender.name for contender in contenders]
        for i, unit in enumerate([units] if isinstance(units, Unit) else units):
            measured = [[costs[i] for costs in turn] for turn in rounds]
            self.add(Table(f"{title}: {unit.what}" if unit.what else title, unit, names, measured))

    def mean(self, title: str, names: Sequence[str], *, of: Sequence[Table]) -> None:
        """Print the geometric mean of tables, for the contenders that are in all of them."""
        self.add(Table.mean(title, of, names))

    def add(self, table: Table) -> None:
        """Keep a table, and print it."""
        self.tables.append(table)
        print(f"\n{table}", flush=True)


async def _round(
    contenders: Sequence[Contender], repeat: int, turn: int
) -> Sequence[Sequence[float]]:
    """Give each contender one turn; return what a run took each of them."""
    order = random.Random(turn).sample(range(len(contenders)), k=len(contenders))
    costs = {i: await _turn(contenders[i].run, repeat) for i in order}
    return [costs[i] for i in range(len(contenders))]


async def _turn(run: Run, repeat: int) -> Sequence[float]:
    measured: Sequence[float] | None = None
    gc.collect()
    start = time.perf_counter()
    for _ in range(repeat):
        measured = await run()
    seconds = (time.perf_counter() - start) / repeat
    return [seconds] if measured is None else measured


def digits(value: float, *, sign: str = "") -> str:
    """Return a number with three digits, or with all those before its point."""
    return f"{value:{sign},.0f}" if abs(value) >= 100 else f"{value:{sign}.3g}"
