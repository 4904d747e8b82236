"""Whether a fault that is put in is seen, and if not, why it does no harm."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import Enum
from typing import NamedTuple

from .mutants import Mutant, mutants
from .search import Recording, Search

# Of fewer ways to choose what is left, all are gone through.
WHOLE = 20_000
HARMLESS = {
    "_rescue_from < run < rescue": "It is for an accept that its owner has died in, and all of "
    "this owner's were told of: killed_in_accept sees the fault.",
}
"""Faults that leave what the spool does not leave, all of which holds; and why that is so."""


class Verdict(Enum):
    """What becomes of a mutant."""

    CAUGHT = "caught"
    """A promise is seen to be broken."""
    SAME = "leaves nothing that the spool does not leave"
    """So it has no fault that the spool has not: all of that was gone through."""
    HARMLESS = "leaves more, which does no harm"
    """For a reason that `HARMLESS` tells."""
    MISSED = "missed"


class Trial(NamedTuple):
    """A mutant, and what becomes of it.

    Attributes:
        mutant: It.
        verdict: What becomes of it.
    """

    mutant: Mutant
    verdict: Verdict


def trials(
    recording: Recording, wanted: Callable[[Mutant], bool] = lambda _: True
) -> Iterator[Trial]:
    """Try all mutants of a recording.

    Args:
        recording: What the spool does, which holds.
        wanted: Which mutants.
    """
    sound = Search(WHOLE)
    if not sound.look("the spool", recording):
        raise AssertionError(sound.broken[0])
    for mutant in mutants(recording.events):
        if wanted(mutant):
            yield Trial(mutant, _verdict(mutant, recording, sound))


def _verdict(mutant: Mutant, recording: Recording, sound: Search) -> Verdict:
    search = Search(sound.most, seen=set(sound.seen))
    if not search.look("a mutant", Recording(mutant.events, recording.expected), first=True):
        return Verdict.CAUGHT
    if len(search.seen) == len(sound.seen) and sound.is_whole and search.is_whole:
        return Verdict.SAME
    if any(where in mutant.where for where in HARMLESS):
        return Verdict.HARMLESS
    return Verdict.MISSED
