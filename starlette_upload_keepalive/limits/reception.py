"""One body as it comes in: how much has come, how fast, and how much may."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING

import anyio

from starlette_upload_keepalive.exceptions import RequestTooLarge, UploadTooSlow

from .limits import Limits

if TYPE_CHECKING:
    from typing_extensions import Self

# A timer that is set anew for each message takes as long as the parser has for some. So it is set
# once a second at most, and that much later than it has to be.
_COARSE = 1.0
_COARSE_SHARE = 1 / 8
# A slow start is no slow client (Apache's mod_reqtimeout gives 20 s before its MinRate counts).
_START = 10.0


class Reception:
    """One body as it comes in. Enter it around the loop that receives.

    Args:
        limits: How much may come in, and how fast.
        size: The bytes of the body, if they are known.
        clock: Tells the time, in seconds from anywhere.

    Attributes:
        size: As given.
        received: The bytes that have come.
    """

    def __init__(
        self,
        limits: Limits | None = None,
        size: int | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        limits = _NONE if limits is None else limits
        self.size = size
        self.received: int = 0
        self._max_size = math.inf if limits.max_request_size is None else limits.max_request_size
        self._timeout = math.inf if limits.receive_timeout is None else limits.receive_timeout
        self._min_rate = limits.min_rate or 0
        self._clock = clock
        self._coarse = min(_COARSE, self._timeout * _COARSE_SHARE)
        self._next_look = math.inf
        self._began = 0.0
        self._scope: anyio.CancelScope | None = None

    @property
    def missing(self) -> int:
        """The bytes that are still to come, as far as is known."""
        return max(0, (self.size or 0) - self.received)

    def __enter__(self) -> Self:
        if self._timeout != math.inf:
            self._scope = anyio.CancelScope(deadline=self._deadline())
            self._scope.__enter__()
            self._began = self._clock()
            self._next_look = self._began + self._coarse
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        if self._scope is None:
            return False
        scope, self._scope = self._scope, None
        ended = bool(scope.__exit__(exc_type, exc, traceback))
        if scope.cancelled_caught:
            raise UploadTooSlow(f"Nothing has come for {self._timeout:g} seconds.")
        return ended

    def take(self, data: bytes) -> None:
        """Count what has come.

        Raises:
            RequestTooLarge: It is more than may come.
            UploadTooSlow: It has come too slowly.
        """
        self.received += len(data)
        if self.received > self._max_size:
            raise RequestTooLarge(int(self._max_size))
        now = self._clock()
        if now >= self._next_look:
            self._look(now)

    @contextmanager
    def at_rest(self) -> Generator[None, None, None]:
        """Do not count the time of the block: the client waits for us."""
        if self._scope is None:
            yield
            return
        self._scope.deadline = math.inf
        rested = self._clock()
        try:
            yield
        finally:
            now = self._clock()
            self._began += now - rested
            self._next_look = now + self._coarse
            self._scope.deadline = self._deadline()

    def _look(self, now: float) -> None:
        due = self._min_rate * (now - self._began - _START)
        if self.received < due:
            raise UploadTooSlow(f"It comes with less than {self._min_rate:,} bytes a second.")
        self._next_look = now + self._coarse
        if self._scope is not None:
            self._scope.deadline = self._deadline()

    def _deadline(self) -> float:
        return anyio.current_time() + self._timeout + self._coarse


_NONE = Limits(receive_timeout=None)
