"""What the processes of a server take: seconds of CPU, and memory at most. From /proc."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

from .forms import KIB

TICK = 1 / os.sysconf("SC_CLK_TCK")
"""The seconds of CPU that can be told apart."""
_CALM = 5 * TICK


def family(pid: int) -> Sequence[int]:
    """Return a process, and all that it has started."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = _stat(stat)
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended meanwhile
        children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found = [pid]
    for each in found:
        found += children.get(each, [])
    return found


def cpu_seconds(pids: Sequence[int]) -> float:
    """Return the seconds that they have computed, in Python and in the system, so far."""
    return sum(sum(map(int, _stat(Path(f"/proc/{pid}/stat"))[11:13])) for pid in pids) * TICK


def cpu_seconds_at_rest(pids: Sequence[int]) -> float:
    """Wait until they compute no more, and return the seconds so far."""
    before = None
    while before != (seconds := cpu_seconds(pids)):
        before = seconds
        time.sleep(_CALM)
    return seconds


def resident(pids: Sequence[int]) -> int:
    """Return the bytes of memory that they have now."""
    return sum(_status(pid, "VmRSS") for pid in pids)


def forget_peak(pids: Sequence[int]) -> None:
    """Let the peak begin anew: proc(5), /proc/pid/clear_refs."""
    for pid in pids:
        Path(f"/proc/{pid}/clear_refs").write_text("5")


def peak(pids: Sequence[int]) -> int:
    """Return the most bytes of memory that they have had since `forget_peak`."""
    return sum(_status(pid, "VmHWM") for pid in pids)


def _stat(path: Path) -> list[str]:
    # After the name of the program, which may have spaces: the state, and so on (proc(5)).
    return path.read_text().rpartition(")")[2].split()


def _status(pid: int, field: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * KIB
    raise LookupError(f"/proc/{pid}/status has no {field}.")
