"""What a power cut may leave on a disk, given what the disk was told before.

The rules, as weak as a filesystem may be, and no weaker:

- fsync of a file makes its bytes durable, and not its name; fsync of a directory
  makes the names durable that were given and taken away in it before the call, and
  not its own name (fsync(2); POSIX.1-2017, fsync). Nothing else makes anything durable.
- What is not durable may be on the disk or not, in any combination. A disk is
  not bound to the order in which it was told: btrfs reorders directory
  operations (Pillai et al., "All File Systems Are Not Created Equal", OSDI
  2014, table 1).
- What is done to one name is done in order: a file that was moved twice is in
  the first place, the second or the third, and in one of them only. A rename is
  one step, seen in both directories or in neither: one transaction on ext4, xfs
  and btrfs. fsync of either makes it durable. A directory takes along what is in it.
- Some steps can't be on the disk without others, or the filesystem would be
  damaged: a name was free when it was given, a directory empty when it was removed.
- A new file whose bytes are not durable has all of them, none, the first half, or
  zeros in their place (delayed allocation: ext4(5), "auto_da_alloc").

A step that is not on the disk is no different from one that was not taken. So
just before an fsync, or before the world outside was told something, the disk
may be in each state in which it may be at any time since the last such moment,
and only those moments are looked at.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Mapping, Sequence

from .log import Begun, Event, Named, Noted, Slot, Synced, Written
from .model_disk import ROOT, Files, Link

Choice = tuple[int, ...]


class Disorder(Exception):
    """The steps can't have been taken in that order."""


