"""Clients that send too much, too slowly, or say that they will, on each server."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from tests.forms import FORM
from tests.hostile.bodies import CLOSING, GOOD, KIB, MIB, of_file
from tests.hostile.requests import chunked, head
from tests.hostile.site import PROC, SERVERS, Site, serving, statuses, until_closed

pytestmark = PROC

MOST = 3 * MIB
MOST_IN_ALL = 4 * MIB
TYPE = f"content-type: {FORM}"
CLOSE = "connection: close"


@pytest.fixture(scope="module", params=SERVERS)
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Generator[Site]:
    limits = {"max_file_size": MOST, "max_request_size": MOST_IN_ALL, "receive_timeout": 0.2}
    with serving(request.param, tmp_path_factory.mktemp("server"), **limits) as site:
        yield site


def told(length: int) -> str:
    return f"content-length: {length}"


@pytest.mark.parametrize(
    ("size", "status"), [(MOST - 1, "200"), (MOST, "200"), (MOST + 1, "413")], ids=str
)
@pytest.mark.parametrize("is_told", [True, False], ids=["a length", "chunks"])
def test_file_may_have_so_many_bytes_and_no_more(
    site: Site, size: int, status: str, is_told: bool
) -> None:
    """Divergence 2."""
    form = of_file(bytes(size))
    if is_told:
        sent = head(TYPE, told(len(form)), CLOSE) + form
    else:
        sent = head(TYPE, "transfer-encoding: chunked", CLOSE) + chunked(form, 16 * KIB)
    with site.unharmed(files=status.count("200")), site.server.connect() as client:
        assert statuses(until_closed(client, sent)) == status


@pytest.mark.parametrize("expects", [True, False], ids=["asks", "sends nothing"])
def test_too_large_a_length_is_refused_before_the_body(site: Site, expects: bool) -> None:
    """In place of the 100, where the client asks."""
    expectation = ["expect: 100-continue"] if expects else []
    with site.unharmed(), site.server.connect() as client:
        client.send(head(TYPE, told(10**12), *expectation))
        answer = client.receive()
        assert answer.status == 413
        assert f"{MOST_IN_ALL:,} bytes" in answer.json()["detail"]


STALLS = {
    "before the body": b"",
    "after a byte": GOOD[:1],
    "in a header": GOOD[:60],
    "at 99 %": GOOD[:-2],
    "in a large file": of_file(bytes(2 * MIB)).removesuffix(CLOSING),
}


@pytest.mark.parametrize("sent", STALLS.values(), ids=STALLS)
def test_client_that_sends_no_more_is_told_so(site: Site, sent: bytes) -> None:
    """P7: whoever sends one byte every ten seconds holds nothing for longer than that."""
    with site.unharmed(), site.server.connect() as client:
        client.send(head(TYPE, told(MOST_IN_ALL)), sent)
        assert client.receive().status == 408
