"""P2: clients that leave at random points of an upload, thousands of them, leave nothing behind."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.servers import UVICORNS, Server, eventually, form, head, running

KIB = 1024
MIB = 1024 * KIB
SIZES = [10, 60 * KIB, MIB - 1, MIB + 1, 3 * MIB]  # in memory, and on the disk
BODIES = [form(os.urandom(size), "a", field="file") for size in SIZES]
CLIENTS = 16
# The kernel may lose the reset of a client of whom it has dropped bytes: such a connection stays
# half open, and it is the time limit that ends the upload.
LIMITS = {"receive_timeout": 5}


def leave(server: Server, seed: int) -> None:
    """Send a part of an upload, in pieces, and go; then wait until the server has seen to others.

    Who has left waits for nothing: the server would soon have more to do than it may.
    """
    chance = random.Random(seed)
    body = chance.choice(BODIES)
    request = head("POST", "/size", len(body)) + body
    upto = chance.choice([chance.randrange(300), chance.randrange(len(request)), len(request)])
    pieces = sorted(chance.randrange(upto + 1) for _ in range(chance.randrange(4)))
    with server.connect() as connection:
        with suppress(ConnectionError):
            for start, end in zip([0, *pieces], [*pieces, upto], strict=True):
                connection.send(request[start:end])
        if chance.random() < 0.5:
            connection.reset()
    assert server.get("/process").status == 200


def leave_often(server: Server, seeds: Iterable[int]) -> dict[str, Any]:
    """Have that many clients leave, and return what is open once all is done."""
    with ThreadPoolExecutor(CLIENTS) as pool:
        for _ in pool.map(partial(leave, server), seeds):
            pass
    return eventually(server.settled)


def check_disconnects(kind: str, directory: Path, *, before: int, times: int) -> int:
    """Return by how much the server has grown, in bytes."""
    env = {"SERVER_APP_LIMITS": json.dumps(LIMITS)}
    with running(kind, directory, app="app", env=env) as server:
        baseline = leave_often(server, range(before))
        memory = server.memory()
        leave_often(server, range(before, before + times))
        eventually(lambda: server.get("/state").json() == baseline)
        grown = server.memory() - memory
        print(f"{times} clients have left: {grown / 1e6:.1f} MB more than {memory / 1e6:.1f}")
        body = BODIES[-1]
        assert server.post("/size", body).json() == SIZES[-1]
        server.stop()
        assert "was not closed by" not in server.log
        assert "Traceback" not in server.log
        return grown


@pytest.mark.parametrize("kind", UVICORNS)
def test_clients_that_leave(kind: str, tmp_path: Path) -> None:
    """A few here, ten thousand with `make soak`."""
    check_disconnects(kind, tmp_path, before=100, times=200)


@pytest.mark.soak
@pytest.mark.parametrize("kind", UVICORNS)
def test_ten_thousand_clients_that_leave(kind: str, tmp_path: Path) -> None:
    """Memory does not grow either, once the C library has what it needs for the traffic."""
    assert check_disconnects(kind, tmp_path, before=10_000, times=10_000) < 5e6
