"""End to end: a large file over a connection, to each server, which stores it.

Each app has a server of its own. What its processes take is read from /proc.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec

from . import client, processes
from .forms import MB, Form
from .measure import Bench, Contender, Unit, WrongResult
from .worker import ROOT, Worker

APPS = {
    "Starlette": "stock",
    "this package": "this_package",
    "reading the body only": "body_only",
}
UVLOOP = "uvicorn (uvloop, httptools)"
SERVERS = {
    "uvicorn (asyncio, h11)": "uvicorn {app} --port {port} --loop asyncio --http h11",
    UVLOOP: "uvicorn {app} --port {port} --loop uvloop --http httptools",
    "hypercorn": "hypercorn {app} --bind 127.0.0.1:{port}",
    "granian": "granian {app} --port {port} --interface asgi",
}
REQUIRED = ("uvicorn", "uvloop", "httptools", "hypercorn", "granian")
_LEAST_MEMORY = 0.1 * MB  # what is less is noise, and nothing at all has no ratio
_LONGEST_START = 60.0


async def run(bench: Bench) -> None:
    """Upload one large file, and several at once, to each server."""
    large, huge = bench.pick((400 * MB, 1000 * MB), quick=(3 * MB, 4 * MB))
    each, at_once = bench.pick((20 * MB, 50), quick=(2 * MB, 3))
    for title, command in SERVERS.items():
        if missing := _missing(command):
            print(f"\n{title} is left out: {', '.join(missing)} is not installed.")
            continue
        with ExitStack() as stack:
            race = Race(bench, title, command, stack)
            await race.run(large)
            if title == UVLOOP:
                await race.run(huge)
            # The last one, since it leaves the servers with memory that they keep.
            await race.run(each, at_once)


def _missing(command: str) -> list[str]:
    return [name for name in REQUIRED if name in command.split() and not find_spec(name)]


class Race:
    """The apps, each served by a server of one kind until the block of the stack ends."""

    def __init__(self, bench: Bench, title: str, command: str, stack: ExitStack) -> None:
        self._bench = bench
        self._title = title
        self._sender = stack.enter_context(Worker("-m", "benchmarks.client"))
        self._servers = {app: stack.enter_context(_serving(command, app)) for app in APPS.values()}

    async def run(self, size: int, connections: int = 1) -> None:
        """Upload a file of that many bytes over each of that many connections."""
        amount = size * connections / MB
        units = [
            Unit("MB/s", amount, is_rate=True),
            Unit("s/GB", 1000 / amount, is_rate=False, what="CPU"),
            Unit("MB", 1 / MB, is_rate=False, what="memory"),
        ]
        what = f"{connections} files of {size / MB:g} MB at once"
        if connections == 1:
            what = f"{size / MB:g} MB"
        contenders = [
            _contender(name, app, self._servers[app], self._sender, size, connections)
            for name, app in APPS.items()
        ]
        await self._bench.race(f"Upload {what} to {self._title}", units, contenders)


class Server:
    """A server that runs.

    Attributes:
        port: Where it listens.
        pids: Its processes.
        idle: The bytes of memory that they have before the first large upload.
    """

    def __init__(self, port: int, pid: int) -> None:
        self.port = port
        self.pids = processes.family(pid)
        self.idle = processes.resident(self.pids)


def _contender(
    name: str, app: str, server: Server, sender: Worker, size: int, connections: int
) -> Contender:
    expected = Form.huge(size).size if app == "body_only" else size

    def upload(path: str) -> tuple[float, list[object]]:
        seconds, answers = sender.ask(
            port=server.port, path=path, size=size, connections=connections
        )
        return seconds, answers

    async def run() -> Sequence[float]:
        processes.forget_peak(server.pids)
        cpu = processes.cpu_seconds(server.pids)
        seconds, answers = upload("/")
        # What is done after the answer counts, too: large files are closed then.
        cpu = processes.cpu_seconds_at_rest(server.pids) - cpu
        if answers != [expected] * connections:
            raise WrongResult(f"{name}: the sizes are {answers}, not {expected}.")
        memory = processes.peak(server.pids) - server.idle
        return [seconds, max(cpu, processes.TICK), max(memory, _LEAST_MEMORY)]

    async def check() -> None:
        if app == "body_only":
            await run()
            return
        digest = client.sha256(size)
        if set(upload("/digest")[1]) != {digest}:
            raise WrongResult(f"{name} has not stored what was sent.")

    return Contender(name, run, check)


@contextmanager
def _serving(command: str, app: str) -> Generator[Server, None, None]:
    """Serve an app until the block ends."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    arguments = command.format(app=f"benchmarks.upload_apps:{app}", port=port).split()
    process = subprocess.Popen(
        [sys.executable, "-m", *arguments, "--log-level", "warning"], cwd=ROOT
    )
    try:
        _wait_for(port, process)
        client.answer(port, "/", 1, 1)  # whatever is imported with the first request
        yield Server(port, process.pid)
    finally:
        process.terminate()
        process.wait()


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _LONGEST_START
    with socket.socket() as attempt:
        while attempt.connect_ex(("127.0.0.1", port)) != 0:
            if process.poll() is not None or time.monotonic() > deadline:
                raise WrongResult(f"{process.args!r} does not listen.")
            time.sleep(0.05)
