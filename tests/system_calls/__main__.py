"""Have each system call of a spool fail in turn, and tell what broke a promise.

``python -m tests.system_calls DIRECTORY``, an empty one.
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from .scenario import Scenario
from .steps import Steps, unsynced
from .strace import Fault, faults, trace
from .upkeep import Upkeep

SCENARIOS: dict[str, Callable[[Path], Steps]] = {
    "in-memory": partial(Scenario, on_disk=False),
    "on-disk": partial(Scenario, on_disk=True),
    "upkeep": Upkeep,
}


def violations(
    directory: Path, fault: Fault | None, make_scenario: Callable[[Path], Steps]
) -> Iterator[str]:
    """Run the scenario once, and find what broke a promise."""
    root = directory / "spool"
    root.mkdir(mode=0o700, parents=True)
    scenario = make_scenario(root)
    calls = trace(scenario, directory / "calls", fault)
    with unsynced():
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
    parser.add_argument("--scenario", choices=SCENARIOS, default="in-memory", help="what is done")
    options = parser.parse_args()
    logging.getLogger().addHandler(logging.NullHandler())  # what is wrong is told by us
    directory: Path = options.directory
    make_scenario = SCENARIOS[options.scenario]
    workers = len(os.sched_getaffinity(0))

    # All that it imports is imported then, which makes for fewer calls.
    for wrong in violations(directory / "first", None, make_scenario):
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
                code = _try_all(mine, directory / f"worker-{number}", make_scenario)
            finally:
                sys.stdout.flush()
                os._exit(code)
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    print(f"{len(found)} faults, at {len({(fault.call, fault.count) for fault in found})} calls")
    return max(codes)


def _try_all(found: list[Fault], directory: Path, make_scenario: Callable[[Path], Steps]) -> int:
    code = 0
    for fault in found:
        for wrong in violations(directory, fault, make_scenario):
            code = 1
            print(f"{fault}: {wrong}", flush=True)
        shutil.rmtree(directory)
    return code


sys.exit(main())
