"""What holds on every server, shown by real clients on real sockets."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.asgi import BOUNDARY
from tests.servers import (
    KINDS,
    UVICORNS,
    Connection,
    Gate,
    Server,
    eventually,
    form,
    head,
    running,
)

DELIMITER = f"\r\n--{BOUNDARY}".encode()
END = DELIMITER + b"--\r\n"
MIB = 1024 * 1024
SMALL = os.urandom(10)
LARGE = os.urandom(2 * MIB)  # lies on disk
AUTOMATIC = ["read_in_thread", "read_on_loop"]

_numbers = count()


@dataclass(frozen=True)
class Site:
    """A server that the tests of this module share, and how it was before them."""

    server: Server
    baseline: dict[str, Any]

    def has_ended(self, tag: str) -> bool:
        """Whether the request of an upload has ended."""
        return bool(self.server.records("end", tag))

    def has_baseline(self) -> bool:
        state: dict[str, Any] = self.server.get("/state").json()
        return state == self.baseline

    def check_nothing_ran(self, tag: str) -> None:
        """P4: no handler ran, and nothing is open."""
        eventually(lambda: self.has_ended(tag))
        self.check_nothing_is_left()
        assert set(self.server.get(f"/jobs?tag={tag}").json().values()) <= {"discarded"}
        assert self.server.records("job", tag) == []

    def check_ran_once(self, tag: str, data: bytes) -> None:
        """P4: each handler ran once and saw all bytes, and nothing is open."""
        eventually(lambda: self.has_ended(tag))
        eventually(lambda: self.states(tag) == dict.fromkeys(AUTOMATIC, "succeeded"))
        ran = self.server.records("job", tag)
        assert sorted(record["handler"] for record in ran) == AUTOMATIC
        assert {record["sha256"] for record in ran} == {sha256(data).hexdigest()}
        self.check_nothing_is_left()

    def check_nothing_is_left(self) -> None:
        """P2: descriptors, threads, temporary files and memory are as before."""
        try:
            eventually(self.has_baseline)
        except pytest.fail.Exception:
            assert self.server.get("/state").json() == self.baseline

    def states(self, tag: str) -> Any:
        return self.server.get(f"/jobs?tag={tag}").json()


@pytest.fixture(scope="module", params=KINDS)
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Generator[Site]:
    with running(request.param, tmp_path_factory.mktemp("server")) as server:
        for data in [SMALL, LARGE]:
            assert server.post("/status/200?tag=first", form(data, "first")).status == 200
        eventually(lambda: len(server.records("job", "first")) == 2 * len(AUTOMATIC))
        yield Site(server, eventually(lambda: _settled(server)))
        server.stop()
        assert "was not closed by" not in server.log  # P2: an upload that was forgotten


def _settled(server: Server) -> dict[str, Any] | None:
    state: dict[str, Any] = server.get("/state").json()
    return state if state["open blobs"] == state["threads at work"] == 0 else None


@pytest.fixture
def tag() -> str:
    """Name the upload of one test."""
    return f"upload-{next(_numbers)}"


each_size = pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])


# P4: only what was accepted


@each_size
@pytest.mark.parametrize(
    ("path", "status"),
    [("/status/400", 400), ("/status/404", 404), ("/status/503", 503), ("/raise", 500)],
)
def test_rejected_upload_runs_nothing(
    site: Site, tag: str, data: bytes, path: str, status: int
) -> None:
    """P4, P2: an answer of 4xx or 5xx, and an exception in the endpoint."""
    assert site.server.post(f"{path}?tag={tag}", form(data, tag)).status == status
    site.check_nothing_ran(tag)


@each_size
def test_vetoed_upload_runs_nothing(site: Site, tag: str, data: bytes) -> None:
    """P4, P2: ``upload.discard()`` and a 200."""
    assert site.server.post(f"/discard?tag={tag}", form(data, tag)).status == 200
    site.check_nothing_ran(tag)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/status/202", b""),
        ("/file", (Path(__file__).parent / "server_app.py").read_bytes()),
        ("/stream", b"firstsecond"),
    ],
)
@each_size
def test_accepted_upload_runs_once(
    site: Site, tag: str, data: bytes, path: str, body: bytes
) -> None:
    """P4: plain, file and streamed answers of 2xx."""
    answer = site.server.post(f"{path}?tag={tag}", form(data, tag))
    assert answer.status // 100 == 2
    assert body in answer.body
    site.check_ran_once(tag, data)


@each_size
def test_accepted_upload_runs_although_its_answer_breaks_off(
    site: Site, tag: str, data: bytes
) -> None:
    """P4: the answer's stream raises after its 200."""
    with site.server.connect() as client:
        body = form(data, tag)
        client.send(head("POST", f"/broken-stream?tag={tag}", len(body)), body)
        assert client.receive_some().startswith(b"HTTP/1.1 200")
    site.check_ran_once(tag, data)


@each_size
def test_accepted_upload_runs_although_its_client_left_before_the_answer(
    site: Site, tag: str, data: bytes
) -> None:
    """P4: the client has sent all and goes; then the endpoint answers."""
    with Gate() as gate:
        body = form(data, tag)
        client = site.server.connect()
        client.send(head("POST", f"/left?tag={tag}&gate={gate.port}", len(body)), body)
        gate.wait_for(1)
        client.close()
    eventually(lambda: site.server.records("client gone", tag))
    site.check_ran_once(tag, data)


