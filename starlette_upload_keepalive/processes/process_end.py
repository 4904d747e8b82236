"""Waits for a process to end, or to send something."""

from __future__ import annotations

import os
import select
import socket
import time
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Self

_TICK = 0.05
"""The seconds between two looks, where the system can't wake us when a process ends."""


class ProcessEnd:
    """The end of a child process, which is not reaped by this: its number stays its own.

    To be entered, and used in one thread.

    Args:
        pid: The process.
        channel: What it sends on. A child of its own may have inherited the other end, and
            hold it for longer than it lives itself.
    """

    def __init__(self, pid: int, channel: socket.socket) -> None:
        self._pid = pid
        self._sent = select.poll()
        self._sent.register(channel, select.POLLIN)
        self._any = select.poll()
        self._any.register(channel, select.POLLIN)
        self._end = select.poll()
        self._tick: float | None = None
        self._pidfd: int | None = None

    def __enter__(self) -> Self:
        try:
            self._pidfd = os.pidfd_open(self._pid)
        except (AttributeError, OSError):  # an old kernel, or no descriptor is left: look often
            self._tick = _TICK
        else:
            for poll in (self._any, self._end):
                poll.register(self._pidfd, select.POLLIN)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._pidfd is not None:
            os.close(self._pidfd)

    def wait_for_more(self) -> bool:
        """Wait until something can be received; False if it has ended, and nothing can."""
        while not self._is_reached():
            if self._any.poll(_milliseconds(self._tick)) and self._sent.poll(0):
                return True
        return bool(self._sent.poll(0))

    def wait(self, seconds: float) -> bool:
        """Wait until it has ended, at most that long; False if it has not."""
        deadline = time.monotonic() + seconds
        while not (reached := self._is_reached()) and (left := deadline - time.monotonic()) > 0:
            self._end.poll(_milliseconds(left if self._tick is None else self._tick))
        return reached

    def _is_reached(self) -> bool:
        try:
            ended = os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:  # somebody else has reaped it
            return True
        return ended is not None


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1000
