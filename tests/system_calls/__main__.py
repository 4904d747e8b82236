"""Have each system call of a spool fail in turn, and tell what broke a promise.

``python -m tests.system_calls DIRECTORY``, an empty one.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from .scenario import Scenario
from .strace import Fault, faults, trace


def violations(directory: Path, fault: Fault | None, *, on_disk: bool) -> Iterator[str]:
    """Run the scenario once, and find what broke a promise."""
    root = directory / "spool"
    root.mkdir(mode=0o700, parents=True)
    scenario = Scenario(root, on_disk=on_disk)
    calls = trace(scenario, directory / "calls", fault)
    yield from scenario.violations()
    outcomes = scenario.outcomes
    if fault is None:
        if set(outcomes.values()) != {"done"}:
            yield f"nothing has failed, and yet: {outcomes}"
    elif fault.kind == "signal=KILL":
        if "never begun" not in outcomes.values() and "cut short" not in outcomes.values():
            yield f"it was not killed: {outcomes}"
    elif not any("(INJECTED)" in call for call in calls):
        yield "nothing was injected"
    elif fault.call == "fsync" and "failed" not in outcomes.values() and not scenario.has_logged:
        yield f"an fsync has failed, and nobody was told: {outcomes}"


def main() -> int:
    """Return the exit code: 0 if nothing broke a promise."""
    parser = argparse.ArgumentParser(prog="python -m tests.system_calls", description=__doc__)
    parser.add_argument("directory", type=Path, help="an empty one")
    parser.add_argument("--on-disk", action="store_true", help="accept what is on the disk already")
    options = parser.parse_args()
    directory: Path = options.directory
    on_disk: bool = options.on_disk
    workers = len(os.sched_getaffinity(0))

    # All that it imports is imported then, which makes for fewer calls.
    for wrong in violations(directory / "first", None, on_disk=on_disk):
        print(f"without a fault: {wrong}")
        return 1
    found = faults((directory / "first" / "calls").read_text().splitlines())
    children: list[int] = []
    for number in range(workers):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                mine = found[number::workers]
                code = _try_all(mine, directory / f"worker-{number}", on_disk=on_disk)
            finally:
                sys.stdout.flush()
                os._exit(code)
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    print(f"{len(found)} faults, at {len({(fault.call, fault.count) for fault in found})} calls")
    return max(codes)


def _try_all(found: list[Fault], directory: Path, *, on_disk: bool) -> int:
    code = 0
    for fault in found:
        for wrong in violations(directory, fault, on_disk=on_disk):
            code = 1
            print(f"{fault}: {wrong}", flush=True)
        shutil.rmtree(directory)
    return code


sys.exit(main())
