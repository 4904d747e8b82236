"""Multipart bodies, and a raw ASGI request that brings them: no server, no client library."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope

KIB = 1024
MB = 1_000_000
BOUNDARY = b"----WebKitFormBoundaryd1a0b2c3e4f5"

# What a browser sends along.
BROWSER_HEADERS: list[tuple[bytes, bytes]] = [
    (b"host", b"127.0.0.1:8000"),
    (b"connection", b"keep-alive"),
    (b"sec-ch-ua-platform", b'"Linux"'),
    (b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/140.0.0.0"),
    (b"sec-ch-ua", b'"Chromium";v="140", "Not=A?Brand";v="24"'),
    (b"sec-ch-ua-mobile", b"?0"),
    (b"accept", b"*/*"),
    (b"sec-fetch-site", b"same-origin"),
    (b"sec-fetch-mode", b"cors"),
    (b"sec-fetch-dest", b"empty"),
    (b"referer", b"http://127.0.0.1:8000/"),
    (b"accept-encoding", b"gzip, deflate, br, zstd"),
    (b"accept-language", b"en-US,en;q=0.9"),
]


@dataclass(frozen=True)
class Part:
    """One part of a form; a field if it has no filename."""

    name: str
    data: bytes
    filename: str | None = None

    def encoded(self) -> bytes:
        """Return it as it goes over the wire."""
        disposition = f'form-data; name="{self.name}"'
        content_type = ""
        if self.filename is not None:
            disposition += f'; filename="{self.filename}"'
            content_type = "Content-Type: application/octet-stream\r\n"
        head = f"Content-Disposition: {disposition}\r\n{content_type}\r\n"
        return b"--" + BOUNDARY + b"\r\n" + head.encode() + self.data + b"\r\n"


def noise(size: int) -> bytes:
    """Return bytes without a pattern, the same in each run."""
    block = random.Random(0).randbytes(min(size, 1024 * KIB))
    return (block * (size // len(block) + 1))[:size]


@dataclass(frozen=True)
class Form:
    """A multipart request, in the messages that a server would hand over."""

    parts: Sequence[Part]
    messages: Sequence[Message]
    size: int

    @classmethod
    def of(cls, parts: Iterable[Part], *, message_size: int = 64 * KIB) -> Form:
        """Encode parts, and cut the body into messages of that many bytes."""
        parts = list(parts)
        body = b"".join([*(part.encoded() for part in parts), b"--", BOUNDARY, b"--\r\n"])
        return cls(parts, list(_cut(body, message_size)), len(body))

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """The headers of the request."""
        return [
            *BROWSER_HEADERS,
            (b"content-type", b"multipart/form-data; boundary=" + BOUNDARY),
            (b"content-length", str(self.size).encode()),
        ]

    def scope(self, path: str = "/") -> Scope:
        """Return the scope of one request."""
        return scope_of("POST", self.headers, path=path)

    def receive(self) -> Receive:
        """Return what hands over the messages, for one request."""
        upcoming = iter(self.messages)

        async def receive() -> Message:
            return next(upcoming)

        return receive

    async def post(self, app: ASGIApp) -> None:
        """Send it to an app that does not answer, or whose answer does not matter."""
        await app(self.scope(), self.receive(), ignore)


def scope_of(method: str, headers: list[tuple[bytes, bytes]], *, path: str = "/") -> Scope:
    """Return the scope of one request, as uvicorn makes it."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.1", 50000),
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": headers,
        "state": {},
    }


async def ignore(message: Message) -> None:
    """Take a message of an answer that nobody looks at."""


def _cut(body: bytes, size: int) -> Iterator[Message]:
    for start in range(0, len(body), size):
        more = start + size < len(body)
        yield {"type": "http.request", "body": body[start : start + size], "more_body": more}
