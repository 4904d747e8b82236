"""Rounds, medians, tables: how every figure is measured.

Contenders that do the same thing take turns, each round in another order, and
each is compared with the first one of its own round: whatever else the machine
does meanwhile hits all of them alike. What is told is the median, and how far
the middle half of the rounds lies apart.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

T = TypeVar("T")
Run = Callable[[], Awaitable[object]]


class WrongResult(Exception):
    """A contender did not do what it is measured for."""


@dataclass(frozen=True)
class Contender:
    """One way to do what a race is about.

    Attributes:
        name: What the table calls it.
        run: Does it once. Only this is timed.
        check: Does it once as well, and raises `WrongResult` if it was not done right.
    """

    name: str
    run: Run
    check: Run


@dataclass(frozen=True)
class Unit:
    """What figures are told in.

    Attributes:
        name: "MB/s" or "µs".
        amount: What one run amounts to if the unit is a rate, else the units in a second.
        is_rate: Whether more is better.
    """

    name: str
    amount: float
    is_rate: bool

    def figure(self, seconds: float) -> float:
        """Return what a run that took that long comes to."""
        return self.amount / seconds if self.is_rate else self.amount * seconds


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
        speed: How many times as fast as the first contender.
        more: How much more it takes than the first contender, in the unit of the table.
    """

    name: str
    figure: Middle
    speed: Middle
    more: Middle


@dataclass(frozen=True)
class Table:
    """What a race came to; the first row is what the others are compared with."""

    title: str
    unit: Unit
    rounds: int
    rows: Sequence[Row]

    def __str__(self) -> str:
        """Lay it out for people."""
        name = max(len(row.name) for row in self.rows)
        lines = [
            self.title,
            f"{'':{name}}  {self.unit.name:>10}  {'middle half':>17}  {'speed':>6}  middle half",
        ]
        for row in self.rows:
            line = (
                f"{row.name:{name}}  {_digits(row.figure.median):>10}  "
                f"{_digits(row.figure.low):>8}-{_digits(row.figure.high):<8}  "
                f"{row.speed.median:>6.2f}  {row.speed.low:>5.2f}-{row.speed.high:<5.2f}"
            )
            if not self.unit.is_rate and row is not self.rows[0]:
                line += f"  {_digits(row.more.median, sign='+')} {self.unit.name}"
            lines.append(line.rstrip())
        return "\n".join(lines)


@dataclass
class Bench:
    """One session of benchmarks: how thorough it is, and what it found.

    Attributes:
        rounds: How often each contender has its turn.
        quick: Only see that everything works; the figures mean nothing.
        tables: The results so far.
    """

    rounds: int
    quick: bool = False
    tables: list[Table] = field(default_factory=list[Table])

    def pick(self, size: T, *, quick: T) -> T:
        """Return a size, or the one that is to be used for a quick look."""
        return quick if self.quick else size

    async def race(
        self, title: str, unit: Unit, contenders: Sequence[Contender], *, repeat: int = 1
    ) -> None:
        """Check all contenders, let them take turns, and print the table.

        Args:
            title: What they do.
            unit: What the figures are told in.
            contenders: The first is what the others are compared with.
            repeat: How many runs are timed as one, where a single one is too short.

        Raises:
            WrongResult: A contender did not do what it should.
        """
        for contender in contenders:
            await contender.check()
        rounds = [await _round(contenders, repeat, turn) for turn in range(self.rounds)]
        rows = [
            Row(
                contender.name,
                figure=Middle.of([unit.figure(took[i]) for took in rounds]),
                speed=Middle.of([took[0] / took[i] for took in rounds]),
                more=Middle.of([unit.figure(took[i]) - unit.figure(took[0]) for took in rounds]),
            )
            for i, contender in enumerate(contenders)
        ]
        table = Table(title, unit, self.rounds, rows)
        self.tables.append(table)
        print(f"\n{table}", flush=True)


async def _round(contenders: Sequence[Contender], repeat: int, turn: int) -> list[float]:
    """Give each contender one turn; return the seconds that a run took each of them."""
    seconds = [0.0] * len(contenders)
    for place in range(len(contenders)):
        i = (place + turn) % len(contenders)
        run = contenders[i].run
        gc.collect()
        start = time.perf_counter()
        for _ in range(repeat):
            await run()
        seconds[i] = (time.perf_counter() - start) / repeat
    return seconds


def _digits(value: float, *, sign: str = "") -> str:
    return f"{value:{sign},.0f}" if abs(value) >= 100 else f"{value:{sign}.3g}"
