"""P8: what becomes of jobs in a durable spool when a real server is told to end."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.owners import owning
from tests.servers import KINDS, UVICORNS, Gate, Server, eventually, form, head, running
from tests.spooled import entries, names

DATA = b"x" * 2_000_000  # lies on disk

CASES = [(kind, ()) for kind in KINDS] + [
    (kind, ("--timeout-graceful-shutdown=1",)) for kind in UVICORNS
]
each_case = pytest.mark.parametrize(
    ("kind", "options"), CASES, ids=[f"{kind}{''.join(options)}" for kind, options in CASES]
)
each_uvicorn = pytest.mark.parametrize("kind", UVICORNS)


@contextmanager
def life(
    kind: str, root: Path, number: int, *options: str, grace_period: float = 0.2
) -> Generator[Server]:
    """Run a server once on the spool; it is started again by the next of its lives."""
    env = {"SERVER_APP_SPOOL": str(root), "SERVER_APP_GRACE_PERIOD": str(grace_period)}
    with running(kind, root.parent / f"life-{number}", *options, env=env) as server:
        yield server


def start_work(server: Server, gate: Gate, path: str = "/work") -> list[str]:
    """Upload a file, and wait until each of its handlers is at the gate."""
    answer = server.post(f"{path}?tag=photo&gate={gate.port}", form(DATA, "photo"))
    assert answer.status == 202
    ids: list[str] = answer.json()
    gate.wait_for(len(ids))
    # Those that run by themselves are done.
    eventually(lambda: Counter(entry.state for entry in entries(root_of(server), "done"))["s"] == 2)
    return ids


def root_of(server: Server) -> Path:
    return server.directory.parent / "spool"


def check_all_done(root: Path, attempts: dict[str, int]) -> None:
    """Nothing is left but what is done, after that many attempts and no failure."""
    for folder in ("ready", "claimed", "owners", "dead", "corrupt"):
        assert names(root, folder) == []
    done = {entry.id: entry.standing for entry in entries(root, "done")}
    assert {job: done[job].attempts for job in attempts} == attempts
    assert all(standing.failures == 0 for standing in done.values())


@each_case
def test_job_beyond_the_grace_period_is_run_by_the_next_process(
    kind: str, options: tuple[str, ...], root: Path
) -> None:
    """It is back in the spool, and no retry is used up."""
    with Gate() as gate:
        with life(kind, root, 1, *options) as server:
            ids = start_work(server, gate)
            server.stop()
            assert server.records("worked") == []
            assert len(server.records("cancelled")) == len(server.records("asked")) == 1
            assert "Traceback" not in server.log
        assert names(root, "claimed") == names(root, "owners") == []
        back = entries(root, "ready")
        assert sorted(entry.id for entry in back) == sorted(ids)
        for entry in back:
            standing = entry.standing
            assert (standing.attempts, standing.failures, standing.crashes) == (1, 0, 0)
        with life(kind, root, 2, *options) as server:
            gate.wait_for(2)
            gate.open()
            eventually(lambda: len(server.records("worked")) == 2)
            server.stop()
            assert "Traceback" not in server.log
    check_all_done(root, dict.fromkeys(ids, 2))


@each_case
def test_thread_that_ignores_the_request_is_not_run_twice_at_a_time(
    kind: str, options: tuple[str, ...], root: Path
) -> None:
    """Its job stays claimed for as long as its process lives, and is rescued then."""
    with Gate() as gate:
        with life(kind, root, 1, *options) as server:
            (job,) = start_work(server, gate, "/stubborn-work")
            server.signal(signal.SIGTERM)
            eventually(lambda: server.records("pool closed"))
            with owning(root) as other:
                # Some servers end although a thread is at work.
                assert (other.rescue(), len(other.waiting())) in [(0, 0), (1, 1)]
                assert other.waiting() == [] or server.process.poll() is not None
        with life(kind, root, 2, *options) as server:
            gate.wait_for(1)
            gate.open()
            eventually(lambda: job in {entry.id for entry in entries(root, "done")})
            server.stop()
    check_all_done(root, {job: 2})


@each_uvicorn
def test_second_interrupt_loses_no_job(kind: str, root: Path) -> None:
    """Uvicorn then sends no lifespan shutdown."""
    with Gate() as gate:
        with life(kind, root, 1, grace_period=30) as server, Gate() as held:
            ids = start_work(server, gate)
            with server.connect() as client:
                client.send(head("GET", f"/asleep?gate={held.port}", 0))
                held.wait_for(1)
                server.signal(signal.SIGINT)
                eventually(lambda: "CTRL+C to force quit" in server.log)
            server.signal(signal.SIGINT)
            eventually(lambda: server.records("cancelled"))
            held.open()  # the interpreter waits for the threads of endpoints
            server.wait()
            assert server.records("shutdown") == server.records("worked") == []
        with life(kind, root, 2) as server:
            gate.wait_for(2)
            gate.open()
            eventually(lambda: len(server.records("worked")) == 2)
            server.stop()
    check_all_done(root, dict.fromkeys(ids, 2))


@each_case
def test_jobs_of_a_request_that_is_cut_off_are_run_once(
    kind: str, options: tuple[str, ...], root: Path
) -> None:
    """Its answer has begun, so they are accepted; here or in the next process they run."""
    with Gate() as gate, life(kind, root, 1, *options) as server, server.connect() as client:
        body = form(DATA, "photo")
        client.send(head("POST", f"/stream?gate={gate.port}", len(body)), body)
        gate.wait_for(1)
        assert client.receive_some().startswith(b"HTTP/1.1 200")
        server.signal(signal.SIGTERM)
        if "--timeout-graceful-shutdown=1" not in options:
            gate.open()
        server.wait()
        ran = server.records("job")
    with life(kind, root, 2, *options) as server:
        eventually(lambda: Counter(entry.state for entry in entries(root, "done"))["s"] == 2)
        server.stop()
        ran += server.records("job")
    assert sorted(record["handler"] for record in ran) == ["read_in_thread", "read_on_loop"]
    check_all_done(root, {})
