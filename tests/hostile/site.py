"""A server under attack: what it answers on the wire, and what it holds."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.hostile.bodies import GOOD, HANDLERS, MIB, of_file
from tests.servers import KINDS, Connection, Server, eventually, running

PROC = pytest.mark.skipif(
    not Path("/proc/self/task").exists(), reason="this system does not tell what a process holds"
)
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})")
# Hypercorn on trio reads as it does on asyncio. But an error in the midst of a body ends it, if the
# app answers just then: both write to the connection, and trio allows one (hypercorn 0.18).
SERVERS = [kind for kind in KINDS if kind != "hypercorn-trio"]
LARGE = of_file(bytes(2 * MIB))  # lies on disk


CONNECTION = "socket:[N]"
# Threads come and go with the work: idle ones wait for more of it. A leak is one for each request.
SPARE_THREADS = 8


@dataclass(frozen=True)
class Holdings:
    """What the kernel says a process holds; and what the app says.

    Attributes:
        descriptors: How many of each kind, but for connections: servers keep those for a while.
        threads: How many.
        state: Temporary files, uploads, memory that is accounted for.
    """

    descriptors: Counter[str]
    threads: int
    state: dict[str, Any]

    def are_within(self, others: Holdings) -> bool:
        """Whether nothing is held that those others do not hold."""
        return (
            self.descriptors <= others.descriptors
            and self.threads <= others.threads + SPARE_THREADS
            and self.state == others.state
        )


class Site:
    """A server, and how it was before anybody was hostile to it.

    Args:
        server: One that serves `tests.hostile.app`.
    """

    def __init__(self, server: Server) -> None:
        self.server = server
        self.pid: int = server.get("/process").json()
        for data in [GOOD, LARGE, GOOD]:  # all that is made on first use, and never again
            assert server.post("/form", data).status == 200, server.log
        self.before: Holdings = eventually(self._at_rest)

    @contextmanager
    def unharmed(self, files: int = 0) -> Generator[None]:
        """See that the next request is served, that only these jobs have run, and nothing is left.

        Args:
            files: For how many the handlers must run meanwhile.
        """
        before = self.jobs_run()
        yield
        assert self.server.post("/form", GOOD).status == 200, self.server.log
        eventually(lambda: self.jobs_run() >= before + HANDLERS * (files + 1))
        self.check_nothing_is_held()
        assert self.jobs_run() == before + HANDLERS * (files + 1)

    def check_nothing_is_held(self) -> None:
        """See that no descriptor, connection, thread or temporary file is left."""
        __tracebackhide__ = True
        try:
            eventually(lambda: self.holdings().are_within(self.before))
        except pytest.fail.Exception:
            assert self.holdings() == self.before  # shows what is

    def jobs_run(self) -> int:
        return len(self.server.records("job"))

    @contextmanager
    def request_begins(self) -> Generator[None]:
        """Wait until one more request has come to the app than before the block."""
        before = len(self.server.records("begin"))
        yield
        eventually(lambda: len(self.server.records("begin")) > before)

    def holdings(self) -> Holdings:
        state = self.server.get("/state").json()
        descriptors = Counter(re.sub(r"\d+", "N", link) for link in self._links())
        del descriptors[CONNECTION]
        return Holdings(descriptors, len(os.listdir(f"/proc/{self.pid}/task")), state)

    @property
    def resident_bytes(self) -> int:
        """What it has of the machine's memory."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        (kilobytes,) = re.findall(r"^VmRSS:\s+(\d+) kB$", status, re.MULTILINE)
        return int(kilobytes) * 1024

    @property
    def connections(self) -> int:
        """How many sockets it has."""
        return sum(link.startswith("socket:") for link in self._links())

    def _links(self) -> Iterator[str]:
        for path in Path(f"/proc/{self.pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # closed meanwhile
                yield os.readlink(path)

    def _at_rest(self) -> Holdings | None:
        holdings = self.holdings()
        busy = holdings.state["open blobs"], holdings.state["threads at work"]
        return holdings if busy == (0, 0) else None


@contextmanager
def serving(kind: str, directory: Path, **limits: float) -> Generator[Site]:
    """Start a server for hostile clients, and see that its uploads were all let go of.

    Args:
        kind: Which of `SERVERS`.
        directory: An empty one, for all that it writes.
        limits: Those of the app's uploads.
    """
    options = ["--keep-alive=1"] if "hypercorn" in kind else []  # how long it keeps what is closed
    env = {"SERVER_APP_LIMITS": json.dumps(limits)}
    app = "tests.hostile.app:recorded"
    with running(kind, directory, *options, app=app, env=env) as server:
        yield Site(server)
        server.stop()
        assert "was not closed by" not in server.log  # P2: an upload that was forgotten


def until_closed(connection: Connection, *pieces: bytes) -> bytes:
    """Send it all, and read until the server closes the connection."""
    received = b""
    try:
        connection.send(*pieces)
        while more := connection.receive_some():
            received += more
    except ConnectionError:  # it was closed before all was read, and that counts as well
        pass
    return received


def statuses(received: bytes) -> str:
    """Return the status of each answer in there."""
    return " ".join(status.decode() for status in _STATUS.findall(received))
