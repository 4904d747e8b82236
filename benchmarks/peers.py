"""Parsing beside other libraries, each of them in a process of its own.

Those in `PEERS` have an environment of their own, which ``make bench`` makes.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from .forms import KIB, MB
from .measure import MICROSECONDS, Bench, Contender, Unit
from .worker import ROOT, Worker

# Names in `stored.STORED`; the first is what the others are compared with.
OWN = {"Starlette": "starlette", "this package": "this_package"}
PEERS = {
    "Litestar": "litestar",
    "baize": "baize",
    "Django": "django",
    "multipart (defnull)": "defnull",
    "streaming-form-data (C)": "streaming_form_data",
}


async def run(bench: Bench) -> None:
    """Store a large file, in messages of two sizes, and ten small ones."""
    size = bench.pick(200 * MB, quick=2 * MB)
    python = environment()
    if python is None:
        print("\nThe peers are left out: make bench makes an environment for them.")
    with ExitStack() as stack:
        workers = {
            name: stack.enter_context(Worker("-m", "benchmarks.stored", key, python=interpreter))
            for names, interpreter in ((OWN, sys.executable), (PEERS, python))
            if interpreter is not None
            for name, key in names.items()
        }
        for message_size in (64 * KIB, 16 * KIB):
            await bench.race(
                f"Store a file of {size / MB:g} MB, in messages of {message_size // KIB} KiB",
                Unit("MB/s", size / MB, is_rate=True),
                [_contender(*named, [size], message_size) for named in workers.items()],
            )
        await bench.race(
            "Store ten files of 2 kB",
            MICROSECONDS,
            [
                _contender(*named, [2000] * 10, 64 * KIB, repeat=bench.pick(200, quick=1))
                for named in workers.items()
            ],
        )


def environment() -> str | None:
    """Return the Python of the environment that has the peers, if there is one."""
    python = Path(ROOT, ".venv", "peers", "bin", "python")
    return str(python) if python.exists() else None


def _contender(
    name: str, worker: Worker, sizes: Sequence[int], message_size: int, *, repeat: int = 1
) -> Contender:
    async def run() -> Sequence[float]:
        seconds: float = worker.ask(sizes=sizes, message_size=message_size, repeat=repeat)
        return [seconds]

    async def check() -> None:
        worker.ask(sizes=sizes, message_size=message_size, is_check=True)

    return Contender(name, run, check)
