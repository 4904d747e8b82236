"""P9: what was accepted is there after a power cut, whenever it comes.

A part of what ``python -m tests.power_cut`` looks at.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

import pytest

from starlette_upload_keepalive import DirectorySpool
from starlette_upload_keepalive.spool import directory_spool, shared_sync
from starlette_upload_keepalive.spool.shared_sync import SharedSync
from tests.power_cut.log import Begun, Event, Named, Slot, Synced, Written
from tests.power_cut.model_disk import ROOT
from tests.power_cut.mutants import Mutant, mutants
from tests.power_cut.persistence import Disorder, Remains
from tests.power_cut.scenarios import KILLED, SINGLE, accepts_share_a_sync, at_once
from tests.power_cut.search import Search, contents, record
from tests.power_cut.trial import Verdict, trials
from tests.power_cut.world import Process

# All mutants of others take long; a few of what they show is seen by a test of their own.
SHORT = (
    "accept_one",
    "accept_several",
    "release_and_claim",
    "fail_and_retry",
    "forget",
    "given_up",
)


@pytest.mark.parametrize("name", [name for name in SINGLE if name != "child_of_a_child"])
def test_all_that_was_accepted_is_there(name: str) -> None:
    search = Search(30, again=20)

    search.look(name, record(SINGLE[name]))

    assert not search.broken
    assert len(search.seen) > 30


@pytest.mark.parametrize("name", random.Random(0).sample(sorted(KILLED), 12))
def test_all_is_there_though_its_owner_was_killed_before(name: str) -> None:
    search = Search(25)

    search.look(name, record(KILLED[name]))

    assert not search.broken


@pytest.mark.parametrize("name", [*at_once(0), *at_once(1)])
def test_all_is_there_of_what_several_did_at_once(name: str) -> None:
    search = Search(30)

    search.look(name, record({**at_once(0), **at_once(1)}[name]))

    assert not search.broken


@pytest.mark.parametrize("name", SHORT)
def test_each_fault_is_seen(name: str) -> None:
    tried = list(trials(record(SINGLE[name])))

    assert not [mutant.where for mutant, verdict in tried if verdict is Verdict.MISSED]
    caught = {mutant.kind for mutant, verdict in tried if verdict is Verdict.CAUGHT}
    assert caught == {"without a sync", "swapped rename", "told early"}


@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("children", "children"),
        ("rescue_of_an_accept", "_rescue_from"),
        ("finish_and_sweep", "sweep"),
    ],
)
def test_each_sync_that_is_left_out_is_seen(name: str, where: str) -> None:
    def is_there(mutant: Mutant) -> bool:
        return mutant.kind == "without a sync" and where in mutant.where

    verdicts = Counter(verdict for _, verdict in trials(record(SINGLE[name]), is_there))

    assert set(verdicts) <= {Verdict.CAUGHT, Verdict.SAME}
    assert verdicts[Verdict.CAUGHT]


def test_a_share_in_a_sync_that_has_begun_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    class Late(SharedSync):
        """Lets those have a share in a sync who come while it is under way."""

        def _lead(self, this: shared_sync._Round) -> None:
            with self._turn:
                self._sync()
                self._next = None
                this.ended.set()

    def look(seed: int) -> bool:
        recording = record(lambda world: accepts_share_a_sync(world, seed))
        return Search(30).look("late", recording, first=True)

    assert all(look(seed) for seed in range(5))
    monkeypatch.setattr(directory_spool, "SharedSync", Late)
    assert not all(look(seed) for seed in range(5))


def test_a_crash_that_is_counted_of_what_was_interrupted_is_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also after a restart alone."""

    def spare(process: Process, job: str) -> None:
        process.world.note("spared", job)

    def nothing(_spool: DirectorySpool, _job_id: str) -> None:
        pass

    monkeypatch.setattr(Process, "spare", spare)
    scenario = SINGLE["interrupt_and_rescue"]
    assert Search(30).look("sound", record(scenario))
    monkeypatch.setattr(DirectorySpool, "interrupt", nothing)
    assert not Search(30).look("a mutant", record(scenario))


# What a power cut may leave, by hand


A = Named(1, 11, 1, is_directory=True, before=None, after=Slot(ROOT, "a"))
B = Named(2, 12, 2, is_directory=True, before=None, after=Slot(ROOT, "b"))
FILE = Named(3, 13, 3, is_directory=False, before=None, after=Slot(1, "f"))
DATA = Written(3, 3, b"data")
MOVED = Named(4, 13, 3, is_directory=False, before=Slot(1, "f"), after=Slot(2, "g"))
A_REMOVED = Named(5, 11, 1, is_directory=True, before=Slot(ROOT, "a"), after=None)


def synced(inode: int) -> Synced:
    return Synced(9, inode, "the test")


