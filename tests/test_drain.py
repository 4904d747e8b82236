"""What becomes of jobs when a real server is told to end."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from pathlib import Path

import pytest

from starlette_upload_keepalive import JobContext, JobState, Upload, Uploads
from tests.servers import KINDS, UVICORNS, Gate, Server, eventually, form, head, running

DATA = b"x" * 2_000_000  # lies on disk
IMPATIENT = {
    "uvicorn": ["--timeout-graceful-shutdown=1"],
    "hypercorn": ["--graceful-timeout=1"],
}
# They wait for answers, without a limit.
PATIENT = ("granian", "hypercorn-asyncio") if sys.version_info >= (3, 12) else ("granian",)
BRIEF = {"SERVER_APP_GRACE_PERIOD": "0.2"}

each_server = pytest.mark.parametrize("kind", KINDS)
each_uvicorn = pytest.mark.parametrize("kind", UVICORNS)


def start_work(server: Server, gate: Gate, tag: str, path: str = "/work") -> list[str]:
    """Upload a file, and wait until each of its handlers is at the gate."""
    answer = server.post(f"{path}?tag={tag}&gate={gate.port}", form(DATA, tag))
    assert answer.status == 202
    ids: list[str] = answer.json()
    gate.wait_for(len(ids))
    return ids


def lost(server: Server) -> list[str]:
    return [line for line in server.log.splitlines() if "is lost" in line]


def check_lost_once(server: Server, ids: list[str]) -> None:
    assert len(lost(server)) == len(ids)
    assert all(sum(job_id in line for line in lost(server)) == 1 for job_id in ids)


@each_server
def test_job_finishes_within_the_grace_period(kind: str, tmp_path: Path) -> None:
    """P8: the server waits for it, and it still has what the app opened in its lifespan."""
    with running(kind, tmp_path) as server, Gate() as gate:
        start_work(server, gate, "photo")
        server.signal(signal.SIGTERM)
        eventually(lambda: server.records("shutdown"))
        assert not server.records("worked")
        gate.open()
        server.wait()
        assert [record["pool"] for record in server.records("worked")] == ["open", "open"]
        assert server.records("pool closed")
        assert lost(server) == []
        assert "Traceback" not in server.log


@each_server
def test_job_beyond_the_grace_period_is_cancelled(kind: str, tmp_path: Path) -> None:
    """P8: it is logged as lost, once; one in a thread is asked; the app ends after that."""
    with Gate() as at_end, Gate() as gate:
        env = {**BRIEF, "SERVER_APP_GATE_AT_END": str(at_end.port)}
        with running(kind, tmp_path, env=env) as server:
            ids = start_work(server, gate, "photo")
            server.signal(signal.SIGTERM)
            at_end.wait_for(1)
            assert [record["pool"] for record in server.records("cancelled")] == ["open"]
            eventually(lambda: server.records("asked"))
            at_end.open()
            server.wait()
            assert server.records("worked") == []
            assert server.records("pool closed")
            check_lost_once(server, ids)
            assert list((tmp_path / "temporary").iterdir()) == []


@each_server
def test_stubborn_thread_holds_up_the_process_alone(kind: str, tmp_path: Path) -> None:
    """P8: threads can only be asked; the app ends without one that never looks.

    Where the server leaves the end to the interpreter, the process lasts until it returns.
    """
    with running(kind, tmp_path, env=BRIEF) as server, Gate() as gate:
        ids = start_work(server, gate, "photo", "/stubborn-work")
        server.signal(signal.SIGTERM)
        eventually(lambda: server.records("pool closed"))
        check_lost_once(server, ids)
        gate.open()
        server.wait()


@each_uvicorn
def test_uvicorn_kills_the_threads_that_are_left_behind(kind: str, tmp_path: Path) -> None:
    """P8: after SIGTERM, which it raises once more; so threads are asked before that."""
    with running(kind, tmp_path, env=BRIEF) as server, Gate() as gate:
        start_work(server, gate, "photo", "/stubborn-work")
        server.signal(signal.SIGTERM)
        assert server.wait() == -signal.SIGTERM
        assert server.records("returned") == []


@each_uvicorn
def test_uvicorn_lets_them_go_on_after_an_interrupt(kind: str, tmp_path: Path) -> None:
    with running(kind, tmp_path, env=BRIEF) as server, Gate() as gate:
        start_work(server, gate, "photo", "/stubborn-work")
        server.signal(signal.SIGINT)
        eventually(lambda: "Finished server process" in server.log)
        gate.open()
        server.wait()
        assert server.records("returned")


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_thread_is_asked_when_its_task_is_cancelled_natively() -> None:
    """P8: as asyncio does with all tasks when it ends, in whatever order."""
    uploads = Uploads()
    started, ended = threading.Event(), threading.Event()

    @uploads.handler()
    def handler(upload: Upload, job: JobContext) -> None:
        started.set()
        while not job.cancelled:
            pass
        ended.set()

    async with uploads.running():
        with Upload.from_bytes(b"data") as upload:
            job = handler.submit_now(upload)
        await asyncio.to_thread(started.wait)
        (task,) = [task for task in asyncio.all_tasks() if "Executor._run" in task.get_name()]
        task.cancel()
        await job.wait()
    assert job.state is JobState.CANCELLED
    assert await asyncio.to_thread(ended.wait, 10)


@each_uvicorn
def test_second_interrupt_ends_uvicorn_at_once(kind: str, tmp_path: Path) -> None:
    """P8: it then sends no lifespan shutdown; jobs are lost, and logged so."""
    with running(kind, tmp_path) as server, Gate() as gate, Gate() as held:
        ids = start_work(server, gate, "photo")
        with server.connect() as client:
            client.send(head("GET", f"/asleep?gate={held.port}", 0))
            held.wait_for(1)
            server.signal(signal.SIGINT)
            eventually(lambda: "CTRL+C to force quit" in server.log)
        # The client has left: since Python 3.12 asyncio's servers wait for connections in any case.
        server.signal(signal.SIGINT)
        eventually(lambda: server.records("cancelled"))
        held.open()  # the interpreter waits for the threads of endpoints
        server.wait()
        assert server.records("shutdown") == []
        assert server.records("asked")
        check_lost_once(server, ids)


@pytest.mark.parametrize("path", ["/stream", "/background"])
@each_server
def test_request_that_is_cut_off_still_releases_its_jobs(
    kind: str, path: str, tmp_path: Path
) -> None:
    """P4, P8: during its answer or after it, most servers cancel it, or leave it behind."""
    with (
        running(kind, tmp_path, *IMPATIENT.get(kind.partition("-")[0], [])) as server,
        Gate() as gate,
        server.connect() as client,
    ):
        body = form(DATA, "photo")
        client.send(head("POST", f"{path}?gate={gate.port}", len(body)), body)
        gate.wait_for(1)
        assert client.receive_some().startswith(b"HTTP/1.1 200")
        server.signal(signal.SIGTERM)
        if kind not in PATIENT or path == "/background":
            eventually(lambda: server.records("shutdown"))
        gate.open()
        server.wait()
        handlers = sorted(record["handler"] for record in server.records("job"))
        assert handlers == ["read_in_thread", "read_on_loop"]
        assert lost(server) == []


@each_uvicorn
def test_without_a_lifespan_jobs_run_in_their_request(kind: str, tmp_path: Path) -> None:
    """P8: the client has its answer first; uvicorn waits for them; the log tells of it once."""
    with running(kind, tmp_path, "--lifespan=off") as server, Gate() as gate:
        for tag in ["one", "two"]:
            start_work(server, gate, tag)
            assert not server.records("end", tag)
        server.signal(signal.SIGTERM)
        eventually(lambda: "CTRL+C to force quit" in server.log)
        gate.open()
        server.wait()
        assert len(server.records("worked")) == 4
        assert server.log.count("No lifespan was sent") == 1
        assert lost(server) == []


@each_uvicorn
def test_without_a_lifespan_a_job_cut_off_is_lost(kind: str, tmp_path: Path) -> None:
    """P8: uvicorn's timeout cancels the request that it runs in."""
    options = ["--lifespan=off", "--timeout-graceful-shutdown=1"]
    with running(kind, tmp_path, *options) as server, Gate() as gate:
        ids = start_work(server, gate, "photo")
        server.signal(signal.SIGINT)  # with SIGTERM it kills itself before any task can act
        server.wait()
        assert server.records("worked") == []
        check_lost_once(server, ids)
