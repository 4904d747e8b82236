"""A process of its own for one attempt.

No library does this, as was tried: pebble, loky, `concurrent.futures` and `anyio.to_process`
unpickle what a worker returns, so that one which was taken over runs code in the app. Besides,
pebble leaves alive what a killed worker has started, one crash breaks a pool of
`concurrent.futures`, and loky and anyio use a worker again, with the limits that it has.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress

from .channel import MAX_MESSAGE, Channel, Message, NoMessage
from .process_end import ProcessEnd
from .process_session import end_session, reap

# With the paths of this process, which need not be those that the environment tells of. Until it
# has them it imports what is built in: nothing that lies where it is started.
_START = (
    "import sys; fds = map(int, sys.argv[1:3]); sys.path[:] = sys.argv[3:]; del sys.argv[1:]; "
    "from starlette_upload_keepalive.jobs.worker import main; main(*fds)"
)

_TIME_TO_LEAVE = 5.0
"""The seconds that a process gets to end by itself, once it has told what came of its work."""


class WorkerProcess:
    """A process of its own for one attempt, and all that it starts in turn.

    It is started, listened to and reaped in one thread, by `run`. Any other may
    `kill` it, at any time.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._group: int | None = None
        self._killed = False

    def kill(self) -> None:
        """End the process and all that it has started, if it has not ended. Never waits."""
        with self._lock:
            self._killed = True
            self._kill_group()

    def run(
        self,
        order: bytes,
        on_message: Callable[[Message], bool],
        *,
        fds: Sequence[int],
        environment: Mapping[str, str],
    ) -> int:
        """Start the process, and return when it has ended. Blocks.

        Args:
            order: The encoded message that it is sent first.
            on_message: Called with each message of the process. True tells that it was
                the last.
            fds: What it gets of the open files of this process, under the same numbers.
            environment: Its environment variables.

        Returns:
            Its exit status; negative if a signal has ended it (``subprocess``).

        Raises:
            OSError: It can't be started.
            NoMessage: It has sent something else than a message, or nothing although it goes on.
        """
        with _lifeline() as lifeline:
            ours, theirs = socket.socketpair()
            with ours:
                with theirs:
                    process = self._started(theirs.fileno(), lifeline, fds, environment)
                try:
                    self._listen(process, ours, order, on_message)
                finally:
                    with self._lock:  # from now on its number may be another's
                        self._kill_group()  # also what it has left behind
                        self._group = None
                    groups = end_session(process.pid)
                    process.wait()
                    reap(groups)
        return process.returncode

    def _started(
        self, end: int, lifeline: int, fds: Sequence[int], environment: Mapping[str, str]
    ) -> subprocess.Popen[bytes]:
        try:
            process = subprocess.Popen(  # noqa: S603 - a fixed program
                [sys.executable, "-c", _START, *map(str, [end, lifeline, *sys.path])],
                stdin=subprocess.DEVNULL,
                pass_fds=[end, lifeline, *fds],
                env=environment,
                start_new_session=True,  # so that it leads a group, which is killed as one
            )
        except OSError as error:  # "Resource temporarily unavailable" would tell nobody anything
            text = f"No process could be started for the handler: {error.strerror}"
            raise OSError(error.errno, text, error.filename) from error
        with self._lock:
            self._group = process.pid
            if self._killed:
                self._kill_group()
        return process

    def _kill_group(self) -> None:
        if self._group is not None:
            with suppress(ProcessLookupError):  # somebody else has reaped it: SIGCHLD is ignored
                os.killpg(self._group, signal.SIGKILL)

    def _listen(
        self,
        process: subprocess.Popen[bytes],
        end: socket.socket,
        order: bytes,
        on_message: Callable[[Message], bool],
    ) -> None:
        """Hand over the order, and wait until the process has ended or has no more to tell."""
        channel, told = Channel(end, max_size=MAX_MESSAGE), False
        with ProcessEnd(process.pid, end) as process_end:
            with suppress(BrokenPipeError, ConnectionResetError):  # it has ended: its status tells
                channel.send(order)
                while not told and process_end.wait_for_more() and channel.fill():
                    told = any(on_message(message) for message in channel.messages())
            if not process_end.wait(_TIME_TO_LEAVE) and not told:
                raise NoMessage("nothing more, although it goes on")


@contextmanager
def _lifeline() -> Generator[int, None, None]:
    """Have what a process gets to end with this one; the kernel closes its other end then."""
    theirs, ours = os.pipe()
    try:
        yield theirs
    finally:
        os.close(theirs)
        os.close(ours)
