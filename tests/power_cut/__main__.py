"""Look at all that power cuts may leave, and try all faults: ``python -m tests.power_cut``."""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import os
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

from .scenarios import KILLED, SINGLE, at_once
from .search import Search, record
from .trial import Verdict, trials

# Of what is left at one moment, if it is too much; and how often of a thousand the power is cut
# once more.
MOST = 1000
AGAIN = 10


def main() -> int:
    """Do so, and tell what was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.power_cut", description=__doc__)
    parser.add_argument("--states", type=int, default=100_000, help="how many at least")
    parser.add_argument("--seed", type=int, default=0, help="what chance begins with")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    given = parser.parse_args()
    began = time.monotonic()
    # Forked, so that in all of them the same has the same hash.
    forked = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(given.processes, mp_context=forked) as pool:
        holds = find_states(pool, given.states, given.seed)
        catches = try_mutants(pool)
    print(f"{time.monotonic() - began:.0f} seconds")
    return 0 if holds and catches else 1


def find_states(pool: ProcessPoolExecutor, least: int, seed: int) -> bool:
    """Look at states until they are enough; tell whether all holds in each."""
    seen, broken = set[int](), 0
    for batch in batches(seed):
        for name, keys, found in pool.map(look, batch):
            seen |= keys
            broken += len(found)
            for when, why in found[:5]:
                print(f"{name}: {when}: {why}")
        if len(seen) >= least and len(batch) == 12:
            break
    print(f"{len(seen):,} states, {broken} of them broken")
    return not broken


def batches(seed: int) -> Iterator[list[tuple[str, int]]]:
    """Go over all scenarios: those without chance, and then those of one seed after another."""
    yield [(name, seed) for name in (*SINGLE, *KILLED)]
    for first in itertools.count(seed, 4):
        yield [(name, each) for each in range(first, first + 4) for name in at_once(each)]


def look(task: tuple[str, int]) -> tuple[str, set[int], list[tuple[str, str]]]:
    """Look at one scenario."""
    name, seed = task
    scenario = {**SINGLE, **KILLED, **at_once(seed)}[name]
    search = Search(MOST, seed=seed, again=AGAIN)
    search.look(name, record(scenario))
    return name, search.seen, search.broken


def try_mutants(pool: ProcessPoolExecutor) -> bool:
    """Try the mutants of all scenarios that happen one step after the other."""
    verdicts, of_syncs = Counter[Verdict](), defaultdict[str, set[Verdict]](set)
    for name, tried in zip(SINGLE, pool.map(try_those_of, SINGLE), strict=True):
        for kind, where, verdict in tried:
            verdicts[verdict] += 1
            if kind == "without a sync":
                of_syncs[where].add(verdict)
            if verdict is Verdict.MISSED:
                print(f"{name}: missed: {kind}: {where}")
    for verdict in Verdict:
        print(f"{verdicts[verdict]} mutants {verdict.value}")
    never = [where for where, found in of_syncs.items() if Verdict.CAUGHT not in found]
    if never:
        print(f"never missed when left out: {never}")
    return not (verdicts[Verdict.MISSED] or never)


def try_those_of(name: str) -> list[tuple[str, str, Verdict]]:
    """Try the mutants of one scenario."""
    tried = trials(record(SINGLE[name]))
    return [(mutant.kind, mutant.where, verdict) for mutant, verdict in tried]


if __name__ == "__main__":
    sys.exit(main())
