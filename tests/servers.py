"""Real servers as processes of their own, and clients that behave as badly as they like."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPResponse
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from tests.asgi import BOUNDARY, file_part, multipart

if TYPE_CHECKING:
    from typing_extensions import Self

T = TypeVar("T")

ROOT = Path(__file__).parents[1]
HOST = "127.0.0.1"
PATIENCE = 20.0


@dataclass(frozen=True)
class Kind:
    """A server in one of its configurations.

    Attributes:
        needs: The libraries without which it can't be had.
        command: What starts it, to be followed by the app.
        port: How it is told the port.
    """

    needs: tuple[str, ...]
    command: tuple[str, ...]
    port: str

    def skip_if_missing(self) -> None:
        missing = [name for name in self.needs if find_spec(name) is None]
        if missing:
            pytest.skip(f"not installed: {', '.join(missing)}")


_UVICORN = ("uvicorn", "--no-access-log")
_HYPERCORN = ("hypercorn", "--error-logfile=-", "--worker-class")

KINDS = {
    "uvicorn-h11": Kind(
        ("uvicorn", "h11"), (*_UVICORN, "--http=h11", "--loop=asyncio"), "--port={port}"
    ),
    "uvicorn-httptools": Kind(
        ("uvicorn", "httptools", "uvloop"),
        (*_UVICORN, "--http=httptools", "--loop=uvloop"),
        "--port={port}",
    ),
    "hypercorn-asyncio": Kind(("hypercorn",), (*_HYPERCORN, "asyncio"), f"--bind={HOST}:{{port}}"),
    "hypercorn-trio": Kind(("hypercorn", "trio"), (*_HYPERCORN, "trio"), f"--bind={HOST}:{{port}}"),
    "granian": Kind(("granian",), ("granian", "--interface=asgi"), "--port={port}"),
}
UVICORNS = [name for name in KINDS if name.startswith("uvicorn")]
WORKERS = 4
_GUNICORN = ("gunicorn", "--no-control-socket", "--worker-class=uvicorn_worker.UvicornWorker")
SEVERAL = {
    "uvicorn-workers": Kind(
        ("uvicorn", "h11"),
        (*_UVICORN, "--http=h11", "--loop=asyncio", f"--workers={WORKERS}"),
        "--port={port}",
    ),
    "gunicorn": Kind(
        ("gunicorn", "uvicorn_worker"),
        (*_GUNICORN, f"--workers={WORKERS}"),
        f"--bind={HOST}:{{port}}",
    ),
    "gunicorn-preload": Kind(
        ("gunicorn", "uvicorn_worker"),
        (*_GUNICORN, "--preload", f"--workers={WORKERS}"),
        f"--bind={HOST}:{{port}}",
    ),
}
"""Servers of several processes, which have one spool in common."""


class Server:
    """A server that runs.

    Attributes:
        process: Its first process.
        port: Where it listens on loopback.
        directory: Where it has its temporary files, its log and its records.
    """

    def __init__(self, process: subprocess.Popen[bytes], port: int, directory: Path) -> None:
        self.process = process
        self.port = port
        self.directory = directory

    @property
    def log(self) -> str:
        """All that it has printed."""
        return (self.directory / "log").read_text(errors="replace")

    def records(self, what: str, tag: str | None = None) -> list[dict[str, Any]]:
        """What the app has recorded of that kind, for one upload or for all."""
        path = self.directory / "records"
        whole, _, _ = path.read_text().rpartition("\n")  # the app may be writing one more
        records = [json.loads(line) for line in whole.splitlines()]
        return [
            record
            for record in records
            if record["what"] == what and (tag is None or record["tag"] == tag)
        ]

    def connect(self, timeout: float = PATIENCE) -> Connection:
        return Connection(self.port, timeout)

    def get(self, path: str) -> Response:
        """Make one request on a connection of its own."""
        with self.connect() as connection:
            return connection.request("GET", path)

    def post(self, path: str, body: bytes, **headers: str) -> Response:
        """Send one form on a connection of its own."""
        with self.connect() as connection:
            with suppress(ConnectionError):  # it may answer, and close, before it has read all
                connection.send(head("POST", path, len(body), **headers), body)
            return connection.receive()

    def memory(self, what: str = "VmRSS") -> int:
        """Return the bytes of memory of its first process, as proc(5) names them."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        (line,) = [line for line in status.splitlines() if line.startswith(f"{what}:")]
        return int(line.split()[1]) * 1024

    def settled(self) -> dict[str, Any] | None:
        """Return what is open, if nothing is at work."""
        state: dict[str, Any] = self.get("/state").json()
        return state if state["open blobs"] == state["threads at work"] == 0 else None

    def signal(self, by: signal.Signals) -> None:
        self.process.send_signal(by)

    def wait(self) -> int:
        """Wait for its end, and for that of all its processes.

        Returns:
            The exit code of the first of them.
        """
        code = self.process.wait(PATIENCE)
        eventually(lambda: not self._is_alive())
        return code

    def stop(self) -> int:
        """Ask it to end, and wait for that."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        """End all of its processes, whatever they do."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def _is_alive(self) -> bool:
        try:
            os.killpg(self.process.pid, 0)
        except ProcessLookupError:
            return False
        return True


