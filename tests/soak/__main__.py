"""Kill or shut down servers that share a spool, as often as is asked, and tell what came of it."""

from __future__ import annotations

import argparse
import logging
import shutil
import sys
import tempfile
from pathlib import Path

from .broken import SPOOLS
from .play import Size, Soak

_SHOWN = 20  # violations, of all that there are


def main() -> int:
    """Return the exit code: 0 if nothing broke a promise."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--kills", type=int, default=1000, help="how many (default: 1000)")
    parser.add_argument("--stops", type=float, default=0.1, help="the share that is told to end")
    parser.add_argument("--spool", choices=SPOOLS, default="sound", help="one that is broken")
    parser.add_argument(
        "--drain", type=float, default=60, help="how many seconds the last jobs may take"
    )
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    directory = Path(tempfile.mkdtemp(prefix="soak-"))
    size = Size(options.kills, options.stops, seconds_to_drain=options.drain)
    print(f"The soak is at work in {directory} ...", flush=True)
    report = Soak(directory, SPOOLS[options.spool], size).play()
    print(*report.violations[:_SHOWN], report, sep="\n")
    if report.violations:  # the directory is left to be looked at
        (directory / "violations").write_text("\n".join(report.violations))
        return 1
    shutil.rmtree(directory)
    return 0


sys.exit(main())
