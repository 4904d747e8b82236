"""Owners of a spool in processes of their own, which end as the test wants it."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from starlette_upload_keepalive import DirectorySpool
from starlette_upload_keepalive.files.blob import Blob
from starlette_upload_keepalive.files.storage import Storage
from starlette_upload_keepalive.files.upload import let_go_of_all
from starlette_upload_keepalive.jobs.record import FileRecord, JobRecord
from starlette_upload_keepalive.jobs.spool import NewJob
from tests.pages import python_path

PATIENCE = 60  # seconds, which only a failure takes


def new_job(storage: Storage, *contents: bytes, handler: str = "work") -> NewJob:
    """Make a job of files with these bytes."""
    return NewJob(new_record(*contents, handler=handler), new_blobs(storage, *contents))


def new_record(*contents: bytes, handler: str = "work") -> JobRecord:
    """Tell what a job is that has files with these bytes."""
    files = [FileRecord(len(content), "a.bin") for content in contents]
    return JobRecord(secrets.token_hex(16), handler, files)


def new_blobs(storage: Storage, *contents: bytes) -> list[Blob]:
    """Make blobs of these bytes. They are let go of when the process ends."""
    blobs: list[Blob] = []
    for content in contents:
        blob = Blob(storage)
        blob.own("the test")
        blob.fill([content], on_disk=storage.memory_max_size == 0)
        blobs.append(blob)
    return blobs


@contextmanager
def owning(root: Path) -> Generator[DirectorySpool]:
    """Be an owner of a spool in this process."""
    spool = DirectorySpool(root)
    spool.open(Storage())
    try:
        yield spool
    finally:
        spool.close()


def claim_all(spool: DirectorySpool) -> dict[str, list[bytes]]:
    """Claim all that waits, and return the bytes of each job."""
    found: dict[str, list[bytes]] = {}
    for waiting in spool.waiting():
        job = spool.claim(waiting)
        if job is not None:
            found[job.record.id] = [upload.file.read() for upload in job.uploads]
            let_go_of_all(job.uploads)
    return found


def no_limit(_: str) -> int | None:
    """Give no job up."""
    return None


@contextmanager
def python(script: str, *arguments: object) -> Generator[subprocess.Popen[str]]:
    """Run a script in a process of its own, which is killed at the end of the block."""
    process = subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": python_path()},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def line_of(process: subprocess.Popen[str]) -> str:
    """Wait for the next line that a script prints."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def tell(process: subprocess.Popen[str]) -> None:
    """Let a script go on that waits for a line."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
