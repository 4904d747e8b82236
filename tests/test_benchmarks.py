"""The benchmarks run, each contender does its work, and a table says what was measured."""

from __future__ import annotations

import asyncio
import csv
import inspect
import io
import math
import os
import re
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from benchmarks import (
    form_contenders,
    measure,
    peers,
    report,
    save,
    stored,
    upload,
)
from benchmarks.__main__ import BENCHMARKS, main
from benchmarks.forms import MB, Form, Part
from benchmarks.measure import Bench, Contender, Table, Unit, WrongResult
from tests.celery_pollers import pollers_closed

NUMBER = r"([\d.,e+-]*\d)"
# The name of a contender, its figure and its ratio, each with the middle half of the rounds.
ROW = re.compile(rf"(\S.*?)  +{NUMBER} +{NUMBER}-{NUMBER} +{NUMBER} +{NUMBER}-{NUMBER}(?: .*)?")
# Before, FastAPI closed the files of a form before its BackgroundTasks had them.
BACKGROUND_TASKS = {"handlers", "server"}
THEY_GET_FILES = tuple(map(int, version("fastapi").split(".")[:2])) >= (0, 118)
STARLETTE_HAS_ALL_LIMITS = "max_part_size" in inspect.signature(Request.form).parameters
SVG = "{http://www.w3.org/2000/svg}"
HAS_PROC = Path("/proc/self/clear_refs").exists()


closed_pollers = pytest.fixture(pollers_closed)


