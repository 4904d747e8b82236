"""Processes that are forked off one that has imported everything, so that they start at once."""

from __future__ import annotations

import math
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGKILL, SIGTERM, Signals


def fork(work: Callable[[], object], log: Path) -> int:
    """Do some work in a process of its own.

    Args:
        work: What to do. The process ends with it.
        log: Where it prints to.

    Returns:
        The id of the process.
    """
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(fd, 1)
        os.dup2(fd, 2)
        work()
        code = 0
    except BaseException as error:  # noqa: BLE001 - the forked process must not go on as its parent
        if _is_interrupt(error):
            code = 0
        else:
            traceback.print_exc()
    finally:
        for thread in threading.enumerate():  # as the interpreter does at its end
            if not thread.daemon and thread is not threading.current_thread():
                thread.join()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _is_interrupt(error: BaseException | None) -> bool:
    # One that comes while uvloop closes the event loop makes that fail with an error of its own.
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None


@dataclass
class Life:
    """One process of a server.

    Attributes:
        number: Which of all lives it is.
        pid: Its process.
        told: By which signals it was told to end.
        told_at: When it was told first, by the machine's monotonic clock.
        killed_at: When it was killed, by the same.
        code: Its exit code, once it has ended by itself.
    """

    number: int
    pid: int
    told: list[Signals] = field(default_factory=list[Signals])
    told_at: float = math.inf
    killed_at: float = math.inf
    code: int | None = None

    @property
    def ending_at(self) -> float:
        """From when on its jobs may be run by others."""
        return min(self.told_at, self.killed_at)

    def kill(self) -> None:
        """End it as a power button would."""
        self.killed_at = time.monotonic()
        os.kill(self.pid, SIGKILL)
        os.waitpid(self.pid, 0)

    def tell(self, by: Signals) -> None:
        """Ask it to end."""
        self.told_at = min(self.told_at, time.monotonic())
        self.told.append(by)
        os.kill(self.pid, by)

    def has_ended(self) -> bool:
        """Tell whether it has, since it was asked to."""
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if pid:
            self.code = os.waitstatus_to_exitcode(status)
        return bool(pid)

    def stop(self) -> None:
        """Ask it to end, and wait for that."""
        self.tell(SIGTERM)
        self.code = wait_for(self.pid)


def wait_for(pid: int) -> int:
    """Wait for the end of a process, and return its exit code."""
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)
