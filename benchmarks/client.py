"""A raw client in a process of its own: it uploads one large file, or several at once.

``python -m benchmarks.client`` is such a process, which is asked over a pipe.
"""

from __future__ import annotations

import gc
import hashlib
import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache

from .forms import KIB, MIB, Form
from .worker import serve


def answer(port: int, path: str, size: int, connections: int) -> tuple[float, list[object]]:
    """Upload a file of that many bytes over each of that many connections.

    Returns:
        The seconds until the last answer, and all answers.
    """
    form = _form(size)
    with ThreadPoolExecutor(connections) as threads:
        gc.collect()
        start = time.perf_counter()
        uploads = [threads.submit(_upload, port, path, form) for _ in range(connections)]
        answers = [upload.result() for upload in uploads]
        return time.perf_counter() - start, answers


@cache
def _form(size: int) -> Form:
    # As much at a time as curl and httpx send.
    return Form.huge(size, message_size=64 * KIB)


def _upload(port: int, path: str, form: Form) -> object:
    head = f"POST {path} HTTP/1.1\r\n".encode()
    head += b"".join(
        b"%s: %s\r\n" % header for header in form.headers if header[0] != b"connection"
    )
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(head + b"connection: close\r\n\r\n")
        for message in form.messages:
            connection.sendall(message["body"])
        received = bytearray()
        while chunk := connection.recv(MIB):
            received += chunk
    status, _, rest = received.partition(b"\r\n")
    if b" 200 " not in status:
        raise ConnectionError(f"The answer is {bytes(received)!r}.")
    return json.loads(rest.partition(b"\r\n\r\n")[2])


def sha256(size: int) -> str:
    """Return the digest of the file that is sent."""
    digest = hashlib.sha256()
    for message in _form(size).messages[1:-1]:
        digest.update(message["body"])
    return digest.hexdigest()


if __name__ == "__main__":
    serve(answer)
