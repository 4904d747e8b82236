"""The tables of one benchmark as files: CSV for programs, and an SVG for people.

The drawing shows ratios only, since those are what holds on other machines as well.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

from .measure import Row, Table, digits

COLUMNS = [
    *("title", "contender", "unit", "median", "low", "high"),
    *("ratio", "ratio_low", "ratio_high", "rounds"),
]

# As wide as the page of the docs, so that the text is as large as the page's.
_WIDTH, _LABELS, _BARS, _LINE = 740, 230, 360, 18
_TOP, _BOTTOM = 100, 40
_HEADING = _LINE + 10
_TICKS = [base * 10.0**exponent for exponent in range(-3, 5) for base in (1, 2, 5)]
_STYLE = """
  text { font: 12px sans-serif; fill: #222 }
  .title { font-size: 16px; font-weight: bold }
  .heading { font-weight: bold }
  .label, .note { fill: #555 }
  .label { text-anchor: end }
  .tick { text-anchor: middle; fill: #555 }
  .grid { stroke: #ddd }
  .one { stroke: #222 }
  .half { stroke: #222; stroke-width: 2 }
  .ours { fill: #2a78b8 }
  .other { fill: #b0b0b0 }
"""


def write(
    directory: Path, name: str, title: str, tables: Sequence[Table], machine: Sequence[str]
) -> None:
    """Write the files of one benchmark.

    Args:
        directory: Where they go; it is made if need be.
        name: How they are called, less the suffix.
        title: What is written above the drawing.
        tables: What was measured.
        machine: Where, and of which versions.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with Path(directory, f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(line for table in tables for line in _csv(table))
    drawing = "\n".join(_svg(title, tables, machine))
    Path(directory, f"{name}.svg").write_text(drawing + "\n", encoding="utf-8")


def _csv(table: Table) -> Iterator[Sequence[object]]:
    for row in table.rows:
        figure, ratio = row.figure, row.ratio
        figures = (figure.median, figure.low, figure.high, ratio.median, ratio.low, ratio.high)
        numbers = [f"{number:.4g}" for number in figures]
        yield [table.title, row.name, table.unit.name, *numbers, len(table.rounds)]


# The drawing


class _Scale:
    """A logarithmic axis that shows 1 and all ratios of the tables."""

    def __init__(self, tables: Sequence[Table]) -> None:
        ratios = [row.ratio for table in tables for row in table.rows]
        self._low = min(0.8, *(ratio.low for ratio in ratios))
        self._high = max(2.0, *(ratio.high for ratio in ratios))

    def x(self, ratio: float) -> float:
        share = math.log(ratio / self._low) / math.log(self._high / self._low)
        return _LABELS + _BARS * share

    @property
    def ticks(self) -> list[float]:
        return [tick for tick in _TICKS if self._low <= tick <= self._high]


def _svg(title: str, tables: Sequence[Table], machine: Sequence[str]) -> Iterator[str]:
    scale = _Scale(tables)
    lines = sum(len(table.names) - 1 for table in tables)
    floor = _TOP + len(tables) * _HEADING + lines * _LINE
    height = floor + _BOTTOM + len(machine) * _LINE
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" width="{_WIDTH}" height="{height}" '
        f'viewBox="0 0 {_WIDTH} {height}">'
    )
    yield f"<title>{escape(title)}</title>"
    yield f"<style>{_STYLE}</style>"
    yield f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>'
    yield _text("title", 12, 26, title)
    yield _text(
        "note", 12, 46, "How many times as good as what the heading names: as fast, or as little."
    )
    yield _text(
        "note", 12, 62, "Logarithmic scale; the dark line is the middle half of the rounds."
    )
    for tick in scale.ticks:
        x = scale.x(tick)
        kind = "one" if tick == 1 else "grid"
        yield f'<line class="{kind}" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP - 8}" y2="{floor}"/>'
        yield _text("tick", x, _TOP - 12, f"{tick:g}x")
        yield _text("tick", x, floor + 16, f"{tick:g}x")
    y = _TOP
    for table in tables:
        yield from _group(table, scale, y)
        y += _HEADING + _LINE * (len(table.names) - 1)
    for line in machine:
        y += _LINE
        yield _text("note", 12, y + 18, line)
    yield "</svg>"


def _group(table: Table, scale: _Scale, y: float) -> Iterator[str]:
    first, *others = table.rows
    # Over the lines of the grid, which would run through the heading.
    yield f'<rect y="{y + 4}" width="{_WIDTH}" height="{_LINE}" fill="#fff"/>'
    beside = f"beside {first.name}: {_figure(table, first)}"
    yield (
        f'<text x="12" y="{y + _HEADING - 10}"><tspan class="heading">{escape(table.title)}</tspan>'
        f'<tspan class="note" dx="8">{escape(beside)}</tspan></text>'
    )
    y += _HEADING
    for row in others:
        yield from _bar(table, row, scale, y)
        y += _LINE


def _bar(table: Table, row: Row, scale: _Scale, y: float) -> Iterator[str]:
    one, end = scale.x(1), scale.x(row.ratio.median)
    low, high = scale.x(row.ratio.low), scale.x(row.ratio.high)
    kind = "ours" if row.name.startswith("this package") else "other"
    middle = y + _LINE / 2 - 2
    yield _text("label", _LABELS - 8, y + _LINE - 6, row.name)
    yield (
        f'<rect class="{kind}" x="{min(one, end):.1f}" y="{y}" '
        f'width="{abs(end - one):.1f}" height="{_LINE - 4}"/>'
    )
    yield f'<line class="half" x1="{low:.1f}" x2="{high:.1f}" y1="{middle}" y2="{middle}"/>'
    told = f"{digits(row.ratio.median)}x ({_figure(table, row)})"
    yield _text("value", max(one, end, high) + 6, y + _LINE - 6, told)


def _figure(table: Table, row: Row) -> str:
    return f"{digits(row.figure.median)} {table.unit.name}"


def _text(kind: str, x: float, y: float, text: str) -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'
