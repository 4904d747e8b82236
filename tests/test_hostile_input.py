"""Whatever a client sends is answered clearly, runs nothing that it should not, and leaves nothing.

Each server is one process for all of these tests, so whatever one of them
leaves behind is found by it or by those after it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from itertools import pairwise
from pathlib import Path

import pytest

from tests.forms import FORM, RICH
from tests.hostile.bodies import BODIES, CLOSING, FILENAMES, GOOD, MIB, Body, named, of_file
from tests.hostile.requests import REQUESTS, head
from tests.hostile.site import PROC, SERVERS, Site, serving, statuses, until_closed
from tests.servers import Connection, eventually

pytestmark = PROC

ROUNDS = 10
CUTS = 20
FEW = 20
REFUSED = [body for body in BODIES.values() if body.status != 200]


@pytest.fixture(scope="module", params=SERVERS)
def kind(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


@pytest.fixture(scope="module")
def site(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Generator[Site]:
    with serving(kind, tmp_path_factory.mktemp("server")) as site:
        yield site


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_body_is_answered(site: Site, body: Body) -> None:
    """P2, P4, P11, divergence 1."""
    with site.unharmed(body.files):
        answer = site.server.post("/form", body.data, content_type=body.content_type)
        text = answer.body.decode() if answer.status == 200 else answer.json()["detail"]
        assert (answer.status, text) == (body.status, body.text)


@pytest.mark.parametrize(("filename", "saved"), FILENAMES.items(), ids=map(repr, FILENAMES))
def test_filename_leads_nowhere(site: Site, filename: bytes, saved: tuple[str, str]) -> None:
    """An app that saves a file under a client's name writes where it meant to, and only there."""
    directory = site.server.directory
    begin, end = saved
    before = {*directory.iterdir(), directory / "saved"}
    with site.unharmed(files=1):
        answer = site.server.post("/save", named(filename))
        assert answer.status == 200
        path = Path(answer.body.decode())
        assert path.parent == directory / "saved"
        assert path.read_bytes() == b"12345"
        assert re.fullmatch(re.escape(begin) + "-[0-9a-f]{16}" + re.escape(end), path.name)
        path.unlink()
        assert {*directory.iterdir()} == before


@pytest.mark.parametrize("name", REQUESTS)
def test_request_is_answered_or_refused(site: Site, kind: str, name: str) -> None:
    raw = REQUESTS[name]
    outcome = raw.on(kind)
    with site.unharmed(outcome.files), site.server.connect() as client:
        if raw.unfinished:
            with site.request_begins():
                client.send(raw.data)
        else:
            assert statuses(until_closed(client, raw.data)) == outcome.answers


def test_body_may_be_cut_anywhere(site: Site) -> None:
    """A segment for each piece: servers hand over what they have read so far."""
    cuts = [[at] for at in range(1, len(RICH), len(RICH) // CUTS)] + [list(range(len(RICH)))]
    with site.unharmed(files=1 + len(cuts)):
        whole = site.server.post("/form", RICH)
        assert whole.status == 200
        for cut in cuts:
            pieces = [RICH[start:end] for start, end in pairwise([0, *cut, len(RICH)])]
            with site.server.connect() as client:
                client.send_at_once()
                client.send(head(f"content-type: {FORM}", f"content-length: {len(RICH)}"), *pieces)
                assert client.receive().body == whole.body


def test_client_that_waits_for_100_is_told_to_go_on(site: Site) -> None:
    with site.unharmed(files=1), site.server.connect() as client:
        length = f"content-length: {len(GOOD)}"
        client.send(head(f"content-type: {FORM}", length, "expect: 100-continue"))
        assert statuses(client.receive_some()) == "100"
        client.send(GOOD)
        assert client.receive().status == 200


@pytest.mark.parametrize("leave", [Connection.close, Connection.reset])
def test_client_may_leave_at_any_message(site: Site, leave: Callable[[Connection], None]) -> None:
    """P4, divergence 4: nothing runs, wherever it was."""
    form = of_file(bytes(2 * MIB))
    size = len(form) // 10
    with site.unharmed():
        for sent in range(0, len(form) - len(CLOSING), size):
            client = site.server.connect()
            with site.request_begins():
                client.send(head(f"content-type: {FORM}", f"content-length: {len(form)}"))
            for start in range(0, sent, size):
                client.send(form[start : start + size])
            leave(client)


def test_neither_memory_nor_connections_add_up(site: Site) -> None:
    """P7: all that is refused, again and again, each on a connection of its own."""

    def play(rounds: int) -> None:
        for _ in range(rounds):
            for body in REFUSED:
                site.server.post("/form", body.data, content_type=body.content_type)

    with site.unharmed():
        play(ROUNDS)
        before = site.resident_bytes
        play(ROUNDS)
        grown = site.resident_bytes - before
    assert grown < 5 * MIB
    eventually(lambda: site.connections < FEW)
