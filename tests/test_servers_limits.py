"""Limits hold on every server, for clients on real sockets."""

from __future__ import annotations

import json
import resource
from collections.abc import Callable, Generator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.servers import KINDS, Connection, Response, Server, eventually, form, head, running

MB = 1_000_000
CAP = 50
SLOW = 500
each_server = pytest.mark.parametrize("kind", KINDS)

Start = Callable[..., Server]


@pytest.fixture
def start(tmp_path: Path) -> Generator[Start]:
    with ExitStack() as servers:

        def start(kind: str, **limits: float) -> Server:
            env = {"SERVER_APP_LIMITS": json.dumps(limits)}
            return servers.enter_context(running(kind, tmp_path / kind, env=env))

        yield start


def begin(server: Server, body: bytes, *, sent: int, tag: str = "a", **headers: str) -> Connection:
    """Send the head of an upload, and that much of its body."""
    connection = server.connect()
    connection.send(head("POST", f"/status/200?tag={tag}", len(body), **headers), body[:sent])
    return connection


def uploads_in(server: Server) -> int:
    return int(server.get("/state").json()["open blobs"])


@each_server
def test_a_refusal_comes_in_place_of_the_100(kind: str, start: Start) -> None:
    """RFC 9110, 10.1.1: a client that expects the 100 keeps its bytes."""
    server = start(kind, max_request_size=MB)
    body = form(bytes(2 * MB), "a.png")
    with begin(server, body, sent=0, expect="100-continue") as connection:
        if not kind.startswith("hypercorn"):  # which sends it whatever the app does
            assert connection.receive_some().startswith(b"HTTP/1.1 413 ")
        else:
            assert connection.receive().status == 413

    body = form(bytes(1000), "a.png")
    with begin(server, body, sent=0, expect="100-continue") as connection:
        assert connection.receive_some().startswith(b"HTTP/1.1 100 ")
        connection.send(body)
        assert connection.receive().status == 200


@each_server
def test_a_stall_is_told_and_ended(kind: str, start: Start) -> None:
    server = start(kind, receive_timeout=0.2)
    body = form(bytes(2 * MB), "a.png")
    for sent in (0, 100, len(body) * 99 // 100):
        with begin(server, body, sent=sent) as connection:
            refused = connection.receive()
        assert refused.status == 408
    eventually(lambda: uploads_in(server) == 0)
    assert server.post("/status/200?tag=b", body).status == 200


@each_server
def test_slow_uploads_beyond_the_cap_are_refused_before_their_bodies(
    kind: str, start: Start
) -> None:
    """P7: of 500 slow ones against a cap of 50, 450 are refused at once and the rest finish."""
    server = start(kind, max_concurrency=CAP)
    baseline = server.get("/state").json()
    body = form(bytes(1000), "a.png")
    _need_descriptors(SLOW)
    with ExitStack() as connections:
        slow = [connections.enter_context(begin(server, body, sent=500)) for _ in range(CAP)]
        eventually(lambda: uploads_in(server) == CAP)

        refused: list[Response] = []
        for _ in range(SLOW - CAP):
            # Nothing of the body is sent: they are answered all the same.
            connection = connections.enter_context(begin(server, body, sent=0))
            refused.append(connection.receive())
        assert {answer.status for answer in refused} == {503}
        assert {answer.headers["retry-after"] for answer in refused} == {"1"}
        assert uploads_in(server) == CAP

        for connection in slow:
            connection.send(body[500:])
        assert {connection.receive().status for connection in slow} == {200}
    eventually(lambda: server.get("/state").json() == baseline)


def _need_descriptors(count: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count + 200:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(count + 200, hard), hard))