def left(*events: Event) -> set[object]:
    remains = Remains()
    for event in events:
        remains.add(event)
    return {contents(files) for files in remains.states(10_000, random.Random(0))}


def tree(**names: object) -> frozenset[tuple[str, object]]:
    return frozenset(names.items())


EMPTY = tree()
DAMAGED: list[object] = [b"", b"da", b"\0\0\0\0"]


def test_what_is_not_synced_may_be_there_in_any_combination() -> None:
    assert left(A, B) == {EMPTY, tree(a=EMPTY), tree(b=EMPTY), tree(a=EMPTY, b=EMPTY)}


def test_sync_of_a_directory_keeps_its_names_and_not_its_own() -> None:
    assert left(A, FILE, synced(1)) == {EMPTY, tree(a=tree(f=b""))}
    assert left(A, FILE, synced(ROOT)) == {tree(a=EMPTY), tree(a=tree(f=b""))}


def test_sync_of_a_file_keeps_its_bytes_and_not_its_name() -> None:
    assert left(A, synced(ROOT), FILE, DATA, synced(3)) == {
        tree(a=EMPTY),
        tree(a=tree(f=b"data")),
    }


def test_bytes_that_are_not_synced_may_be_damaged() -> None:
    assert left(A, synced(ROOT), FILE, DATA, synced(1)) == {
        tree(a=tree(f=data)) for data in [b"data", *DAMAGED]
    }


@pytest.mark.parametrize("directory", [1, 2])
def test_a_rename_is_one_step_and_sync_of_either_directory_keeps_it(directory: int) -> None:
    before = (A, B, synced(ROOT), FILE, synced(1))
    where_it_was, where_it_is = tree(a=tree(f=b""), b=EMPTY), tree(a=EMPTY, b=tree(g=b""))

    assert left(*before, MOVED) == {where_it_was, where_it_is}
    assert left(*before, MOVED, synced(directory)) == {where_it_is}


def test_sync_of_a_directory_is_for_what_was_done_before_it_has_begun() -> None:
    assert left(A, Begun(9, ROOT), B, synced(ROOT)) == {tree(a=EMPTY), tree(a=EMPTY, b=EMPTY)}


def test_a_directory_takes_along_what_is_in_it() -> None:
    moved = Named(4, 11, 1, is_directory=True, before=Slot(ROOT, "a"), after=Slot(2, "c"))

    assert left(A, B, synced(ROOT), FILE, synced(1), moved, synced(2)) == {
        tree(b=tree(c=tree(f=b"")))
    }


def test_a_directory_is_gone_only_if_it_was_empty() -> None:
    before = (A, B, synced(ROOT), FILE, synced(1))

    assert left(*before, MOVED, A_REMOVED) == {
        tree(a=tree(f=b""), b=EMPTY),
        tree(a=EMPTY, b=tree(g=b"")),
        tree(b=tree(g=b"")),
    }
    assert left(*before, MOVED, A_REMOVED, synced(ROOT)) == {tree(b=tree(g=b""))}


def test_a_name_has_one_meaning() -> None:
    gone = Named(4, 13, 3, is_directory=False, before=Slot(1, "f"), after=None)
    again = Named(5, 14, 4, is_directory=False, before=None, after=Slot(1, "f"))
    new = Written(5, 4, b"new!")

    assert left(A, FILE, DATA, synced(3), synced(1), synced(ROOT), gone, again, new, synced(4)) == {
        tree(a=tree(f=b"data")),
        tree(a=EMPTY),
        tree(a=tree(f=b"new!")),
    }


@pytest.mark.parametrize(
    "events",
    [
        (MOVED, FILE),
        (A, FILE, A_REMOVED),
        (A, B, FILE, MOVED, MOVED),
        (FILE,),
        (DATA,),
        (A, A),
        (synced(7),),
    ],
)
def test_steps_in_no_order_are_refused(events: Sequence[Event]) -> None:
    with pytest.raises(Disorder):
        left(*events)


def test_what_is_chosen_by_chance_may_be_left_too() -> None:
    events = record(SINGLE["children"]).events
    every, some = Remains(), Remains()
    for event in events[:-1]:
        every.add(event)
        some.add(event)
    all_ = {contents(files) for files in every.states(100_000, random.Random(0))}
    chosen = {contents(files) for files in some.states(60, random.Random(0))}

    assert chosen < all_
    assert len(chosen) > 20


def test_no_rename_is_swapped_with_what_it_needs() -> None:
    recording = record(SINGLE["accept_one"])

    swapped = [mutant for mutant in mutants(recording.events) if mutant.kind == "swapped rename"]
    assert len(swapped) == 2
    assert all(
        sorted(map(repr, mutant.events)) == sorted(map(repr, recording.events))
        for mutant in swapped
    )
