"""The end of a session of processes: of its leader, and of all that this has started."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path


def end_session(leader: int) -> set[int]:
    """Kill what lives in a session, in whatever process group (setpgid(2)).

    Some programs make a group of their own for what they start: timeout(1), or a shell
    with job control.

    Args:
        leader: Its leader, which is not reaped yet: its number is no other's.

    Returns:
        The process groups that they were in, the leader's included, but for those with one in
        them that may not be killed.
    """
    groups, others, seen = {leader}, set[int](), set[int]()
    while found := [(pid, group) for pid, group in _living(leader) if pid not in seen]:
        for pid, group in found:  # what it has started before it is killed is found next time
            seen.add(pid)
            groups.add(group)
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
            except PermissionError:  # another user's, as sudo(8) is
                others.add(group)
    return groups - others


def reap(groups: set[int]) -> None:
    """Reap those of killed groups that have become children of this process.

    They do if it is the first of a container, or PR_SET_CHILD_SUBREAPER (prctl(2)) is set.
    """
    while any(_reaps(group) for group in groups):
        pass


def _reaps(group: int) -> bool:
    try:
        os.waitpid(-group, 0)
    except ChildProcessError:
        return False
    return True


def _living(session: int) -> Iterator[tuple[int, int]]:
    """Go over a session's processes that live: the number of each, and its group."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            told = path.read_bytes()
        except OSError:  # it has ended
            continue
        state, _, group, its_session = told.rpartition(b")")[2].split()[:4]
        if int(its_session) == session and state != b"Z":
            yield int(path.parent.name), int(group)
