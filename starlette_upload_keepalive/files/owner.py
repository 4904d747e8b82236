"""One who keeps stored bytes alive."""

from __future__ import annotations

from collections.abc import Callable


class Owner:
    """One who keeps a blob alive: the request, a job, or code that called `detach`.

    Args:
        release: Has the blob know this owner no more; called again, it does nothing.
        name: Who owns it, for people.
        lender: Who owns it only so that this one can, and does not read it meanwhile.
    """

    __slots__ = ("_lender", "_release", "name")

    def __init__(
        self, release: Callable[[Owner], None], name: str, lender: Owner | None = None
    ) -> None:
        self._release = release
        self._lender = lender
        self.name: str = name

    @property
    def line(self) -> set[Owner]:
        """Itself, its lender, the lender's own, and so on."""
        lenders: set[Owner] = set() if self._lender is None else self._lender.line
        return lenders | {self}

    def let_go(self) -> None:
        """Own the blob no longer; the last owner closes it. Again does nothing."""
        self._release(self)
