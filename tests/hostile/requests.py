"""Requests that are broken or odd as HTTP, and what each server makes of them.

Most of these never come to the app, or come to it in one piece: what a server
refuses is its own affair. Where servers differ, the reason stands beside it.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.forms import FORM
from tests.hostile.bodies import GOOD
from tests.servers import HOST


@dataclass(frozen=True)
class Outcome:
    """What comes of a request.

    Attributes:
        answers: The status of each answer, until the server closes the connection.
        files: For how many the handlers run.
    """

    answers: str
    files: int = 0


ACCEPTED = Outcome("200", files=1)
REFUSED = Outcome("400")
INTERIM = Outcome("100 200", files=1)


@dataclass(frozen=True)
class Raw:
    """A request as it goes over the wire.

    Attributes:
        data: All of it.
        outcome: What comes of it.
        uvicorn_h11: What uvicorn with h11 makes of it, if that is something else.
        uvicorn_httptools: What uvicorn with httptools does.
        hypercorn: What hypercorn does.
        granian: What granian does.
        unfinished: Whether the server can only wait for more; then the client leaves.
    """

    data: bytes
    outcome: Outcome
    uvicorn_h11: Outcome | None = None
    uvicorn_httptools: Outcome | None = None
    hypercorn: Outcome | None = None
    granian: Outcome | None = None
    unfinished: bool = False

    def on(self, kind: str) -> Outcome:
        """Return what is to come of it on one of the servers."""
        name = kind.replace("-", "_")
        own: Outcome | None = getattr(self, name, None) or getattr(self, name.split("_")[0], None)
        return own or self.outcome


LENGTH = f"content-length: {len(GOOD)}"
TYPE = f"content-type: {FORM}"
CHUNKED = "transfer-encoding: chunked"
CLOSE = "connection: close"  # so that the end of the answer can be seen on the wire


def head(*lines: str, first: str = "POST /form HTTP/1.1", host: str = f"host: {HOST}") -> bytes:
    return "\r\n".join([first, *([host] if host else []), *lines, "", ""]).encode("latin-1")


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def chunked(data: bytes, size: int = 7) -> bytes:
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    return b"".join(map(chunk, [*pieces, b""]))


CHUNKS = chunked(GOOD)
WITH_CHUNKS = head(TYPE, CHUNKED, CLOSE)
PLAIN = head(TYPE, LENGTH)
LAST = head(TYPE, LENGTH, CLOSE)

# A length and chunks: RFC 9112, 6.3, has the chunks win, and lets a server refuse.
REFUSES_BOTH = REFUSED
# "5, 5" or two equal ones: RFC 9110, 8.6, lets a server refuse or take it for one.
REFUSES_TWO = REFUSED
NOT_IMPLEMENTED = Outcome("501")  # RFC 9112, 6.1: a coding that is not known
# What is broken in the midst of a body is, for the app, a client that has left.
LEFT = Outcome("499")

CHUNKED_BODIES = {
    "chunks": Raw(WITH_CHUNKS + CHUNKS, ACCEPTED),
    "a byte for each chunk": Raw(WITH_CHUNKS + chunked(GOOD, 1), ACCEPTED),
    "trailers": Raw(WITH_CHUNKS + CHUNKS[:-2] + b"x: y\r\n\r\n", ACCEPTED),
    "a chunk with an extension": Raw(
        WITH_CHUNKS + CHUNKS.replace(b"\r\n", b";a=b\r\n", 1), ACCEPTED
    ),
    "a chunk's size that is none": Raw(WITH_CHUNKS + b"zz\r\n" + GOOD, REFUSED, granian=LEFT),
    "a negative size": Raw(WITH_CHUNKS + b"-1\r\n" + GOOD, REFUSED, granian=LEFT),
    "a size of 40 digits": Raw(WITH_CHUNKS + b"f" * 40 + b"\r\n" + GOOD, REFUSED, granian=LEFT),
    "chunks without a last one": Raw(WITH_CHUNKS + CHUNKS[:-5], Outcome(""), unfinished=True),
    "a chunk that ends early": Raw(WITH_CHUNKS + b"ffff\r\n" + GOOD, Outcome(""), unfinished=True),
    "chunks and a length": Raw(
        head(TYPE, CHUNKED, LENGTH, CLOSE) + CHUNKS, ACCEPTED, uvicorn_httptools=REFUSES_BOTH
    ),
    "chunks and a length that is less": Raw(
        head(TYPE, CHUNKED, "content-length: 3", CLOSE) + CHUNKS,
        ACCEPTED,
        uvicorn_httptools=REFUSES_BOTH,
    ),
    "chunked twice": Raw(
        head(TYPE, CHUNKED, CHUNKED, CLOSE) + CHUNKS,
        REFUSED,
        hypercorn=NOT_IMPLEMENTED,
        granian=ACCEPTED,
    ),
    "a coding before the chunks": Raw(
        head(TYPE, "transfer-encoding: gzip, chunked", CLOSE) + CHUNKS,
        REFUSED,
        uvicorn_httptools=ACCEPTED,  # these two hand on what they don't decode
        hypercorn=NOT_IMPLEMENTED,
        granian=ACCEPTED,
    ),
    "a coding that is unknown": Raw(
        head(TYPE, "transfer-encoding: xchunked", CLOSE) + CHUNKS,
        REFUSED,
        hypercorn=NOT_IMPLEMENTED,
    ),
}

LENGTHS = {
    "the same length twice": Raw(
        head(TYPE, LENGTH, LENGTH, CLOSE) + GOOD, ACCEPTED, uvicorn_httptools=REFUSES_TWO
    ),
    "a list of the same length": Raw(
        head(TYPE, f"{LENGTH}, {len(GOOD)}", CLOSE) + GOOD,
        ACCEPTED,
        uvicorn_httptools=REFUSES_TWO,
        granian=REFUSES_TWO,
    ),
    "two lengths": Raw(head(TYPE, LENGTH, "content-length: 5") + GOOD, REFUSED),
    "a negative length": Raw(head(TYPE, "content-length: -1") + GOOD, REFUSED),
    "a length with a plus": Raw(head(TYPE, f"content-length: +{len(GOOD)}") + GOOD, REFUSED),
    "a hexadecimal length": Raw(head(TYPE, "content-length: 0x10") + GOOD, REFUSED),
    "a length with an underscore": Raw(head(TYPE, "content-length: 1_0") + GOOD, REFUSED),
    "a length of 30 digits": Raw(head(TYPE, "content-length: " + "9" * 30) + GOOD, REFUSED),
    "a length of 18 digits": Raw(
        head(TYPE, "content-length: " + "9" * 18, CLOSE) + GOOD, Outcome("507")
    ),
    "a space before the colon": Raw(head(TYPE, f"content-length : {len(GOOD)}") + GOOD, REFUSED),
    "a length that is too long": Raw(
        head(TYPE, f"content-length: {len(GOOD) + 1}") + GOOD, Outcome(""), unfinished=True
    ),
    "a length that is too short": Raw(
        head(TYPE, f"content-length: {len(GOOD) - 5}", CLOSE) + GOOD, REFUSED
    ),
    "no length": Raw(head(TYPE, CLOSE), REFUSED),
}

TYPES = {
    "the same type twice": Raw(head(TYPE, TYPE, LENGTH, CLOSE) + GOOD, ACCEPTED),
    "a form that is JSON, too": Raw(
        head(TYPE, "content-type: application/json", LENGTH, CLOSE) + GOOD, ACCEPTED
    ),
    # The first counts, for the middleware, Starlette and FastAPI alike: it is no form.
    "JSON that is a form, too": Raw(
        head("content-type: application/json", TYPE, LENGTH, CLOSE) + GOOD, Outcome("200")
    ),
    "a second boundary in a second type": Raw(
        head(TYPE, f"{TYPE}x", LENGTH, CLOSE) + GOOD, ACCEPTED
    ),
    "a boundary that is no ASCII": Raw(head(f"{TYPE}\xff", LENGTH, CLOSE) + GOOD, REFUSED),
    "a type of 7 KB": Raw(
        head(f"content-type: multipart/form-data{';' * 7000}", LENGTH, CLOSE) + GOOD, REFUSED
    ),
    "a body that says it is compressed": Raw(
        head(TYPE, LENGTH, "content-encoding: gzip", CLOSE) + GOOD, ACCEPTED
    ),
}

PIPELINED = {
    "three requests at once": Raw(
        (PLAIN + GOOD) * 2 + LAST + GOOD, Outcome("200 200 200", files=3)
    ),
    "a bad one before a good one": Raw(
        head(TYPE, "content-length: 0") + LAST + GOOD, Outcome("400 200", files=1)
    ),
}

EXPECTED = {
    "100-continue, and the body at once": Raw(
        head(TYPE, LENGTH, "expect: 100-continue", CLOSE) + GOOD, INTERIM
    ),
    # RFC 9110, 10.1.1: what is not known may be refused with a 417; nobody does.
    "an expectation that is unknown": Raw(
        head(TYPE, LENGTH, "expect: 200-maybe", CLOSE) + GOOD, ACCEPTED
    ),
}

REQUESTS = {**CHUNKED_BODIES, **LENGTHS, **TYPES, **PIPELINED, **EXPECTED}
