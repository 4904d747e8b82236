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
        self.size = size
        self.received: int = 0
        self._limits = _NONE if limits is None else limits
        self._most = self._limits.max_request_size or math.inf
        self._clock = clock
        self._next_look = math.inf
        self._rests = False
        self._began = 0.0
        self._scope: anyio.CancelScope | None = None  # of a long body

    @property
    def missing(self) -> int:
        """The bytes that are still to come, as far as is known."""
        return max(0, (self.size or 0) - self.received)

    def within_time(self, receiving: Awaitable[None]) -> Awaitable[None]:
        """Return what awaits that which receives the body and lets this `take` it.

        Args:
            receiving: It. The client's time is not counted while it is `at_rest`.

        Raises:
            UploadTooSlow: In what is returned: the client has sent nothing for too long.

        Cancellation: as that of what receives.
        """
        if self._limits.receive_timeout is None:
            return receiving
        if self._limits.min_rate is not None:
            self._began = self._clock()
            self._next_look = self._began + _START
        if self.size is not None and self.size <= _SHORT:
            return Stepwise(receiving, self._patience, self._silence)
        return self._with_timer(receiving)

    async def _with_timer(self, receiving: Awaitable[None]) -> None:
        with anyio.CancelScope() as self._scope:
            self._set_timer()
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
        if self.received > self._most:
            raise RequestTooLarge(int(self._most))
        if self._clock() >= self._next_look:
            self._look()

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

    def _look(self) -> None:
        rate = self._limits.min_rate
        if rate is not None and self.received < rate * (self._clock() - self._began - _START):
            raise UploadTooSlow(f"It comes with less than {rate:,} bytes a second.")
        self._set_timer()

    def _set_timer(self) -> None:
        if self._scope is not None:
            timeout = self._patience()
            coarse = min(_COARSE, timeout * _COARSE_SHARE)
            self._scope.deadline = anyio.current_time() + timeout + coarse
            self._next_look = self._clock() + coarse

    def _patience(self) -> float:
        timeout = self._limits.receive_timeout
        return math.inf if self._rests or timeout is None else timeout

    def _silence(self) -> UploadTooSlow:
        return UploadTooSlow(f"Nothing has come for {self._patience():g} seconds.")


_NONE = Limits(receive_timeout=None)
