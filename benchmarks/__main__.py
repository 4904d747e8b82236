"""``python -m benchmarks [name ...] [--rounds N] [--quick]``: measure, and print tables."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence

from . import handlers, machine, overhead, parse, server
from .measure import Bench

BENCHMARKS = {
    "parse": parse.run,
    "overhead": overhead.run,
    "handlers": handlers.run,
    "server": server.run,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmarks that are asked for, all of them by default."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument(
        "names", nargs="*", metavar="name", help=f"one of {', '.join(BENCHMARKS)}; all if none"
    )
    parser.add_argument(
        "--rounds", type=int, default=11, help="turns of each contender (%(default)s)"
    )
    parser.add_argument(
        "--quick", action="store_true", help="only see that it works; the figures mean nothing"
    )
    options = parser.parse_args(arguments)
    if unknown := set(options.names) - set(BENCHMARKS):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    if options.rounds < 1:
        parser.error("--rounds must be 1 or more")

    bench = Bench(rounds=1 if options.quick else options.rounds, quick=options.quick)
    print(*machine.describe(), machine.load(), sep="\n")
    for name in options.names or BENCHMARKS:
        asyncio.run(BENCHMARKS[name](bench))
    print(f"\n{machine.load()}")


if __name__ == "__main__":
    main()
