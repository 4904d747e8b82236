"""``python -m benchmarks [name ...]``: measure, print tables, and write them if asked to."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from . import (
    accept,
    backlog,
    handlers,
    hostile,
    machine,
    overhead,
    parse,
    peers,
    process,
    report,
    save,
    server,
    stall,
    upload,
)
from .measure import Bench

BENCHMARKS = {
    "parse": parse.run,
    "peers": peers.run,
    "hostile": hostile.run,
    "upload": upload.run,
    "stall": stall.run,
    "save": save.run,
    "overhead": overhead.run,
    "handlers": handlers.run,
    "process": process.run,
    "accept": accept.run,
    "backlog": backlog.run,
    "server": server.run,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmarks that are asked for, all of them by default."""
    options = _options(arguments)
    described = list(machine.describe())
    print(*described, machine.load(), sep="\n")
    for name in options.names or BENCHMARKS:
        run = BENCHMARKS[name]
        bench = Bench(
            rounds=1 if options.quick else options.rounds,
            quick=options.quick,
            slow_disk=options.slow_disk,
        )
        asyncio.run(run(bench))
        if options.write:
            title, *_ = (sys.modules[run.__module__].__doc__ or name).splitlines()
            if options.quick:
                title = f"A quick look: these figures mean nothing. {title}"
            report.write(options.write, name, title, bench.tables, described)
    print(f"\n{machine.load()}")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
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
    parser.add_argument(
        "--write", type=Path, metavar="DIRECTORY", help="write each benchmark as CSV and SVG there"
    )
    parser.add_argument(
        "--slow-disk",
        type=Path,
        metavar="DIRECTORY",
        help="where a disk is slow indeed, for stall; without, its writes sleep",
    )
    options = parser.parse_args(arguments)
    if unknown := set(options.names) - set(BENCHMARKS):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    if options.rounds < 1:
        parser.error("--rounds must be 1 or more")
    if options.slow_disk and not options.slow_disk.is_dir():
        parser.error(f"--slow-disk: {options.slow_disk} is no directory")
    return options


if __name__ == "__main__":
    main()
