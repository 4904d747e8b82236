"""The name of a job's directory: who it is, and where it stands.

A rename changes both where a directory lies and what its name tells, in one step.
So the name is the one place for all that changes about a job, and a spool of many
jobs is looked through without opening any.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from starlette_upload_keepalive.jobs.record import LATEST, Standing

State = Literal["w", "r", "p", "s", "f", "c", "d"]
"""Waiting, running, succeeded with children to be moved out, succeeded, failed, cancelled,
discarded."""

_NAME = re.compile(
    "(?P<id>[0-9a-f]{32})-(?P<key>[0-9a-f]{8})-(?P<due>[0-9a-f]{11})"
    "-(?P<attempts>[0-9a-f]{1,8})-(?P<failures>[0-9a-f]{1,8})-(?P<crashes>[0-9a-f]{1,8})"
    "-(?P<state>[wrpsfcd])"
)
_LAST = round(LATEST * 1000) - 1  # milliseconds


class Entry(NamedTuple):
    """A job's directory in a spool.

    Attributes:
        id: The job's.
        key: That of its handler, by `handler_key`.
        standing: Where it stands. Once it is done, ``due`` is when that was.
        state: What becomes of it.
    """

    id: str
    key: str
    standing: Standing
    state: State

    @property
    def name(self) -> str:
        """The name of its directory."""
        due, attempts, failures, crashes = self.standing_numbers
        return f"{self.id}-{self.key}-{due:011x}-{attempts:x}-{failures:x}-{crashes:x}-{self.state}"

    @property
    def standing_numbers(self) -> tuple[int, int, int, int]:
        """Where it stands, with the time in whole milliseconds."""
        standing = self.standing
        due = min(max(round(standing.due * 1000), 0), _LAST)
        return due, standing.attempts, standing.failures, standing.crashes

    @classmethod
    def parse(cls, name: str) -> Entry | None:
        """Read a name; None if it is not that of an entry."""
        found = _NAME.fullmatch(name)
        if found is None:
            return None
        numbers = [int(found[part], 16) for part in ("due", "attempts", "failures", "crashes")]
        due, attempts, failures, crashes = numbers
        standing = Standing(due / 1000, attempts, failures, crashes)
        state: State = found["state"]  # type: ignore[assignment]
        entry = cls(found["id"], found["key"], standing, state)
        return entry if entry.name == name else None  # there is one way to write it
