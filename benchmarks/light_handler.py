"""A handler as one for `run_in="process"` is best written: in a module that imports little."""

from __future__ import annotations

from starlette_upload_keepalive import Upload


def size(file: Upload) -> int:
    """Count the bytes of a file."""
    return len(file.file.read())
