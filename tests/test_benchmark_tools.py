"""What the benchmarks measure by: workers, what processes take, and ticks of an event loop."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import processes, ticking
from benchmarks.forms import MB
from benchmarks.measure import WrongResult
from benchmarks.worker import ROOT, Worker

HAS_PROC = Path("/proc/self/clear_refs").exists()


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    script = tmp_path / "worker.py"
    script.write_text(
        textwrap.dedent("""
            import os
            import sys

            from benchmarks.worker import serve

            def answer(a, b):
                if b == 0:
                    os._exit(7)
                return a / b

            serve(answer)
        """)
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    with Worker(str(script), env=env) as worker:
        yield worker


def test_worker_answers_and_tells_what_went_wrong(worker: Worker) -> None:
    assert worker.ask(a=6, b=3) == 2
    with pytest.raises(WrongResult, match="TypeError"):
        worker.ask(a="6", b=3)
    assert worker.ask(a=1, b=2) == 0.5
    with pytest.raises(WrongResult, match="ended with 7"):
        worker.ask(a=6, b=0)


needs_proc = pytest.mark.skipif(
    not HAS_PROC, reason="this system does not tell what processes take"
)


@needs_proc
def test_family_has_all_that_a_process_has_started() -> None:
    script = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'print(1); input()'])"
    child = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with child:
        if child.stdout is not None:
            child.stdout.readline()
        found = processes.family(child.pid)
        assert found[0] == child.pid
        assert len(found) == 2
        assert {child.pid, *found} < set(processes.family(os.getpid()))
        child.communicate(b"\n")


@needs_proc
def test_peak_is_of_the_time_since_it_was_forgotten() -> None:
    size = 50 * MB
    pids = [os.getpid()]
    bytearray(size)[::4096] = b"x" * len(range(0, size, 4096))
    processes.forget_peak(pids)
    before = processes.peak(pids)
    assert before < processes.resident(pids) + size / 2

    block = bytearray(size)
    block[::4096] = b"x" * len(range(0, size, 4096))
    del block
    assert processes.peak(pids) > before + size / 2


@needs_proc
def test_seconds_of_cpu_are_those_of_this_process() -> None:
    before = processes.cpu_seconds([os.getpid()])
    ran = time.process_time()
    while time.process_time() < ran + 20 * processes.TICK:
        pass
    taken = processes.cpu_seconds([os.getpid()]) - before
    assert taken >= 15 * processes.TICK


def test_task_that_blocks_the_event_loop_is_seen_as_a_late_tick() -> None:
    async def block() -> list[ticking.Tick]:
        async with ticking.ticking() as ticks:
            until = time.perf_counter() + 0.05
            while time.perf_counter() < until:
                pass
        return ticks

    ticks = ticking.run_precisely(block)

    assert ticking.quantile([tick.late for tick in ticks], 1) > 0.04


def test_quantile_is_what_that_share_does_not_exceed() -> None:
    late = [float(i) for i in reversed(range(1000))]

    assert [ticking.quantile(late, share) for share in (0.5, 0.99, 0.999, 1)] == [
        *[500, 990, 999, 999]
    ]


def test_writes_that_are_not_slowed_down_are_noticed() -> None:
    with Worker("-m", "benchmarks.stall", "stock", "slow") as slow:
        slow.ask(size=4 * MB)
    script = (
        "from benchmarks import slow_disk, stall; slow_disk.slow_down = slow_disk.SlowDisk; "
        "stall.main('stock', 'slow')"
    )
    with Worker("-c", script) as fast, pytest.raises(WrongResult, match="slowed down"):
        fast.ask(size=4 * MB)