@each_size
def test_accepted_upload_runs_although_its_client_left_during_the_answer(
    site: Site, tag: str, data: bytes
) -> None:
    """P4: the client goes after the first piece of a streamed answer."""
    with Gate() as gate:
        body = form(data, tag)
        with site.server.connect() as client:
            client.send(head("POST", f"/stream?tag={tag}&gate={gate.port}", len(body)), body)
            gate.wait_for(1)
            assert client.receive_some().startswith(b"HTTP/1.1 200")
        # Some servers cancel the stream now, others let it go on.
    site.check_ran_once(tag, data)


# Divergence 4: a client that leaves


@pytest.mark.parametrize("leave", [Connection.close, Connection.reset])
@pytest.mark.parametrize("where", ["in a header", "in the file", "after the file", "at the end"])
def test_client_that_leaves_during_the_upload_is_an_abort(
    site: Site, tag: str, leave: Callable[[Connection], None], where: str
) -> None:
    """P4, P2, divergence 4: no handler runs, and the log tells of an abort, not of an error."""
    before = len(site.server.log)
    body = form(LARGE, tag)
    sent = {
        "in a header": 20,
        "in the file": len(body) // 2,
        "after the file": len(body) - len(END),
        "at the end": len(body) - 1,
    }
    client = site.server.connect()
    client.send(head("POST", f"/status/200?tag={tag}", len(body)), body[: sent[where]])
    eventually(lambda: site.server.records("begin", tag))  # a reset overtakes what is unread
    leave(client)
    site.check_nothing_ran(tag)
    log = site.server.log[before:]
    assert log.count("Upload aborted: the client left during POST /status/200.") == 1
    assert "Traceback" not in log
    assert "rror" not in log
    (end,) = site.server.records("end", tag)
    assert end["status"] == 499  # if anything: nobody is there to read it


# P5: off the request


def test_answer_is_complete_while_handlers_run(site: Site, tag: str) -> None:
    """P5: so is that to the next request on the same connection."""
    with Gate() as gate, site.server.connect() as client:
        answer = client.request("POST", f"/work?tag={tag}&gate={gate.port}", form(LARGE, tag))
        assert (answer.status, len(answer.json())) == (202, 2)
        gate.wait_for(2)
        states = client.request("GET", f"/jobs?tag={tag}").json()
        assert states["work_in_thread"] == states["work_on_loop"] == "running"
        assert site.has_ended(tag)
        gate.open()
        eventually(lambda: set(site.states(tag).values()) == {"succeeded"})
    assert len(site.server.records("worked", tag)) == 2
    site.check_nothing_is_left()


def test_handler_sees_what_a_dependency_committed(site: Site, tag: str) -> None:
    """P5: a dependency with ``yield`` commits after the endpoint, and no job starts before."""
    with Gate() as gate, site.server.connect() as client:
        body = form(SMALL, tag)
        client.send(head("POST", f"/orders?tag={tag}&gate={gate.port}", len(body)), body)
        gate.wait_for(1)
        assert site.states(tag)["look_up_order"] == "staged"
        gate.open()
        assert client.receive().status == 202
    (seen,) = eventually(lambda: site.server.records("order", tag))
    assert seen["rows"] == 1


def test_upload_does_not_wait_for_endpoints_in_threads(site: Site, tag: str) -> None:
    """P7: forty of them take all threads that endpoints have; ours are others."""
    with Gate() as gate, ExitStack() as stack:
        sleepers = [stack.enter_context(site.server.connect()) for _ in range(40)]
        for sleeper in sleepers:
            sleeper.send(head("GET", f"/asleep?gate={gate.port}", 0))
        gate.wait_for(40)
        assert site.server.post(f"/status/200?tag={tag}", form(LARGE, tag)).status == 200
        eventually(lambda: site.states(tag) == dict.fromkeys(AUTOMATIC, "succeeded"))
        gate.open()
        assert {sleeper.receive().status for sleeper in sleepers} == {200}
    site.check_ran_once(tag, LARGE)


def test_large_upload_takes_little_memory(site: Site, tag: str) -> None:
    """P7: the body is received no faster than it is written."""
    before = site.server.get("/peak").json()
    data = os.urandom(MIB) * 100
    # Rejected, as the handlers of these tests read the whole file at once.
    assert site.server.post(f"/status/400?tag={tag}", form(data, tag)).status == 400
    assert site.server.get("/peak").json() - before < 30 * MIB


@pytest.mark.parametrize("kind", UVICORNS)
def test_handlers_take_no_slot_of_the_server(kind: str, tmp_path: Path) -> None:
    """P5: uvicorn counts connections and tasks, and refuses with 503 at its limit."""
    with running(kind, tmp_path, "--limit-concurrency=2") as server, Gate() as gate:
        for number in range(3):
            with server.connect() as client:
                path = f"/work?gate={gate.port}"
                assert client.request("POST", path, form(LARGE, str(number))).status == 202
            gate.wait_for(2)
        states = server.get("/jobs?tag=2").json()
        assert states["work_in_thread"] == states["work_on_loop"] == "running"


# P1: alive, with nothing but the middleware line


@pytest.mark.parametrize("kind", KINDS)
def test_background_tasks_may_read_the_file(kind: str, tmp_path: Path) -> None:
    """P1: one on the event loop, one in a thread."""
    with running(kind, tmp_path, app="alone") as server:
        assert server.post("/background", form(LARGE, "tag")).status == 200
        eventually(lambda: len(server.records("background")) == 2)
        digests = {record["sha256"] for record in server.records("background")}
        assert digests == {sha256(LARGE).hexdigest()}
        server.stop()
        assert "Traceback" not in server.log
