"""Writing jobs: all that is needed before one rename makes them be there."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict

from starlette_upload_keepalive.files.blob import Blob
from starlette_upload_keepalive.jobs.record import Standing, handler_key
from starlette_upload_keepalive.jobs.spool import Ending, NewJob

from .disk import Disk
from .entry import Entry
from .layout import (
    CORRUPT,
    ENDING,
    MAX_RECORD,
    RECORD,
    TRASH,
    accept_name,
    draft_of,
    random_name,
)

_LONGEST = 200  # bytes of the 255 that a name may have


def entry_of(job: NewJob) -> Entry:
    """Return the entry of a job that has not been started yet."""
    record = job.record
    return Entry(record.id, handler_key(record.handler), Standing(record.created_at), "w")


def write_entry(disk: Disk, path: str, job: NewJob, stored: dict[Blob, str] | None = None) -> None:
    """Write a job, which is on the disk but for its own name.

    Args:
        disk: Where.
        path: The directory to be made.
        job: The job.
        stored: Where blobs are that were written before, for other jobs.

    Raises:
        OSError: The disk failed, or its record is too large to be read again (EFBIG).
    """
    stored = {} if stored is None else stored
    record = job.record.to_json()
    if len(record) > MAX_RECORD:
        raise OSError(
            errno.EFBIG,
            f"What is known of the job's files takes {len(record)} bytes, more than {MAX_RECORD}: "
            "their names and headers are too long",
        )
    disk.make_directory(path)
    disk.write_file(f"{path}/{RECORD}", record)
    for number, blob in enumerate(job.blobs):
        target = f"{path}/{number}"
        if blob in stored:
            disk.link(stored[blob], target)
        else:
            disk.store(target, blob)
            stored[blob] = target
    disk.sync_directory(path)


def write_entries(disk: Disk, path: str, jobs: Sequence[NewJob]) -> list[Entry]:
    """Write jobs in a directory of their own, which are on the disk but for its name.

    Args:
        disk: Where.
        path: The directory to be made.
        jobs: The jobs. What they have in common is written once.

    Returns:
        The entries in it.
    """
    stored: dict[Blob, str] = {}
    entries = [entry_of(job) for job in jobs]
    disk.make_directory(path)
    for entry, job in zip(entries, jobs, strict=True):
        write_entry(disk, f"{path}/{entry.name}", job, stored)
    disk.sync_directory(path)
    return entries


def publish_jobs(disk: Disk, folder: str, jobs: Sequence[NewJob]) -> tuple[str, str, list[Entry]]:
    """Write jobs, all or none, which are on the disk but for the one name that makes them be there.

    Args:
        disk: Where.
        folder: What they are to be in.
        jobs: The jobs.

    Returns:
        What was made in the folder, where their entries are, and these.
    """
    single = len(jobs) == 1
    first = entry_of(jobs[0])
    name = first.name if single else accept_name()
    draft, path = f"{folder}/{draft_of(name)}", f"{folder}/{name}"
    try:
        if single:
            write_entry(disk, draft, jobs[0])
            entries = [first]
        else:
            entries = write_entries(disk, draft, jobs)
        disk.rename(draft, path)
    except BaseException:
        remove(disk, draft)  # at once: the disk may be full
        raise
    return path, folder if single else path, entries


def write_ending(disk: Disk, path: str, ending: Ending) -> None:
    """Write what came of a job, in place of what an end has left that was cut short.

    It is not synced: a job whose end a power cut has undone runs again.

    Args:
        disk: Where.
        path: The job's directory.
        ending: What came of it.
    """
    target = f"{path}/{ENDING}"
    text = json.dumps({**asdict(ending), "state": ending.state.value}).encode("ascii")
    try:
        disk.write_file(target, text, sync=False)
    except FileExistsError:
        disk.remove(target)
        disk.write_file(target, text, sync=False)


def throw_away(disk: Disk, path: str) -> None:
    """Have something be there no more; what it takes on the disk is freed later."""
    with suppress(FileNotFoundError):  # it was not made
        disk.rename(path, f"{TRASH}/{random_name()}")


def remove(disk: Disk, path: str) -> None:
    """Remove something for good, with all that is in it, and free what it takes.

    Only what nobody misses if a power cut brings back a part of it.
    """
    with suppress(FileNotFoundError):  # it was not made, or another does the same
        if not disk.is_directory(path):
            disk.remove(path)
            return
        for name in disk.names(path):
            remove(disk, f"{path}/{name}")
        disk.remove_directory(path)


def set_aside(disk: Disk, path: str) -> None:
    """Keep something that can't be read, for people."""
    name = os.fsencode(path.rpartition("/")[2].lstrip("."))
    shortened = os.fsdecode(name[:_LONGEST])
    with suppress(FileNotFoundError):  # another has done so
        disk.rename(path, f"{CORRUPT}/{shortened}-{random_name()}")
