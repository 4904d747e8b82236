"""JSON messages between two processes."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias, cast

from starlette_upload_keepalive.quantities import KIB, MIB

Message: TypeAlias = dict[str, Any]

MAX_MESSAGE = MIB
"""The most bytes of a message from a process that is not trusted."""

_LENGTH = struct.Struct(">I")
_PIECE = 64 * KIB


class NoMessage(ValueError):
    """Raised when what was received is no message."""


def encoded(message: Mapping[str, Any]) -> bytes:
    """Return a message as it is sent: its length, and then JSON."""
    # Names that clients give may hold lone surrogates: escaped, they are JSON all the same.
    body = json.dumps(message).encode("ascii")
    return _LENGTH.pack(len(body)) + body


class Channel:
    """One end of a socket over which messages go, from any thread.

    Args:
        end: The socket. Whoever made it closes it.
        max_size: The most bytes that a message may have that is received.
    """

    def __init__(self, end: socket.socket, *, max_size: int | None = None) -> None:
        self._socket = end
        self._max_size = max_size
        self._received = bytearray()
        self._lock = threading.Lock()

    def send(self, message: bytes) -> None:
        """Send an encoded message. Waits until all of it is on its way.

        Raises:
            OSError: Nobody is there to receive it.
        """
        with self._lock:  # whole: two threads may send at once
            self._socket.sendall(message)

    def fill(self) -> bool:
        """Receive what is there, and wait until something is; False at the end.

        Raises:
            OSError: The other end is gone with something unread.
        """
        piece = self._socket.recv(_PIECE)
        self._received += piece
        return bool(piece)

    def messages(self) -> Iterator[Message]:
        """Go over the messages that were received as a whole.

        Raises:
            NoMessage: Something else was received.
        """
        while len(self._received) >= _LENGTH.size:
            (size,) = _LENGTH.unpack_from(self._received)
            if self._max_size is not None and size > self._max_size:
                raise NoMessage(f"a message of {size} bytes")
            end = _LENGTH.size + size
            if len(self._received) < end:
                return
            body = bytes(self._received[_LENGTH.size : end])
            del self._received[:end]
            yield _decoded(body)


def _decoded(body: bytes) -> Message:
    try:
        message: object = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise NoMessage(f"no JSON: {error}") from error
    if not isinstance(message, dict):
        raise NoMessage("no object")
    return cast("Message", message)
