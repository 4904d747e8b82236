"""Drives an ASGI app without a server: its requests, multipart bodies and lifespan."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest
import starlette
from anyio.lowlevel import checkpoint
from starlette.types import ASGIApp, Message, Receive, Scope, Send

BOUNDARY = "boundary-of-the-test"
DISCONNECT: Message = {"type": "http.disconnect"}

STARLETTE = tuple(int(number) for number in starlette.__version__.split(".")[:2])

# Earlier ones leave these to the garbage collector, which trio and anyio tell of.
behind_base_http_middleware = pytest.mark.filterwarnings(
    *[
        f"ignore:.*{left_open}:pytest.PytestUnraisableExceptionWarning"
        for left_open in ["object Request.stream", "MemoryObject(Send|Receive)Stream"]
        if STARLETTE < (1, 10)
    ]
)


# Bodies


@dataclass(frozen=True)
class Part:
    """One part of a form: a file if it has a filename, else a field."""

    name: str
    data: bytes = b""
    filename: str | None = None
    content_type: str | None = None

    def encode(self) -> bytes:
        head = f'Content-Disposition: form-data; name="{self.name}"'
        if self.filename is not None:
            head += f'; filename="{self.filename}"'
        if self.content_type is not None:
            head += f"\r\nContent-Type: {self.content_type}"
        return head.encode() + b"\r\n\r\n" + self.data


def file_part(
    data: bytes,
    *,
    name: str = "photo",
    filename: str = "a.png",
    content_type: str | None = "image/png",
) -> Part:
    return Part(name, data, filename, content_type)


def multipart(*parts: Part | bytes, boundary: str = BOUNDARY) -> bytes:
    """Build a complete body; a part may be given as the raw bytes between two boundaries."""
    delimiter = f"--{boundary}".encode()
    encoded = (part if isinstance(part, bytes) else part.encode() for part in parts)
    return b"".join(delimiter + b"\r\n" + one + b"\r\n" for one in encoded) + delimiter + b"--\r\n"


def in_messages(body: bytes, size: int = 64 * 1024) -> list[Message]:
    """Cut a body into messages of that many bytes."""
    chunks = [body[start : start + size] for start in range(0, len(body), size)] or [b""]
    return as_messages(chunks)


def as_messages(chunks: Iterable[bytes]) -> list[Message]:
    messages: list[Message] = [
        {"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks
    ]
    messages[-1]["more_body"] = False
    return messages


# Requests


def http_scope(
    path: str = "/",
    *,
    content_type: str | None = f"multipart/form-data; boundary={BOUNDARY}",
    method: str = "POST",
    **more: Any,
) -> dict[str, Any]:
    headers = [(b"host", b"test")]
    if content_type is not None:
        headers.append((b"content-type", content_type.encode("latin-1")))
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("test", 80),
        **more,
    }


@dataclass
class Answer:
    """What an app has sent, message by message."""

    messages: list[Message] = field(default_factory=list[Message])

    @property
    def status(self) -> int | None:
        """The status code, or None if nothing was answered."""
        starts = [sent for sent in self.messages if sent["type"] == "http.response.start"]
        return starts[0]["status"] if starts else None

    @property
    def headers(self) -> dict[str, str]:
        start = next(sent for sent in self.messages if sent["type"] == "http.response.start")
        return {name.decode(): value.decode() for name, value in start["headers"]}

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages)

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def complete(self) -> bool:
        last = self.messages[-1] if self.messages else {"type": "none"}
        return last["type"] == "http.response.body" and not last.get("more_body", False)


def receiving(messages: Iterable[Message]) -> Receive:
    """Make a `receive` that gives those messages, and then waits for the client for ever."""
    waiting = iter(messages)

    async def receive() -> Message:
        await checkpoint()
        for message in waiting:
            return message
        await anyio.sleep_forever()
        raise AssertionError("unreachable")

    return receive


async def send_request(
    app: ASGIApp,
    body: bytes | Iterable[Message] = b"",
    scope: Scope | None = None,
    *,
    answer: Answer | None = None,
    on_send: Callable[[Message], Awaitable[None]] | None = None,
) -> Answer:
    """Run an app on one request.

    Args:
        app: The app.
        body: The body, or the messages to be received.
        scope: The scope; a POST of a form to "/" if None.
        answer: Collects what is sent, for a caller that wants to see it even
            if the app raises.
        on_send: Called with each message before it counts as sent.
    """
    answer = Answer() if answer is None else answer
    messages = in_messages(body) if isinstance(body, bytes) else body

    async def send(message: Message) -> None:
        await checkpoint()
        if on_send is not None:
            await on_send(message)
        answer.messages.append(message)

    await app(http_scope() if scope is None else scope, receiving(messages), send)
    return answer


# The lifespan


class LifespanFailed(Exception):
    """Raised when the app says that it could not start or stop."""


@asynccontextmanager
async def lifespan(app: ASGIApp) -> AsyncGenerator[None, None]:
    """Keep an app started for as long as the block lasts."""
    to_app, receive_stream = anyio.create_memory_object_stream[Message](2)
    send_stream, from_app = anyio.create_memory_object_stream[Message](2)
    scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": {}}

    async def expect(event: str) -> None:
        message = await from_app.receive()
        if message["type"] != f"lifespan.{event}.complete":
            raise LifespanFailed(message.get("message", ""))

    async def run() -> None:
        await app(scope, receive_stream.receive, send_stream.send)

    failure: BaseException | None = None
    async with to_app, receive_stream, send_stream, from_app, anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        try:
            await to_app.send({"type": "lifespan.startup"})
            await expect("startup")
            yield
            await to_app.send({"type": "lifespan.shutdown"})
            await expect("shutdown")
        except Exception as error:  # noqa: BLE001 - the task group would wrap it
            failure = error
            tasks.cancel_scope.cancel()
    if failure is not None:
        raise failure


def echo_app(answer: bytes = b"ok") -> ASGIApp:
    """Make an app that answers 200 without looking at its request."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": answer})

    return app
