"""A storage says no to what can't be, and counts what is open."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest

from starlette_upload_keepalive.files.blob import Blob
from starlette_upload_keepalive.files.storage import Storage
from starlette_upload_keepalive.quantities import MIB


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"memory_max_size": -1}, "memory_max_size must be 0 bytes or more, not -1."),
        ({"memory_budget": -1}, "memory_budget must be 0 bytes or more, not -1."),
        ({"io_threads": 0}, "io_threads must be 1 or more, not 0."),
        ({"directory": "nowhere"}, "directory 'nowhere' is no directory: create it first."),
        ({"directory": __file__}, f"directory {__file__!r} is no directory: create it first."),
    ],
)
def test_what_can_not_be_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the message is compared below
        Storage(**options)
    assert str(caught.value) == message


def test_the_least_that_is_allowed() -> None:
    storage = Storage(memory_max_size=0, memory_budget=0, io_threads=1)
    assert storage.memory.limit == 0
    assert storage.threads.limit == 1


def test_the_defaults_are_those_of_the_documentation() -> None:
    storage = Storage()
    assert storage.memory_max_size == MIB
    assert storage.memory.limit == 64 * MIB
    assert storage.threads.limit == 8


def test_the_directory_is_the_systems_unless_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, default = Storage(directory=tmp_path), Storage()
    monkeypatch.setattr(tempfile, "tempdir", "/elsewhere")
    assert own.directory == str(tmp_path)
    assert default.directory == "/elsewhere"


def test_open_blobs_are_known() -> None:
    storage = Storage()
    kept, let_go = Blob(storage), Blob(storage)
    keeper = kept.own("the test")
    let_go.own("nobody for long").let_go()
    assert storage.blobs == [kept]
    assert storage.open_blobs == 1
    keeper.let_go()
    assert storage.open_blobs == 0
