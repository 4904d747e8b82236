"""Processes that are forked off one that has imported everything, so that they start at once."""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


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
    except BaseException:  # noqa: BLE001 - the forked process must not go on as its parent
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


@dataclass
class Life:
    """One process of a server.

    Attributes:
        number: Which of all lives it is.
        pid: Its process.
        killed_at: When it was killed, by the machine's monotonic clock.
    """

    number: int
    pid: int
    killed_at: float | None = None

    def kill(self) -> None:
        """End it as a power button would."""
        self.killed_at = time.monotonic()
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)

    def stop(self) -> int:
        """Ask it to end, and return its exit code."""
        os.kill(self.pid, signal.SIGTERM)
        return wait_for(self.pid)


def wait_for(pid: int) -> int:
    """Wait for the end of a process, and return its exit code."""
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)
