"""The rules that every test keeps to, and the fixtures that many share."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from starlette_upload_keepalive import Upload, Uploads
from starlette_upload_keepalive.files import filesystem
from starlette_upload_keepalive.files.blob import Blob
from starlette_upload_keepalive.files.private_file import PrivateFile
from starlette_upload_keepalive.files.storage import Storage
from tests.rules import (
    anyio_backend,
    blocking_calls,
    no_blocking,
    no_leaks,
    pytest_collection_finish,
    pytest_collection_modifyitems,
    pytest_itemcollected,
    pytest_runtest_makereport,
)
from tests.spooled import make_root
from tests.spooling import Maker, without_syncing
from tests.stored import KINDS, WatchedThreads, assert_empty, make_storage

__all__ = [
    "anyio_backend",
    "blocking_calls",
    "no_blocking",
    "no_leaks",
    "pytest_collection_finish",
    "pytest_collection_modifyitems",
    "pytest_itemcollected",
    "pytest_runtest_makereport",
]


@pytest.fixture(params=KINDS)
def storage(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Storage]:
    """Keep bytes in each kind of place, and see that nothing is left there."""
    storage = make_storage(request.param, monkeypatch)
    yield storage
    assert_empty(storage)


@pytest.fixture
def on_disk() -> Iterator[Storage]:
    """Keep all bytes on disk, and see that nothing is left there."""
    storage = Storage(memory_max_size=0)
    storage.threads = WatchedThreads()
    yield storage
    assert_empty(storage)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Make a directory for a spool."""
    return make_root(tmp_path)


@pytest.fixture
def maker(on_disk: Storage) -> Iterator[Maker]:
    """Make jobs for a spool, and own their bytes meanwhile."""
    maker = Maker(on_disk)
    yield maker
    maker.let_go()


@pytest.fixture
def no_syncing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what takes most of a spool's time, where nothing is lost."""
    without_syncing(monkeypatch)


@pytest.fixture(autouse=True)
def no_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Say nothing in the log of temporary files on a tmpfs, though these may be on one."""
    monkeypatch.setattr(filesystem, "_IN_MEMORY", set[str]())


@pytest.fixture
def seen_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take it that every change of a file is seen, though temporary files be on a tmpfs."""

    def yes(_: int) -> bool:
        return True

    monkeypatch.setattr("starlette_upload_keepalive.files.storage.marks_tell", yes)


@pytest.fixture(params=["anonymous", "named"])
def linkable(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, seen_changes: None
) -> Iterator[Storage]:
    """Keep all bytes in files that a save may link, without a name or with one."""
    storage = make_storage(request.param, monkeypatch)
    yield storage
    assert_empty(storage)


@pytest.fixture
def only_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no save link a file, as on a filesystem whose times are too coarse."""

    def refuse(_file: PrivateFile, _path: Path) -> bool:
        return False

    monkeypatch.setattr(PrivateFile, "give", refuse)


@pytest.fixture
def uploads() -> Uploads:
    """Make the uploads of an app."""
    return Uploads()


@pytest.fixture
def upload(uploads: Uploads) -> Generator[Upload, None, None]:
    """Make an upload as a form of that app brings it."""
    blob = Blob(uploads.storage)
    with Upload(blob, owner="the test", filename="a.png", field_name="photo") as upload:
        blob.fill([b"data"])
        yield upload
