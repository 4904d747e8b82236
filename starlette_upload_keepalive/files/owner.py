"""One who keeps stored bytes alive."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Literal

OwnerKind = Literal["request", "job", "code", "operation"]
"""A request, a job, or code that called `detach` or made the upload. What none of them
owns any more may still be read or written: by an operation that a thread finishes."""

# How the names of owners begin, or go on.
REQUEST = "the request"
JOB = "the job"
CODE = "the code that"


class Owner:
    """One who keeps a blob alive: the request, a job, or code that called `detach`.

    Args:
        release: Has the blob know this owner no more; called again, it does nothing.
        name: Who owns it, for people.
        lender: Who owns it only so that this one can, and does not read it meanwhile.

    Attributes:
        since: When it became an owner, by ``time.monotonic()``.
    """

    __slots__ = ("_release", "lender", "name", "since")

    def __init__(
        self, release: Callable[[Owner], None], name: str, lender: Owner | None = None
    ) -> None:
        self._release = release
        self.lender: Owner | None = lender
        self.name: str = name
        self.since: float = monotonic()

    @property
    def line(self) -> set[Owner]:
        """Itself, its lender, the lender's own, and so on."""
        lenders: set[Owner] = set() if self.lender is None else self.lender.line
        return lenders | {self}

    @property
    def kind(self) -> OwnerKind:
        """What owns it."""
        if self.name.startswith(REQUEST):  # whose path may say anything
            return "request"
        if self.name.startswith(CODE):
            return "code"
        return "job" if f"{JOB} " in self.name else "operation"

    def let_go(self) -> None:
        """Own the blob no longer; the last owner closes it. Again does nothing."""
        self._release(self)
