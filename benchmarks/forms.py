"""Multipart bodies, and a raw ASGI request that brings them: no server, no client library."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

# Processes that do without Starlette build forms, too.
if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope

KIB = 1024
MIB = 1024 * KIB
MB = 1_000_000
BOUNDARY = b"----WebKitFormBoundaryd1a0b2c3e4f5"
CONTENT_TYPE = b"multipart/form-data; boundary=" + BOUNDARY

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
    """One part of a form; a field if it has no filename, and an error if it has no name."""

    name: str | None
    data: bytes
    filename: str | None = None

    def encoded(self) -> bytes:
        """Return it as it goes over the wire."""
        disposition = "form-data" if self.name is None else f'form-data; name="{self.name}"'
        content_type = ""
        if self.filename is not None:
            disposition += f'; filename="{self.filename}"'
            content_type = "Content-Type: application/octet-stream\r\n"
        head = f"Content-Disposition: {disposition}\r\n{content_type}\r\n"
        return b"--" + BOUNDARY + b"\r\n" + head.encode() + self.data + b"\r\n"


def noise(size: int) -> bytes:
    """Return bytes without a pattern, the same in each run."""
    return repeat(random.Random(0).randbytes(min(size, MIB)), size)


def boundary_like(size: int) -> bytes:
    """Return bytes that begin to be a boundary again and again, and never are."""
    return repeat(b"\r\n--" + BOUNDARY[:-1] + b"!", size)


def repeat(block: bytes, size: int) -> bytes:
    """Return that many bytes, a block after the other."""
    return (block * (size // len(block) + 1))[:size]


@dataclass(frozen=True)
class Form:
    """A multipart request, in the messages that a server would hand over."""

    parts: Sequence[Part]
    messages: Sequence[Message]
    size: int
    content_type: bytes = CONTENT_TYPE

    @classmethod
    def of(
        cls,
        parts: Iterable[Part],
        *,
        message_size: int | None = 64 * KIB,
        content_type: bytes = CONTENT_TYPE,
    ) -> Form:
        """Encode parts, and cut the body into messages of that many bytes, or not at all."""
        parts = list(parts)
        body = b"".join([*(part.encoded() for part in parts), b"--", BOUNDARY, b"--\r\n"])
        return cls(parts, list(_cut(body, message_size or len(body))), len(body), content_type)

    @classmethod
    def huge(cls, size: int, *, message_size: int = 64 * KIB) -> Form:
        """Bring one file whose messages are all the same one, so that it takes no memory.

        Its `parts` are empty: nobody can hold them against what was stored.
        """
        start = Part("file", b"", "huge.bin").encoded().removesuffix(b"\r\n")
        end = b"\r\n--" + BOUNDARY + b"--\r\n"
        count, rest = divmod(size, message_size)
        block = noise(message_size)
        bodies = [start, *[block] * count, block[:rest], end]
        messages = [_message(body, more=body is not end) for body in bodies]
        return cls([], messages, sum(map(len, bodies)))

    @classmethod
    def raw(cls, body: bytes, *, message_size: int, content_type: bytes = CONTENT_TYPE) -> Form:
        """Bring a body as it is; its `parts` are empty."""
        return cls([], list(_cut(body, message_size)), len(body), content_type)

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """The headers of the request."""
        return [
            *BROWSER_HEADERS,
            (b"content-type", self.content_type),
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
        yield _message(body[start : start + size], more=start + size < len(body))


def _message(body: bytes, *, more: bool) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}
