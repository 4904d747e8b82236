"""The rules that every test keeps to, and the fixtures that many share."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest

from starlette_upload_keepalive import Upload, Uploads
from starlette_upload_keepalive.blob import Blob
from starlette_upload_keepalive.storage import Storage
from tests.rules import (
    anyio_backend,
    blocking_calls,
    no_blocking,
    no_leaks,
    pytest_collection_finish,
    pytest_itemcollected,
    pytest_runtest_makereport,
)
from tests.stored import KINDS, WatchedThreads, assert_empty, make_storage

__all__ = [
    "anyio_backend",
    "blocking_calls",
    "no_blocking",
    "no_leaks",
    "pytest_collection_finish",
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
