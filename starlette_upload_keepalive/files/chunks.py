"""A file, piece by piece."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from starlette_upload_keepalive.quantities import MIB


def chunks_of(file: BinaryIO) -> Iterator[bytes]:
    """Read a file from its position to its end, in pieces of 1 MiB."""
    while chunk := file.read(MIB):
        yield chunk
