"""What clients ask for, and what must come of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """A kind of request.

    Attributes:
        path: Where it goes.
        files: How many files it brings.
        tasks: What must be run with each of them, if it is accepted.
        often: How often it comes, beside others.
    """

    path: str
    files: int
    tasks: frozenset[str]
    often: int


KINDS = {
    kind.path: kind
    for kind in [
        Kind("/one", 1, frozenset({"digest"}), 4),
        Kind("/six", 2, frozenset({"in_thread", "on_loop", "flaky"}), 3),
        Kind("/pipeline", 1, frozenset({"first", "second 0", "second 1", "third"}), 3),
        Kind("/submit", 1, frozenset({"submitted 7 für ☃"}), 2),
        Kind("/refused", 1, frozenset[str](), 1),
    ]
}


@dataclass(frozen=True)
class Sent:
    """A request that was sent.

    Attributes:
        path: Where to.
        files: The SHA-256 of each file, by its name.
        status: That of the answer, if all of it was received.
        jobs: The ids that it told.
    """

    path: str
    files: dict[str, str]
    status: int | None
    jobs: list[str]

    @property
    def acknowledged(self) -> bool:
        """Whether the client was told that it is accepted."""
        return self.status is not None and self.status < 300
