"""One body as it comes in: how much has come, how fast, and how much may."""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager

import anyio

from starlette_upload_keepalive.exceptions import RequestTooLarge, UploadTooSlow
from starlette_upload_keepalive.quantities import MIB

from .limits import Limits
from .stepwise import Stepwise

# A body of which each step may have a timer of its own.
_SHORT = MIB
# For a longer one, a timer that is set anew for each message takes as long as the parser has for
# some. So it is set once a second at most, and that much later than it has to be.
_COARSE = 1.0
_COARSE_SHARE = 1 / 8
# A slow start is no slow client (Apache's mod_reqtimeout gives 20 s before its MinRate counts).
_START = 10.0


class Reception:
    """One body as it comes in.

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
        self._rests = False
        self._scope: anyio.CancelScope | None = None  # of a long body

    @property
    def missing(self) -> int:
        """The bytes that are still to come, as far as is known."""
        return max(0, (self.size or 0) - self.received)

    async def within_time(self, receiving: Awaitable[None]) -> None:
        """Await what receives the body and lets this `take` it.

        Args:
            receiving: It. The client's time is not counted while it is `at_rest`.

        Raises:
            UploadTooSlow: The client has sent nothing for too long.

        Cancellation: as that of what receives.
        """
        self._began = self._clock()
        if self._timeout == math.inf:
            await receiving
        elif self.size is not None and self.size <= _SHORT:
            self._next_look = self._began + _START if self._min_rate else math.inf
            await Stepwise(receiving, self._patience, self._silence)
        else:
            self._next_look = self._began + self._coarse
            with anyio.CancelScope(deadline=self._deadline()) as self._scope:
                await receiving
            if self._scope.cancelled_caught:
                raise self._silence()

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
        rested = self._clock()
        self._rests = True
        self._set_timer()
        try:
            yield
        finally:
            now = self._clock()
            self._rests = False
            self._began += now - rested
            self._set_timer()

    def _look(self, now: float) -> None:
        due = self._min_rate * (now - self._began - _START)
        if self.received < due:
            raise UploadTooSlow(f"It comes with less than {self._min_rate:,} bytes a second.")
        self._set_timer()

    def _set_timer(self) -> None:
        if self._scope is not None:
            self._scope.deadline = self._deadline()
            self._next_look = self._clock() + self._coarse

    def _deadline(self) -> float:
        return anyio.current_time() + self._patience() + self._coarse

    def _patience(self) -> float:
        return math.inf if self._rests else self._timeout

    def _silence(self) -> UploadTooSlow:
        return UploadTooSlow(f"Nothing has come for {self._timeout:g} seconds.")


_NONE = Limits(receive_timeout=None)