class Remains:
    """What is on a disk for sure, and what may be."""

    def __init__(self) -> None:
        self.directories: set[int] = {ROOT}
        self.files: dict[int, bytes] = {}
        self.unsynced: set[int] = set()
        self._last = 0
        self._inodes: dict[int, int] = {}
        self._seen: dict[Slot, int] = {}  # as the processes see it
        self._now: dict[int, Slot | None] = {}
        self._durable: dict[int, Slot] = {}
        self._pending: dict[int, list[tuple[int, Named]]] = {}
        self._needs: dict[int, set[tuple[int, int]]] = {}
        self._count: dict[int, int] = {}
        self._left: dict[int, list[tuple[int, int]]] = {}
        self._begun: dict[tuple[int, int], list[tuple[int, int]]] = {}
        self._freed: dict[Slot, tuple[int, int]] = {}

    def add(self, event: Event) -> None:
        """Take note of an event.

        Raises:
            Disorder: It can't have happened now.
        """
        if isinstance(event, Named):
            self._add_name(event)
        elif isinstance(event, Written):
            if event.inode not in self.files:
                raise Disorder
            self.files[event.inode] = event.data
            self.unsynced.add(event.inode)
        elif isinstance(event, Begun):
            self._begun[event.step, event.inode] = list(self._touched(event.inode))
        elif isinstance(event, Synced):
            self._sync(event)

    def changes(self, event: Event) -> bool:
        """Tell whether something can't be left any more after an event, or is promised anew."""
        if isinstance(event, Synced):
            return event.inode in self.unsynced or any(self._touched(event.inode))
        return isinstance(event, Noted) and event.what != "call"

    def _add_name(self, event: Named) -> None:
        link, before, after = event.link, event.before, event.after
        number = self._count[link] = self._count.get(link, 0) + 1
        if self._now.get(link) != before or (before and self._seen.get(before) != link):
            raise Disorder
        needs = set[tuple[int, int]]()
        if event.is_directory:
            self.directories.add(event.inode)
            if after is None:
                if any(slot.directory == event.inode for slot in self._seen):
                    raise Disorder
                needs |= set(self._left.get(event.inode, ()))
        else:
            self.files.setdefault(event.inode, b"")
        if before is not None:
            del self._seen[before]
            self._left.setdefault(before.directory, []).append((link, number))
            self._freed[before] = (link, number)
        if after is not None:
            if after in self._seen or after.directory not in self.directories:
                raise Disorder
            self._seen[after] = link
            if after in self._freed:
                needs.add(self._freed[after])
        self._now[link] = after
        self._inodes[link] = event.inode
        self._last = max(self._last, link, event.inode)
        # Of one name the steps are in order anyway.
        self._needs[len(self._needs)] = {need for need in needs if need[0] != link}
        self._pending.setdefault(link, []).append((len(self._needs) - 1, event))

    def _sync(self, event: Synced) -> None:
        inode = event.inode
        if inode not in self.files and inode not in self.directories:
            raise Disorder
        self.unsynced.discard(inode)  # a file is written once, and not while it is synced
        ahead = self._begun.pop((event.step, inode), None)
        if ahead is None:
            ahead = list(self._touched(inode))
        while ahead:
            ahead += self._settle(*ahead.pop())

    def _touched(self, directory: int) -> Iterator[tuple[int, int]]:
        """Go over the last step of each name in a directory that is not durable."""
        for link, steps in self._pending.items():
            for left, (_, event) in enumerate(reversed(steps)):
                if directory in [slot.directory for slot in (event.before, event.after) if slot]:
                    yield link, self._count[link] - left
                    break

    def _settle(self, link: int, number: int) -> list[tuple[int, int]]:
        """Make the steps of a name durable up to one; return what they need."""
        steps = self._pending.get(link, [])
        settled = number - (self._count[link] - len(steps))
        if settled <= 0:
            return []
        last = steps[settled - 1][1].after
        self._durable.pop(link, None)
        if last is not None:
            self._durable[link] = last
        needs = [need for index, _ in steps[:settled] for need in self._needs[index]]
        self._pending[link] = steps[settled:]
        if not steps[settled:]:
            del self._pending[link]
        return needs

    # What may be left

    @property
    def ways(self) -> int:
        """In how many ways can be chosen what is left, though some may not be possible."""
        names: int = math.prod(len(steps) + 1 for steps in self._pending.values())
        damages: int = _DAMAGES ** len(self.unsynced)
        return names * damages

    def states(self, most: int, chance: random.Random) -> Iterator[Files]:
        """Go over what may be left.

        Args:
            most: With how many ways to choose all are gone through; of more than
                these, only as many, picked by chance.
            chance: It.
        """
        links = list(self._pending)
        lengths = [len(self._pending[link]) for link in links]
        unsynced = sorted(self.unsynced)
        if self.ways > most:
            yield from self._some(most, chance, links, lengths, unsynced)
            return
        for choice in itertools.product(*(range(length + 1) for length in lengths)):
            chosen = dict(zip(links, choice, strict=True))
            if self._is_possible(chosen):
                directories, files = self._directories(chosen)
                there = [inode for inode in unsynced if inode in files]
                for damage in itertools.product(range(_DAMAGES), repeat=len(there)):
                    yield self._state(directories, files, dict(zip(there, damage, strict=True)))

    def _some(
        self,
        most: int,
        chance: random.Random,
        links: Sequence[int],
        lengths: Sequence[int],
        unsynced: Sequence[int],
    ) -> Iterator[Files]:
        nothing, all_ = [0] * len(links), list(lengths)
        choices = [nothing, all_]
        for number, length in enumerate(lengths):
            choices.append([*nothing[:number], length, *nothing[number + 1 :]])
            choices.append([*all_[:number], 0, *all_[number + 1 :]])
        while len(choices) < most:
            # Much, little, or half of it.
            share = chance.choice((0.1, 0.5, 0.9))
            choices.append(
                [chance.randint(1, length) if chance.random() < share else 0 for length in lengths]
            )
        for choice in choices:
            chosen = dict(zip(links, choice, strict=True))
            self._make_possible(chosen)
            directories, files = self._directories(chosen)
            damages = {inode: chance.randrange(_DAMAGES) for inode in unsynced}
            yield self._state(directories, files, damages)

    def _is_possible(self, chosen: Mapping[int, int]) -> bool:
        return all(
            self._has(chosen, *need)
            for link, length in chosen.items()
            for index, _ in self._pending[link][:length]
            for need in self._needs[index]
        )

    def _make_possible(self, chosen: dict[int, int]) -> None:
        """Choose less, until nothing is left that needs more."""
        changed = True
        while changed:
            changed = False
            for link, length in chosen.items():
                for number, (index, _) in enumerate(self._pending[link][:length]):
                    if not all(self._has(chosen, *need) for need in self._needs[index]):
                        chosen[link] = number
                        changed = True
                        break

    def _has(self, chosen: Mapping[int, int], link: int, number: int) -> bool:
        pending = self._pending.get(link, ())
        return self._count[link] - len(pending) + chosen.get(link, 0) >= number

    def _directories(
        self, chosen: Mapping[int, int]
    ) -> tuple[dict[int, dict[str, Link]], dict[int, bytes]]:
        slots: dict[int, Slot | None] = dict(self._durable)
        for link, length in chosen.items():
            if length:
                slots[link] = self._pending[link][length - 1][1].after
        within: dict[int, list[tuple[str, Link]]] = {}
        for link, slot in slots.items():
            if slot is not None:
                named = (slot.name, Link(link, self._inodes[link]))
                within.setdefault(slot.directory, []).append(named)
        # Only what can be reached is there.
        directories, files = dict[int, dict[str, Link]](), dict[int, bytes]()
        ahead = [ROOT]
        while ahead:
            directory = ahead.pop()
            entries = directories[directory] = dict(within.get(directory, ()))
            for _, inode in entries.values():
                if inode in self.directories:
                    ahead.append(inode)
                else:
                    files[inode] = self.files[inode]
        return directories, files

    def _state(
        self,
        directories: Mapping[int, Mapping[str, Link]],
        files: Mapping[int, bytes],
        damages: Mapping[int, int],
    ) -> Files:
        left = Files(self._last)
        left.directories = {inode: dict(entries) for inode, entries in directories.items()}
        left.data = dict(files)
        for inode, damage in damages.items():
            if inode in left.data:
                left.data[inode] = _damaged(left.data[inode], damage)
        return left


_DAMAGES = 4


def _damaged(data: bytes, damage: int) -> bytes:
    return (data, b"", data[: len(data) // 2], bytes(len(data)))[damage]
