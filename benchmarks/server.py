"""The same apps behind uvicorn, each in a process of its own, and a raw client on loopback.

``python -m benchmarks.server KIND NAME FD`` is such a process: it serves one app on
a listening socket that it inherits.
"""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import uvicorn

from .forms import Form
from .handlers import APPS, FILE, WORK, Served
from .measure import Bench, Contender, Unit, WrongResult

CONNECTIONS = 16
ROOT = Path(__file__).parents[1]

Address = tuple[str, int]


async def run(bench: Bench) -> None:
    """Race the apps, each called over several connections that are kept alive."""
    requests = bench.pick(100, quick=2) * CONNECTIONS
    for kind, apps in APPS.items():
        async with AsyncExitStack() as stack:
            addresses = {name: stack.enter_context(_server(kind, name)) for name in apps}
            contenders = [
                _contender(name, await stack.enter_async_context(_connections(address)), requests)
                for name, address in addresses.items()
            ]
            await bench.race(
                f"{WORK}, {kind}, over uvicorn, {CONNECTIONS} connections",
                Unit("requests/s", requests, is_rate=True),
                contenders,
            )


def _contender(name: str, connections: Sequence[Connection], requests: int) -> Contender:
    post = _request(Form.of([FILE]))
    expected = 0

    async def client(connection: Connection) -> None:
        for _ in range(requests // CONNECTIONS):
            status, body = await connection.ask(post)
            if status != 202:
                raise WrongResult(f"{name}: the answer is {status} {body!r}.")

    async def run() -> None:
        nonlocal expected
        expected += requests
        await asyncio.gather(*map(client, connections))
        _, body = await connections[0].ask(
            b"GET /handled/%d HTTP/1.1\r\nhost: x\r\n\r\n" % expected
        )
        if json.loads(body) != [expected, expected * len(FILE.data)]:
            raise WrongResult(f"{name}: files and bytes handled are {body!r}, not {expected}.")

    return Contender(name, run, check=run)


# The client


class Connection:
    """A connection that is kept alive; it sends one request after the other."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Send a whole request; return the status and the body of the answer."""
        self._writer.write(request)
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        status = int(head.split(b" ", 2)[1])
        size = int(head.partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0])
        return status, await self._reader.readexactly(size)

    async def close(self) -> None:
        """Close it."""
        self._writer.close()
        await self._writer.wait_closed()


@asynccontextmanager
async def _connections(address: Address) -> AsyncGenerator[list[Connection], None]:
    opened: list[Connection] = []
    try:
        while len(opened) < CONNECTIONS:
            opened.append(Connection(*await asyncio.open_connection(*address)))
        yield opened
    finally:
        for connection in opened:
            await connection.close()


def _request(form: Form) -> bytes:
    head = b"POST / HTTP/1.1\r\n" + b"".join(b"%s: %s\r\n" % header for header in form.headers)
    return b"\r\n".join([head, b"".join(message["body"] for message in form.messages)])


# The server


@contextmanager
def _server(kind: str, name: str) -> Generator[Address, None, None]:
    """Serve an app until the block ends. It may be called at once: the socket listens already."""
    with socket.create_server(("127.0.0.1", 0), backlog=CONNECTIONS) as listening:
        address: Address = listening.getsockname()
        command = [sys.executable, "-m", __name__, kind, name, str(listening.fileno())]
        process = subprocess.Popen(command, cwd=ROOT, pass_fds=[listening.fileno()])
    try:
        yield address
    finally:
        process.terminate()
        process.wait()


def serve(kind: str, name: str, listening: socket.socket) -> None:
    """Serve an app on a socket until the process is told to end."""
    served: Served = APPS[kind][name]()

    @served.app.get("/handled/{files}")
    async def handled(files: int) -> tuple[int, int]:  # pyright: ignore[reportUnusedFunction]
        await served.tally.reached(files)
        return served.tally.files, served.tally.size

    # Connections idle while the others have their turn.
    config = uvicorn.Config(
        served.app, log_level="warning", access_log=False, timeout_keep_alive=3600
    )
    server = uvicorn.Server(config)
    server.run(sockets=[listening])


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2], socket.socket(fileno=int(sys.argv[3])))
