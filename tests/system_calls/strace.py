"""Running a scenario in a process whose system calls strace has fail."""

from __future__ import annotations

import ctypes
import mmap
import os
import re
import subprocess
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tests.owners import PATIENCE

from .steps import Steps, unsynced

TRACED = "%file,%desc"
FAULTS = ("signal=KILL", "error=EIO", "error=ENOSPC")
# All others need no space (their man pages).
NEED_SPACE = {
    *("openat", "mkdirat", "mkdir", "renameat", "renameat2", "rename", "linkat", "link"),
    *("write", "writev", "ftruncate", "fallocate", "fsync", "copy_file_range", "sendfile"),
}
# The interpreter takes memory when it likes.
OF_MEMORY = {"mmap", "munmap"}

_SET_PTRACER, _ANY = 0x59616D61, -1  # prctl(2)
_CALL = re.compile(r"(?:\d+ +)?(\w+)\(")


@dataclass(frozen=True)
class Fault:
    """What fails, and when.

    Attributes:
        kind: One of `FAULTS`.
        call: The system call.
        count: The how many-th of that name.
    """

    kind: str
    call: str
    count: int

    def __str__(self) -> str:
        return f"{self.kind} at {self.call} {self.count}"


def trace(scenario: Steps, log: Path, fault: Fault | None = None) -> list[str]:
    """Run a scenario in a process of its own, and return its system calls as strace tells them.

    Args:
        scenario: What is run.
        log: A file for what strace tells.
        fault: What is to fail.
    """
    # Shared, so that to look at them is no system call that counts.
    prepared, traced = flags = mmap.mmap(-1, 2), mmap.mmap(-1, 2)
    child = os.fork()
    if child == 0:
        try:
            with unsynced():
                scenario.prepare()
            ctypes.CDLL(None).prctl(_SET_PTRACER, _ANY, 0, 0, 0)  # where only parents may trace
            prepared[0] = 1
            _wait_until(traced)
            scenario.run()
        finally:
            os._exit(0)
    _wait_until(prepared)
    inject = [] if fault is None else [f"--inject={fault.call}:{fault.kind}:when={fault.count}"]
    command = ["strace", f"--output={log}", f"--trace={TRACED}", *inject, f"--attach={child}"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as strace:
        assert strace.stderr is not None
        first = strace.stderr.readline()
        traced[0] = 1
        os.waitpid(child, 0)
        rest = strace.stderr.read()
    for flag in flags:
        flag.close()
    if "attached" not in first:
        raise OSError(first + rest)
    return log.read_text().splitlines()


def _wait_until(flag: mmap.mmap) -> None:
    deadline = time.monotonic() + PATIENCE
    while not flag[0] and time.monotonic() < deadline:
        time.sleep(0.001)


def faults(calls: list[str]) -> list[Fault]:
    """Return all that can fail in a run that has made these calls."""
    counts = Counter[str]()
    found: list[Fault] = []
    for line in calls:
        name = _CALL.match(line)
        if name is not None and name[1] not in OF_MEMORY:
            counts[name[1]] += 1
            found += [
                Fault(kind, name[1], counts[name[1]])
                for kind in FAULTS
                if kind != "error=ENOSPC" or name[1] in NEED_SPACE
            ]
    return found
