"""Look for bytes that break something: ``python -m tests.fuzzing --seconds 600``.

Atheris makes them, out of those in `corpus` and the words in `words`, and keeps what reaches code
that nothing has reached before.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
CORPUS = HERE / "corpus"
NAMES = sorted(path.name for path in CORPUS.iterdir())
INSTRUMENTED = ["python_multipart", "starlette_upload_keepalive"]

# Bytes. What is long takes long, and shows little more.
LONGEST = 1024
# In seconds, and MB: what takes one input more has a fault.
SLOWEST = 10
MOST_MEMORY = 2048

_PROGRESS = re.compile(r"^#\d+\s.*", re.MULTILINE)
_FOUND = re.compile(r"^ *=+ Uncaught|^==\d+==", re.MULTILINE)


def main() -> int:
    """Return the exit code: 0 if nothing was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzzing", description=__doc__)
    parser.add_argument("target", nargs="*", help=f"of {', '.join(NAMES)} (default: all)")
    parser.add_argument("--seconds", type=int, default=60, help="how long (default: 60)")
    parser.add_argument(
        "--directory",
        type=Path,
        default=Path(".fuzzing"),
        help="for what is found, and what to go on with the next time (default: .fuzzing)",
    )
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        fuzz(options.one, options.seconds, options.directory)
    names: Sequence[str] = options.target or NAMES
    if unknown := set(names) - set(NAMES):
        parser.error(f"no target: {', '.join(sorted(unknown))}")
    return fuzz_all(names, options.seconds, options.directory)


def fuzz_all(names: Sequence[str], seconds: int, directory: Path) -> int:
    """Fuzz targets side by side, each in a process of its own, and tell what came of it."""
    directory.mkdir(exist_ok=True, parents=True)
    began = time.monotonic()
    running = {name: start(name, seconds, directory) for name in names}
    try:
        failed = [name for name, process in running.items() if process.wait() != 0]
    finally:
        for process in running.values():
            process.kill()
    for name in names:
        text = log_of(name, directory).read_text(errors="replace")
        progress = _PROGRESS.findall(text)
        print(f"{name}: {progress[-1] if progress else 'it has not begun'}")
        if name in failed:
            found = _FOUND.search(text)
            print(text[found.start() if found else -5000 :])
    print(f"{time.monotonic() - began:.0f} seconds")
    if failed:
        print(
            f"What was found lies in {directory}. Give it a name that says what it shows, in "
            f"{CORPUS}/<target>, and the tests replay it."
        )
    return 1 if failed else 0


def start(name: str, seconds: int, directory: Path) -> subprocess.Popen[bytes]:
    """Start a process that fuzzes one target."""
    command = [sys.executable, "-m", "tests.fuzzing", "--one", name]
    command += ["--seconds", str(seconds), "--directory", str(directory)]
    with log_of(name, directory).open("wb") as log:
        return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)


def log_of(name: str, directory: Path) -> Path:
    return directory / f"{name}.log"


def fuzz(name: str, seconds: int, directory: Path) -> None:
    """Fuzz one target, and end the process: with a status other than 0 if something was found."""
    atheris: Any = importlib.import_module("atheris")
    logging.disable()  # python-multipart warns of each bad body
    with atheris.instrument_imports(include=INSTRUMENTED):
        targets = importlib.import_module("tests.fuzzing.targets")
    kept = directory / name
    kept.mkdir(exist_ok=True)
    arguments = [
        sys.argv[0],
        f"-max_total_time={seconds}",
        f"-max_len={LONGEST}",
        f"-timeout={SLOWEST}",
        f"-rss_limit_mb={MOST_MEMORY}",
        f"-artifact_prefix={directory}/{name}-",
        f"-dict={HERE / 'words' / name}",
        str(kept),
        str(CORPUS / name),
    ]
    atheris.Setup(arguments, targets.TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
