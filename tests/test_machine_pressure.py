"""P7: more uploads at once than memory and descriptors have room for."""

from __future__ import annotations

import os
import resource
from collections import Counter
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from tests.servers import UVICORNS, Server, eventually, form, head, running

KIB = 1024
MIB = 1024 * KIB
CLIENTS = 1000
DATA = os.urandom(MIB - 1)  # small enough to stay in memory, if there is some
BODY = form(DATA, "a", field="file")

# What `memory_budget` is by default; and for each upload 128 KiB, the message that comes with them,
# of which asyncio reads 256 KiB at once, and what the server has received of the next.
MOST_MEMORY = 64 * MIB + CLIENTS * (128 + 256 + 128) * KIB
PATIENCE = 120.0
USUAL_DESCRIPTORS = 1024


@pytest.fixture
def many_descriptors() -> Generator[None]:
    """Let the clients, in this process, have theirs."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2 * CLIENTS:
        pytest.skip(f"the process may have no more than {hard} descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2 * CLIENTS), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def post(server: Server, until: Barrier) -> int:
    """Send a file, and its end when all the others have come so far."""
    with server.connect(PATIENCE) as connection:
        with suppress(ConnectionError):  # it may be refused before all of it is sent
            connection.send(head("POST", "/size", len(BODY)), BODY[:-9])
            until.wait(PATIENCE)
            connection.send(BODY[-9:])
        return connection.receive().status


@pytest.mark.parametrize("kind", UVICORNS)
@pytest.mark.usefixtures("many_descriptors")
@pytest.mark.parametrize("descriptors", [USUAL_DESCRIPTORS, 4 * CLIENTS], ids=["few", "many"])
def test_a_thousand_files_at_once(kind: str, tmp_path: Path, descriptors: int) -> None:
    """Memory is bounded, each client gets a clear answer, and all is as before."""
    with running(kind, tmp_path, app="app") as server:
        limits = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
        few = (min(descriptors, limits[1]), limits[1])
        alone = Barrier(1)
        # With few, nobody is let in for whom there is none: they come as others go.
        together = Barrier(CLIENTS) if descriptors > 2 * CLIENTS else alone
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, few)
        assert post(server, Barrier(1)) == 200
        baseline: dict[str, Any] = eventually(server.settled)
        before = server.memory()

        with ThreadPoolExecutor(CLIENTS) as pool:
            answers = Counter(pool.map(post, [server] * CLIENTS, [together] * CLIENTS))
        taken = server.memory("VmHWM") - before
        print(f"{answers}, {taken / 1e6:.0f} MB more")
        assert answers[200] + answers[503] == CLIENTS
        assert answers[200] > (0 if together is alone else CLIENTS - 1)
        assert taken < MOST_MEMORY

        assert post(server, Barrier(1)) == 200
        eventually(lambda: server.get("/state").json() == baseline)
        server.stop()
        assert "was not closed by" not in server.log
