"""What was promised of each job at some moment, and whether it holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

from .log import Noted

Place = Literal["waits", "done", "dead"]


class Expected(NamedTuple):
    """What a job must be, wherever it is.

    Attributes:
        record: Its record, as JSON.
        contents: The bytes of its files.
    """

    record: bytes
    contents: tuple[bytes, ...]


class Broken(AssertionError):
    """A promise does not hold."""


@dataclass(frozen=True)
class Promises:
    """What the world outside knows of jobs.

    Attributes:
        requests: The jobs of each request, by the first of them, and whether it was accepted.
        endings: For each job whose end has begun, the children of each time it did.
        forgetting: Whether jobs that are done may be there no more.
        spared: The jobs of which no crash is to be counted.
    """

    requests: Mapping[tuple[str, ...], bool] = field(default_factory=dict[tuple[str, ...], bool])
    endings: Mapping[str, frozenset[tuple[str, ...]]] = field(
        default_factory=dict[str, frozenset[tuple[str, ...]]]
    )
    forgetting: bool = False
    spared: frozenset[str] = frozenset()

    def after(self, noted: Noted) -> Promises:
        """Return what it knows after one thing more."""
        if noted.what in ("accepting", "accepted"):
            requests = {**self.requests, noted.ids: noted.what == "accepted"}
            return replace(self, requests=requests)
        if noted.what == "forgetting":
            return replace(self, forgetting=True)
        if noted.what == "spared":
            return replace(self, spared=self.spared | {*noted.ids})
        if noted.what == "starting":
            return replace(self, spared=self.spared - {*noted.ids})
        if noted.what == "call":
            return self
        job, *children = noted.ids
        endings = self.endings.get(job, frozenset()) | {tuple(children)}
        return replace(self, endings={**self.endings, job: endings})

    @property
    def key(self) -> object:
        """What is equal of those that promise the same."""
        requests = frozenset(self.requests.items())
        return requests, frozenset(self.endings.items()), self.forgetting, self.spared

    def check(self, places: Mapping[str, Place], crashes: Mapping[str, int]) -> None:
        """See whether each job is where it may be.

        Args:
            places: Where each job is that is anywhere, all of it.
            crashes: How many were counted of each.

        Raises:
            Broken: One is not.
        """
        for jobs, accepted in self.requests.items():
            there = [job for job in jobs if job in places]
            if accepted:
                for job in jobs:
                    self._check_place(job, places)
            elif len(there) not in (0, len(jobs)):
                raise Broken(f"of one request some jobs are there, and some not: {there}")
            elif any(places[job] != "waits" for job in there):
                raise Broken("a job is done that was not even accepted")
        for parent, endings in self.endings.items():
            self._check_children(parent, endings, places)
        for job in self.spared:
            if crashes.get(job):
                raise Broken(f"{job} was only interrupted, but crashes are counted")
        known = {job for jobs in self.requests for job in jobs}
        known |= {child for each in self.endings.values() for family in each for child in family}
        if unknown := set(places) - known:
            raise Broken(f"nobody knows of {unknown}")

    def _check_place(self, job: str, places: Mapping[str, Place]) -> None:
        place = places.get(job)
        if job not in self.endings and place != "waits":
            raise Broken(f"{job} was accepted and not ended, but is {place}")
        if place is None and not self.forgetting:
            raise Broken(f"{job} was accepted, and is lost")

    def _check_children(
        self, parent: str, endings: frozenset[tuple[str, ...]], places: Mapping[str, Place]
    ) -> None:
        families = [
            [child in places or (self.forgetting and child in self.endings) for child in family]
            for family in endings
        ]
        if places.get(parent) == "waits":
            if any(any(family) for family in families):
                raise Broken(f"{parent} runs again, but has children")
            return
        # Of the times that it has ended, one is what happened.
        touched = [family for family in families if any(family)]
        if not ((len(touched) == 1 and all(touched[0])) or (not touched and () in endings)):
            raise Broken(f"{parent} is done, but of its children there are {families}")
