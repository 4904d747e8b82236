"""The end of a process is seen, and what it has sent before is not lost."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager

import pytest

from starlette_upload_keepalive.processes.process_end import ProcessEnd
from tests.processing import no_processes

__all__ = ["no_processes"]

SENDS = "import os, sys; fd = int(sys.argv[1]); os.write(fd, b'all'); sys.stdin.read(); os._exit(0)"


@pytest.fixture(params=["woken", "looks often", "no descriptor"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    def refuse(pid: int) -> int:
        raise OSError(24, "Too many open files")

    if request.param == "looks often":
        monkeypatch.delattr(os, "pidfd_open")
    elif request.param == "no descriptor":
        monkeypatch.setattr(os, "pidfd_open", refuse)
    return str(request.param)


@contextmanager
def sender() -> Generator[tuple[subprocess.Popen[bytes], socket.socket, socket.socket]]:
    """Start a process that sends something, and ends with its input. Its end stays open here."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        process = subprocess.Popen(
            [sys.executable, "-c", SENDS, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.PIPE,
        )
        with process:
            yield process, ours, theirs


def test_what_was_sent_comes_before_the_end(kind: str) -> None:
    with sender() as (process, ours, _), ProcessEnd(process.pid, ours) as end:
        assert end.wait_for_more()
        assert process.stdin is not None
        process.stdin.close()
        assert end.wait(10)
        assert end.wait_for_more()
        assert ours.recv(10) == b"all"
        assert not end.wait_for_more()  # although the channel is open
        assert process.poll() == 0  # it was not reaped by this


def test_wait_ends(kind: str) -> None:
    with sender() as (process, ours, _), ProcessEnd(process.pid, ours) as end:
        assert not end.wait(0.01)
        assert process.poll() is None


def test_somebody_else_has_reaped_it(kind: str) -> None:
    with sender() as (process, ours, _):
        assert process.stdin is not None
        process.stdin.close()
        pid = process.pid
        with ProcessEnd(pid, ours) as end:
            process.wait()
            assert end.wait_for_more()
            ours.recv(10)
            assert not end.wait_for_more()
            end.wait(10)
