"""What is tried, by name: each takes any bytes, and fails if what must hold does not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import cast

from starlette_upload_keepalive.files.safe_filename import LONGEST, safe_filename, unique_filename
from starlette_upload_keepalive.jobs.record import (
    FORMAT,
    JobRecord,
    NewerFormat,
    Standing,
    UnreadableRecord,
)
from starlette_upload_keepalive.spool.catalog import Catalog, Place
from starlette_upload_keepalive.spool.command_line import _as_json
from starlette_upload_keepalive.spool.disk import Disk
from starlette_upload_keepalive.spool.entry import Entry, glance, holds_children
from starlette_upload_keepalive.spool.layout import ENDING, RECORD
from tests.safe_names import check_name

from . import oracle
from .form_case import decode

Target = Callable[[bytes], None]


class FormTarget:
    """Parse forms, all in one event loop: to start one takes longer than a small form."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None

    def __call__(self, data: bytes) -> None:
        """Parse one, and compare what comes of it."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
        self._loop.run_until_complete(oracle.check(decode(data)))


def filename(data: bytes) -> None:
    """Make a name safe: one that is safe stays as it is."""
    name = data.decode("utf-8", "surrogateescape")
    safe = safe_filename(name)
    check_name(safe)
    assert safe_filename(safe) == safe
    check_name(unique_filename(name))
    check_name(safe_filename(name, longest=80), 80)
    assert len(safe) <= LONGEST


def entry(data: bytes) -> None:
    """Read the name of a job's directory: it is the only name of what is read."""
    name = data.decode("utf-8", "surrogateescape")
    glance(name)
    holds_children(name)
    found = Entry.parse(name)
    if found is not None:
        assert found.name == name
        assert glance(name) == (found.id, found.key)


def record(data: bytes) -> None:
    """Read what the disk has of a job: its record in the first line, and its ending in the next.

    What can be read can be written again, and shown to people.
    """
    text, _, ending = data.partition(b"\n")
    try:
        found = JobRecord.from_json(text)
    except UnreadableRecord:
        return
    except NewerFormat:
        assert json.loads(text)["format"] > FORMAT
        return
    assert JobRecord.from_json(found.to_json()) == found
    catalog = Catalog(cast("Disk", _Files({RECORD: text, ENDING: ending})))
    done = Entry(found.id, "0" * 8, Standing(1.0), "f")
    assert Entry.parse(done.name) == done
    kept = catalog._kept(Place("done/" + done.name, done))
    assert kept is not None
    json.dumps(_as_json(kept))


class _Files:
    """A disk of a few files, whatever directory they are looked for in."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = files

    def read_file(self, path: str, _most: int) -> bytes:
        return self._files[path.rpartition("/")[2]]


TARGETS: dict[str, Target] = {
    "form": FormTarget(),
    "filename": filename,
    "entry": entry,
    "record": record,
}
