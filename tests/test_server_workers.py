"""P9: several processes of one server have a spool in common, as `--workers 4` starts them."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from pathlib import Path

import pytest

from starlette_upload_keepalive.jobs.record import Standing
from tests.servers import (
    SEVERAL,
    WORKERS,
    Connection,
    Gate,
    Server,
    eventually,
    form,
    head,
    running,
)
from tests.spooled import entries, names

each_kind = pytest.mark.parametrize("kind", SEVERAL)

CLIENTS = 8
UPLOADS_OF_EACH = 10
AUTOMATIC = ("read_in_thread", "read_on_loop")


@contextmanager
def life(
    kind: str, root: Path, number: int, *options: str, grace_period: float = 30
) -> Generator[Server]:
    """Run a server once on the spool, until all of its workers answer."""
    env = {"SERVER_APP_SPOOL": str(root), "SERVER_APP_GRACE_PERIOD": str(grace_period)}
    with running(kind, root.parent / f"life-{number}", *options, env=env) as server:
        eventually(lambda: len(names(root, "owners")) == WORKERS)
        yield server
        assert "was not closed by" not in server.log


def connect_to_each(server: Server, stack: ExitStack) -> dict[int, Connection]:
    """Connect until each worker has taken a connection, and return one of each."""
    found: dict[int, Connection] = {}

    def connect() -> bool:
        connection = stack.enter_context(server.connect())
        found.setdefault(connection.request("GET", "/process").json(), connection)
        return len(found) == WORKERS

    eventually(connect)
    return found


def work(connection: Connection, tag: str, gate: Gate) -> list[str]:
    """Have the worker at the other end run two jobs, which wait at the gate."""
    body = form(b"x" * 2_000_000, tag)
    connection.send(head("POST", f"/work?tag={tag}&gate={gate.port}", len(body)), body)
    answer = connection.receive()
    assert answer.status == 202
    ids: list[str] = answer.json()
    gate.wait_for(len(ids))
    return ids


def check_all_done(root: Path) -> dict[str, tuple[int, int, int]]:
    """Nothing is left but what has succeeded; return its attempts, failures and crashes."""
    for folder in ("ready", "claimed", "owners", "dead", "corrupt"):
        assert names(root, folder) == []
    done = entries(root, "done")
    assert {entry.state for entry in done} == {"s"}
    return {entry.id: counts(entry.standing) for entry in done}


def counts(standing: Standing) -> tuple[int, int, int]:
    return standing.attempts, standing.failures, standing.crashes


@each_kind
def test_each_job_is_run_once_by_one_of_the_workers(kind: str, root: Path) -> None:
    """All bytes are what the client has sent, whichever process has read them."""
    sent: dict[str, str] = {}

    def upload(client: int) -> None:
        for number in range(UPLOADS_OF_EACH):
            tag, data = f"{client}-{number}", os.urandom(100 + 400_000 * (number % 4))
            sent[tag] = sha256(data).hexdigest()
            assert server.post(f"/status/202?tag={tag}", form(data, tag)).status == 202

    with life(kind, root, 1) as server, ExitStack() as stack:
        for pid, connection in connect_to_each(server, stack).items():
            body = form(b"data", f"{pid}")
            sent[f"{pid}"] = sha256(b"data").hexdigest()
            connection.send(head("POST", "/status/202", len(body)), body)
            assert connection.receive().status == 202
        with ThreadPoolExecutor(CLIENTS) as clients:
            list(clients.map(upload, range(CLIENTS)))
        count = len(sent) * len(AUTOMATIC)
        eventually(lambda: len(entries(root, "done")) == count)
        ran = server.records("job")
        assert len({record["pid"] for record in ran}) == WORKERS
        stack.close()
        server.stop()
        assert "Traceback" not in server.log
    runs = Counter((record["tag"], record["handler"]) for record in ran)
    assert runs == {(tag, handler): 1 for tag in sent for handler in AUTOMATIC}
    assert {record["tag"]: record["sha256"] for record in ran} == sent
    assert set(check_all_done(root).values()) == {(1, 0, 0)}


@each_kind
def test_jobs_of_a_killed_worker_are_run_by_the_others(kind: str, root: Path) -> None:
    """A crash is counted for what it has run, and nothing for what runs elsewhere."""
    with life(kind, root, 1) as server, Gate() as gate:
        with ExitStack() as stack:
            (pid, victim), (_, other), *_ = connect_to_each(server, stack).items()
            hit = work(victim, "hit", gate)
            spared = work(other, "spared", gate)
            os.kill(pid, signal.SIGKILL)
            gate.wait_for(len(hit))  # they run again
            gate.open()
            eventually(lambda: len(server.records("worked")) == len(hit + spared))
        server.stop()
        ran = server.records("worked")
        assert sorted(record["tag"] for record in ran) == ["hit"] * 2 + ["spared"] * 2
        assert pid not in {record["pid"] for record in ran}
    done = check_all_done(root)
    assert {job: done[job] for job in hit} == dict.fromkeys(hit, (2, 0, 1))
    assert {job: done[job] for job in spared} == dict.fromkeys(spared, (1, 0, 0))


@each_kind
def test_all_workers_finish_what_they_run_when_the_first_process_is_told_to_end(
    kind: str, root: Path
) -> None:
    with life(kind, root, 1) as server, Gate() as gate:
        with ExitStack() as stack:
            each = connect_to_each(server, stack)
            jobs = [job for pid in each for job in work(each[pid], f"{pid}", gate)]
        server.signal(signal.SIGTERM)
        eventually(lambda: len(server.records("shutdown")) == WORKERS)
        assert server.records("worked") == []
        gate.open()
        server.wait()
        ran = server.records("worked")
        assert Counter(record["tag"] for record in ran) == {f"{pid}": 2 for pid in each}
        assert all(record["tag"] == f"{record['pid']}" for record in ran)
        assert {record["pool"] for record in ran} == {"open"}
        assert "Traceback" not in server.log
    done = check_all_done(root)
    assert {job: done[job] for job in jobs} == dict.fromkeys(jobs, (1, 0, 0))


@each_kind
def test_what_the_workers_do_not_finish_is_run_at_the_next_start(kind: str, root: Path) -> None:
    """It is back in the spool, and neither a failure nor a crash is counted."""
    with Gate() as gate:
        with life(kind, root, 1, grace_period=0.2) as server:
            with ExitStack() as stack:
                each = connect_to_each(server, stack)
                jobs = [job for pid in each for job in work(each[pid], f"{pid}", gate)]
            server.stop()
            assert server.records("worked") == []
            assert "Traceback" not in server.log
        assert names(root, "claimed") == names(root, "owners") == []
        back = {entry.id: counts(entry.standing) for entry in entries(root, "ready")}
        assert back == dict.fromkeys(jobs, (1, 0, 0))
        with life(kind, root, 2) as server:
            gate.wait_for(len(jobs))
            gate.open()
            eventually(lambda: len(server.records("worked")) == len(jobs))
            server.stop()
    done = check_all_done(root)
    assert {job: done[job] for job in jobs} == dict.fromkeys(jobs, (2, 0, 0))