@contextmanager
def running(
    kind: str,
    directory: Path,
    *options: str,
    app: str = "recorded",
    env: Mapping[str, str] | None = None,
) -> Generator[Server]:
    """Start a server on a free port, and see to it that nothing is left of it.

    Args:
        kind: Which of `KINDS` or `SEVERAL`.
        directory: An empty one, for all that it writes.
        options: More of its command line.
        app: Which app it serves: of ``tests.server_app``, or of the module before the colon.
        env: More of its environment.
    """
    chosen = {**KINDS, **SEVERAL}[kind]
    chosen.skip_if_missing()
    port = _free_port()
    temporary = directory / "temporary"
    temporary.mkdir(parents=True)
    (directory / "records").touch()
    command = [
        sys.executable,
        *("-W", "always::ResourceWarning", "-m", *chosen.command),
        *(chosen.port.format(port=port), *options),
        app if ":" in app else f"tests.server_app:{app}",
    ]
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={
                **os.environ,
                "TMPDIR": str(temporary),
                "SERVER_APP_DIRECTORY": str(directory),
                **(env or {}),
            },
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # all of its processes can be found by their group
        )
    server = Server(process, port, directory)
    try:
        eventually(lambda: _is_ready(server))
        yield server
    finally:
        server.kill()


@dataclass(frozen=True)
class Response:
    """A complete answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Connection:
    """A client's connection, one request after the other."""

    def __init__(self, port: int, timeout: float = PATIENCE) -> None:
        self._socket = socket.create_connection((HOST, port), timeout=timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self._socket.sendall(piece)

    def send_at_once(self) -> None:
        """Have each piece that is sent go on its way by itself."""
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def receive(self) -> Response:
        """Read one answer to its end."""
        with HTTPResponse(self._socket) as response:
            response.begin()
            body = response.read()
            return Response(response.status, dict(response.headers), body)

    def fileno(self) -> int:
        return self._socket.fileno()

    def receive_some(self) -> bytes:
        """Read what is there of an answer."""
        return self._socket.recv(64 * 1024)

    def request(self, method: str, path: str, body: bytes = b"") -> Response:
        self.send(head(method, path, len(body)), body)
        return self.receive()

    def close(self) -> None:
        self._socket.close()

    def reset(self) -> None:
        """Close it as a client that crashes does: with a reset."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()


def head(method: str, path: str, length: int, **headers: str) -> bytes:
    """Return the head of a request; an underscore in a header's name stands for a dash."""
    lines = {
        "host": HOST,
        "content-length": str(length),
        "content-type": FORM,
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    fields = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"{method} {path} HTTP/1.1\r\n{fields}\r\n".encode()


FORM = f"multipart/form-data; boundary={BOUNDARY}"


def form(data: bytes, filename: str, *, field: str = "photo") -> bytes:
    """Return the body of a form with one file."""
    return multipart(file_part(data, name=field, filename=filename))


class Gate:
    """Holds everything in the server that comes to it, until it opens.

    The app passes it with `tests.server_app.pass_gate`: it connects to the
    gate's port and waits for the connection to be closed. So a test knows who
    is there, and decides when it goes on.
    """

    def __init__(self) -> None:
        self._listener = socket.create_server((HOST, 0), backlog=128)
        self._listener.settimeout(PATIENCE)
        self._held: list[socket.socket] = []
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.open()

    def wait_for(self, count: int) -> None:
        """Wait until that many more have come."""
        self._held += [self._listener.accept()[0] for _ in range(count)]

    def open(self) -> None:
        """Let go of all that have come and will come."""
        self._listener.close()
        for held in self._held:
            held.close()


def eventually(poll: Callable[[], T | None]) -> T:
    """Return what the call returns, as soon as that is true."""
    deadline = time.monotonic() + PATIENCE
    while not (result := poll()):
        if time.monotonic() > deadline:
            pytest.fail(f"It was never true within {PATIENCE} seconds.")
        time.sleep(0.01)
    return result


def _is_ready(server: Server) -> bool:
    if server.process.poll() is not None:
        pytest.fail(f"The server ended before it began:\n{server.log}")
    try:
        answer = server.get("/state")
    except OSError:
        return False
    assert answer.status == 200, server.log
    return True


def _free_port() -> int:
    with socket.socket() as free:
        free.bind((HOST, 0))
        port: int = free.getsockname()[1]
        return port
