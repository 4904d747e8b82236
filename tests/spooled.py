"""Uploads with a durable spool, for tests, and what is on the disk of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio

from starlette_upload_keepalive import DirectorySpool, Job, Upload, Uploads
from starlette_upload_keepalive.jobs.parking import Parking
from starlette_upload_keepalive.spool.entry import Entry


def make_root(tmp_path: Path) -> Path:
    root = tmp_path / "spool"
    root.mkdir(mode=0o700, exist_ok=True)
    return root


def durable(root: Path, **options: Any) -> Uploads:
    """Make uploads as one process has them that uses the spool."""
    return Uploads(spool=DirectorySpool(root), **options)


def names(root: Path, folder: str) -> list[str]:
    """The names in one of the folders; those of all owners for "claimed"."""
    if folder == "claimed":
        return sorted(path.name for owner in (root / folder).iterdir() for path in owner.iterdir())
    return sorted(path.name for path in (root / folder).iterdir())


def entries(root: Path, folder: str) -> list[Entry]:
    """The jobs in one of the folders."""
    found = [Entry.parse(name) for name in names(root, folder)]
    assert None not in found
    return [entry for entry in found if entry is not None]


def states(root: Path, folder: str) -> str:
    """The letters of the jobs in one of the folders."""
    return "".join(sorted(entry.state for entry in entries(root, folder)))


def files_left(root: Path) -> list[str]:
    """All that is on the disk but for the folders and the records of what is done."""
    return sorted(
        str(path.relative_to(root))
        for path in root.rglob("*")
        if path.is_file() and path.relative_to(root).parts[0] != "done"
    )


async def until(condition: Callable[[], object]) -> None:
    """Wait for what threads do."""
    with anyio.fail_after(10):
        while not condition():  # noqa: ASYNC110 - threads and disks tell no event
            await anyio.sleep(0.005)


async def enqueue(handler: Any, data: bytes = b"data", **arguments: Any) -> Job[Any]:
    with Upload.from_bytes(data, filename="a.bin") as upload:
        job: Job[Any] = await handler.enqueue(upload, **arguments)
    return job


def parking(uploads: Uploads) -> Parking:
    assert uploads._runner is not None
    assert uploads._runner.executor._parking is not None
    return uploads._runner.executor._parking
