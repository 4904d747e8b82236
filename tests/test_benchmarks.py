"""The benchmarks run, each contender does its work, and a table says what was measured."""

from __future__ import annotations

import asyncio
import inspect
import math
import re
from importlib.metadata import version
from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from benchmarks import measure
from benchmarks.__main__ import BENCHMARKS, main
from benchmarks.forms import Form, Part
from benchmarks.measure import Bench, Contender, Unit, WrongResult
from benchmarks.form_contenders import compare

NUMBER = r"([\d.,e+-]*\d)"
# The name of a contender, its figure and its ratio, each with the middle half of the rounds.
ROW = re.compile(rf"(\S.*?)  +{NUMBER} +{NUMBER}-{NUMBER} +{NUMBER} +{NUMBER}-{NUMBER}(?: .*)?")
# Before, FastAPI closed the files of a form before its BackgroundTasks had them.
BACKGROUND_TASKS = {"handlers", "server"}
THEY_GET_FILES = tuple(map(int, version("fastapi").split(".")[:2])) >= (0, 118)
STARLETTE_HAS_ALL_LIMITS = "max_part_size" in inspect.signature(Request.form).parameters
HAS_PROC = Path("/proc/self/clear_refs").exists()


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_row_is_printed_with_figures(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    if name in BACKGROUND_TASKS and not THEY_GET_FILES:
        pytest.skip("the BackgroundTasks of this FastAPI get closed files")
    if name == "parse" and not STARLETTE_HAS_ALL_LIMITS:
        pytest.skip("this Starlette lacks a limit that its newer benchmarks set")
    if name == "upload" and not HAS_PROC:
        pytest.skip("this system does not tell what a process takes")

    main(["--quick", name])

    machine, *tables, load = capsys.readouterr().out.strip().split("\n\n")
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
            await compare(Form.of([Part("file", b"bytes", "a.bin")]), form)

    with pytest.raises(WrongResult):
        asyncio.run(Form.of(stored).post(app))
