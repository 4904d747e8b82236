"""Clients that upload until they are told to stop, and note what they were told."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from dataclasses import asdict
from hashlib import sha256
from http.client import HTTPException
from pathlib import Path

from tests.asgi import file_part, multipart
from tests.servers import Connection, head

from .requests import KINDS, Sent


def upload_until(stop: Callable[[], bool], port: int, name: str, notes: Path) -> None:
    """Send one request after the other.

    Args:
        stop: Whether to stop.
        port: Where the servers listen.
        name: That of the client, in the names of its files.
        notes: The file for what was sent, and what was answered.
    """
    kinds = [kind for kind in KINDS.values() for _ in range(kind.often)]
    number = 0
    with notes.open("w") as file:
        while not stop():
            number += 1
            kind = random.choice(kinds)
            files = {f"{name}-{number}-{each}": some_bytes() for each in range(kind.files)}
            file.write(json.dumps(asdict(upload(port, kind.path, files))) + "\n")


def upload(port: int, path: str, files: dict[str, bytes]) -> Sent:
    """Send one request on a connection of its own."""
    body = multipart(*[file_part(data, filename=name) for name, data in files.items()])
    digests = {name: sha256(data).hexdigest() for name, data in files.items()}
    try:
        with Connection(port) as connection:
            connection.send(head("POST", path, len(body)), body)
            answer = connection.receive()
            jobs: list[str] = answer.json() if answer.status == 200 else []
            return Sent(path, digests, answer.status, jobs)
    except (OSError, HTTPException):  # its server was killed: it may be accepted, or not
        return Sent(path, digests, None, [])


def some_bytes() -> bytes:
    """Return the bytes of a file: from none to 3 MB."""
    most = random.choices([0, 10_000, 300_000, 3_000_000], [1, 5, 3, 1])[0]
    return os.urandom(random.randint(0, most))


def read_notes(path: Path) -> list[Sent]:
    """Return what a client has noted."""
    return [Sent(**json.loads(line)) for line in path.read_text().splitlines()]