@pytest.mark.usefixtures("closed_pollers")
@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_row_is_printed_with_figures(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    if name in BACKGROUND_TASKS and not THEY_GET_FILES:
        pytest.skip("the BackgroundTasks of this FastAPI get closed files")
    if name == "parse" and not STARLETTE_HAS_ALL_LIMITS:
        pytest.skip("this Starlette lacks a limit that its newer benchmarks set")
    if name == "upload" and not HAS_PROC:
        pytest.skip("this system does not tell what a process takes")

    main(["--quick", name])

    machine, *found, load = capsys.readouterr().out.strip().split("\n\n")
    # What is left out, and why, is one line.
    tables = [table for table in found if "\n" in table]
    assert "starlette-upload-keepalive" in machine
    assert load.startswith("Load: ")
    assert tables
    for table in tables:
        title, head, *lines = table.splitlines()
        rows = [ROW.fullmatch(line) for line in lines]
        assert title
        assert "ratio" in head
        assert len(rows) > 1
        for row in rows:
            assert row, table
            figures = [float(figure.replace(",", "")) for figure in row.groups()[1:]]
            assert all(0 < figure < math.inf for figure in figures), table


def test_tables_are_written_as_csv_and_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["--quick", "--write", str(tmp_path / "new"), "overhead"])

    with (tmp_path / "new" / "overhead.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == report.COLUMNS
    printed = capsys.readouterr().out
    assert all(row["title"] in printed and row["contender"] in printed for row in rows)
    root = ET.parse(tmp_path / "new" / "overhead.svg").getroot()
    texts = ["".join(text.itertext()) for text in root.iter(f"{SVG}text")]
    assert texts.count("this package") == len([row for row in rows if "this" in row["contender"]])
    assert any(text.startswith("starlette-upload-keepalive ") for text in texts)
    assert "mean nothing" in texts[0]


def test_bars_are_as_long_as_ratios_on_a_logarithmic_scale(tmp_path: Path) -> None:
    # Half as fast, as fast, twice and four times as fast as the first.
    costs = {"first": 4.0, "slow": 8.0, "same": 4.0, "this package": 2.0, "<fast> & more": 1.0}
    table = Table("Race", measure.MICROSECONDS, list(costs), [list(costs.values())] * 3)
    report.write(tmp_path, "race", "Title", [table], ["a machine"])

    root = ET.parse(tmp_path / "race.svg").getroot()
    bars = [bar for bar in root.iter(f"{SVG}rect") if bar.get("class") in {"ours", "other"}]
    lengths = [float(bar.attrib["width"]) for bar in bars]
    (one,) = [line for line in root.iter(f"{SVG}line") if line.get("class") == "one"]
    ends = [float(bar.attrib["x"]) + length for bar, length in zip(bars, lengths, strict=True)]
    assert lengths == pytest.approx([lengths[2], 0, lengths[2], 2 * lengths[2]], abs=0.2)
    assert ends[0] == pytest.approx(float(one.attrib["x1"]))
    assert [float(bar.attrib["x"]) for bar in bars[1:]] == [float(one.attrib["x1"])] * 3
    assert [bar.get("class") for bar in bars] == ["other", "other", "ours", "other"]
    texts = {"".join(text.itertext()) for text in root.iter(f"{SVG}text")}
    assert {"Racebeside first: 4,000,000 µs", "<fast> & more", "4x (1,000,000 µs)"} <= texts


def test_mean_of_tables_is_the_geometric_one_of_each_round() -> None:
    names = ["limit", "stock", "ours"]
    first = Table("First", measure.MICROSECONDS, names, [[1, 2, 1], [1, 4, 1]])
    second = Table("Second", measure.MICROSECONDS, names[1:], [[8, 1], [9, 1]])

    mean = Table.mean("Mean", [first, second], ["stock", "ours"])

    assert mean.rounds == [[pytest.approx(4), 1], [pytest.approx(6), 1]]
    assert mean.rows[1].ratio.median == pytest.approx(5)


def test_contenders_take_turns_and_are_compared_within_a_round(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 0.0
    turns: list[str] = []
    # For the check and three rounds; the machine gets slower and slower, for both alike.
    durations = {"slow": iter([0, 2, 4, 8]), "fast": iter([0, 1, 2, 4])}

    def contender(name: str) -> Contender:
        async def run() -> None:
            nonlocal now
            now += next(durations[name])
            turns.append(name)

        return Contender(name, run, check=run)

    monkeypatch.setattr("benchmarks.measure.time.perf_counter", lambda: now)
    bench = Bench(rounds=3)
    rate = Unit("MB/s", 200, is_rate=True)
    asyncio.run(bench.race("Race", rate, [contender("slow"), contender("fast")]))

    check, *rounds = zip(turns[::2], turns[1::2], strict=True)
    assert check == ("slow", "fast")
    assert set(rounds) == {("slow", "fast"), ("fast", "slow")}
    slow, fast = bench.tables[0].rows
    assert (slow.figure.median, fast.figure.median) == (50, 100)
    assert (fast.ratio.low, fast.ratio.median, fast.ratio.high) == (2, 2, 2)
    assert capsys.readouterr().out.count("\n") == len(["", "title", "head", "slow", "fast"])


def test_run_that_measures_by_itself_gives_a_table_for_each_unit(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def run() -> Sequence[float]:
        return [0.5, 2_000_000]

    units = [Unit("s", 1, is_rate=False), Unit("MB", 1e-6, is_rate=False, what="memory")]
    bench = Bench(rounds=2)
    asyncio.run(bench.race("Race", units, [Contender("one", run, run)]))

    assert [table.title for table in bench.tables] == ["Race", "Race: memory"]
    assert [table.rows[0].figure.median for table in bench.tables] == [0.5, 2]


def test_contender_that_does_not_do_its_work_is_not_measured() -> None:
    runs = 0

    async def run() -> None:
        nonlocal runs
        runs += 1

    async def check() -> None:
        raise WrongResult

    with pytest.raises(WrongResult):
        asyncio.run(
            Bench(rounds=1).race("Race", measure.MICROSECONDS, [Contender("lazy", run, check)])
        )
    assert runs == 0


@pytest.mark.parametrize(
    "stored",
    [
        pytest.param([Part("file", b"byte", "a.bin")], id="a byte short"),
        pytest.param([Part("file", b"Bytes", "a.bin")], id="another byte"),
        pytest.param([Part("file", b"bytes", "b.bin")], id="another name"),
        pytest.param([Part("field", b"bytes")], id="a field"),
        pytest.param([], id="nothing"),
    ],
)
def test_form_that_was_not_stored_as_sent_is_noticed(stored: list[Part]) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async with Request(scope, receive).form() as form:
            await form_contenders.compare(Form.of([Part("file", b"bytes", "a.bin")]), form)

    with pytest.raises(WrongResult):
        asyncio.run(Form.of(stored).post(app))


@pytest.mark.parametrize("contender", [form_contenders.starlette, form_contenders.ours])
def test_form_that_is_not_refused_is_noticed(contender: Callable[..., Contender]) -> None:
    good = Form.of([Part("file", b"bytes", "a.bin")])
    with pytest.raises(WrongResult, match="error: None, not Too many"):
        asyncio.run(contender(good, "Too many files.").check())  # type: ignore[arg-type]


# What is left out, what is not, and what is noticed


def test_peers_are_raced_where_they_are_installed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(peers, "PEERS", {"Some peer": "starlette"})
    monkeypatch.setattr(peers, "environment", lambda: sys.executable)

    main(["--quick", "peers"])

    out = capsys.readouterr().out
    assert out.count("\nSome peer ") == out.count("\nthis package ") == 3


def test_peers_are_left_out_where_they_are_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(peers, "environment", lambda: None)

    main(["--quick", "peers"])

    out = capsys.readouterr().out
    assert "The peers are left out" in out
    assert out.count("\nthis package ") == 3


@pytest.mark.parametrize("name", sorted({*peers.OWN.values(), *peers.PEERS.values()}))
def test_peer_that_stores_something_else_is_noticed(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lose(form: Form, look: stored.Look) -> None:
        look([io.BytesIO(b"something else")])

    assert name in stored.WAYS
    monkeypatch.setitem(stored.WAYS, name, lose)
    with pytest.raises(WrongResult):
        asyncio.run(stored.check(name, Form.of([Part("file", b"bytes", "a.bin")])))


def test_server_that_is_not_installed_is_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def find_nothing(name: str) -> None: ...

    monkeypatch.setattr(upload, "find_spec", find_nothing)

    main(["--quick", "upload"])

    out = capsys.readouterr().out
    assert "granian is left out: granian is not installed." in out
    assert "this package" not in out


def test_stalls_are_measured_on_a_slow_disk_if_there_is_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["--quick", "--slow-disk", str(tmp_path), "stall"])

    assert "Store 4 MB on a disk that is slow indeed: stall, max" in capsys.readouterr().out


def test_save_across_filesystems_is_left_out_where_there_is_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(save, "MEMORY", tmp_path / "missing")

    main(["--quick", "save"])

    assert "Nothing is saved across filesystems" in capsys.readouterr().out


def test_save_that_loses_a_byte_is_noticed(tmp_path: Path) -> None:
    async def lose(source: Path, destination: Path, size: int) -> float:
        seconds = await save.last_owner(source, destination, size)
        os.truncate(destination, size - 1)
        return seconds

    contender = save.contender("a lossy one", lose, tmp_path, tmp_path, 2 * MB)
    with pytest.raises(WrongResult):
        asyncio.run(contender.check())  # type: ignore[arg-type]
