"""The name of a job's directory: who it is, and where it stands.

A rename changes both where a directory lies and what its name tells, in one step.
So the name is the one place for all that changes about a job, and a spool of many
jobs is looked through without opening any. The time comes first: sorted by name, the
earliest is the first.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from starlette_upload_keepalive.jobs.record import LATEST, Standing

State = Literal["w", "r", "p", "s", "f", "c", "d"]
"""Waiting, running, succeeded with children to be moved out, succeeded, failed, cancelled,
discarded."""

_COUNT = "(0|[1-9a-f][0-9a-f]{0,7})"  # there is one way to write a number
_NAME = re.compile(
    f"([0-9a-f]{{11}})-([0-9a-f]{{32}})-([0-9a-f]{{8}})-{_COUNT}-{_COUNT}-{_COUNT}-([wrpsfcd])"
)
_ID = slice(12, 44)
_KEY = slice(45, 53)
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
        return f"{due:011x}-{self.id}-{self.key}-{attempts:x}-{failures:x}-{crashes:x}-{self.state}"

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
        due, job_id, key, attempts, failures, crashes, state = found.groups()
        standing = Standing(
            int(due, 16) / 1000, int(attempts, 16), int(failures, 16), int(crashes, 16)
        )
        return cls(job_id, key, standing, state)  # type: ignore[arg-type]


def glance(name: str) -> tuple[str, str]:
    """Return the id of a job and its handler's key, of a name that may be no entry's."""
    return name[_ID], name[_KEY]


def holds_children(name: str) -> bool:
    """Tell whether the children of a job are in it that are to be moved out."""
    return name.endswith("-p")
