"""What lives in a session of processes is killed, and nothing besides."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from starlette_upload_keepalive.processes import process_session
from starlette_upload_keepalive.processes.process_session import end_session, reap

STARTS = """
import os, signal
if os.fork() == 0:
    os.setpgid(0, 0)
    print(os.getpid(), flush=True)
signal.pause()
"""


def started() -> subprocess.Popen[str]:
    command = [sys.executable, "-c", STARTS]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)


def test_all_of_a_session_ends_and_no_other() -> None:
    with started() as leader, started() as other:
        assert leader.stdout is not None
        assert other.stdout is not None
        group = int(leader.stdout.readline())
        others = int(other.stdout.readline())
        assert end_session(leader.pid) == {leader.pid, group}
        assert leader.wait() == -signal.SIGKILL
        assert leader.stdout.read() == ""  # which ends with those who could write to it
        assert other.poll() is None
        reap({leader.pid, group})  # they are no children of this process
        assert end_session(other.pid) == {other.pid, others}
    assert end_session(leader.pid) == {leader.pid}


@pytest.mark.parametrize(("error", "left"), [(ProcessLookupError, 2), (PermissionError, 0)])
def test_one_that_can_not_be_killed(
    error: type[OSError], left: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for its end."""

    def refuse(pid: int, signal_number: int) -> None:
        raise error

    with started() as leader:
        assert leader.stdout is not None
        leader.stdout.readline()
        with monkeypatch.context() as patched:
            patched.setattr(os, "kill", refuse)
            assert len(end_session(leader.pid)) == left
        end_session(leader.pid)


def test_one_that_ends_while_it_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> bytes:
        raise ProcessLookupError(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert list(process_session._living(os.getsid(0))) == []
