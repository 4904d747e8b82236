"""What a spool keeps of a job is read back as it was, or refused."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starlette_upload_keepalive.jobs.record import (
    FORMAT,
    FileRecord,
    JobRecord,
    NewerFormat,
    UnreadableRecord,
    handler_key,
    is_job_id,
)

ID = "0123456789abcdef" * 2
FILE = FileRecord(3, "a.txt", [("content-type", "text/plain")], "photo")
RECORD = JobRecord(ID, "work", [FILE], '{"user_id": 7}', "f" * 32, 12.5)


def with_changes(**changes: Any) -> bytes:
    return json.dumps({**json.loads(RECORD.to_json()), **changes}).encode()


def with_file(**changes: Any) -> bytes:
    (file,) = json.loads(RECORD.to_json())["files"]
    return with_changes(files=[{**file, **changes}])


def test_it_is_read_back() -> None:
    assert JobRecord.from_json(RECORD.to_json()) == RECORD


# Text of any code points, lone surrogates as well.
ANY_TEXT = st.text(st.characters(categories=None))
LATIN = st.text(st.characters(max_codepoint=255))


@given(ANY_TEXT, ANY_TEXT, st.lists(st.tuples(LATIN, LATIN)), st.none() | ANY_TEXT)
def test_it_is_read_back_whatever_clients_call_things(
    handler: str, filename: str, headers: list[tuple[str, str]], field: str | None
) -> None:
    record = JobRecord(ID, handler, [FileRecord(0, filename, headers, field)])
    assert JobRecord.from_json(record.to_json()) == record


def test_it_was_made_now_unless_told() -> None:
    before = time.time()
    assert before <= JobRecord(ID, "work", [FILE]).created_at <= time.time()


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        RECORD.to_json()[:-1],
        b"\xff\xfe",
        b"null",
        b"[]",
        b"7",
        b"{}",
        b"[" * 100_000,
        b'{"format": ' + b"9" * 5000 + b"}",
        with_changes(format=None),
        with_changes(format="2"),
        with_changes(format=1.5),
        with_changes(format=0),
        with_changes(id="../../x"),
        with_changes(id=ID[:-1]),
        with_changes(id=ID + "\n"),
        with_changes(id=ID.upper()),
        with_changes(id=None),
        with_changes(handler=None),
        with_changes(arguments=7),
        with_changes(arguments=0),
        with_changes(arguments={}),
        with_changes(arguments="{"),
        with_changes(arguments="[" * 100_000),
        with_changes(parent_id="../x"),
        with_changes(parent_id=""),
        with_changes(created_at="now"),
        with_changes(created_at=None),
        with_changes(created_at=float("nan")),
        with_changes(created_at=float("inf")),
        with_changes(created_at=-1),
        with_changes(created_at=10**400),
        with_changes(files=[]),
        with_changes(files=None),
        with_changes(files=[None]),
        with_changes(files=7),
        with_changes(more=1),
        with_file(size=-1),
        with_file(size="3"),
        with_file(size=True),
        with_file(size=3.0),
        with_file(filename=7),
        with_file(field_name=[]),
        with_file(headers=None),
        with_file(headers=[["a"]]),
        with_file(headers=[["a", "\u0100"]]),
    ],
)
def test_what_is_no_record_is_refused(text: bytes) -> None:
    with pytest.raises(UnreadableRecord, match="no record of a job"):
        JobRecord.from_json(text)


@pytest.mark.parametrize("missing", ["format", "id", "handler", "files"])
def test_what_must_be_there(missing: str) -> None:
    found = json.loads(RECORD.to_json())
    del found[missing]
    with pytest.raises(UnreadableRecord):
        JobRecord.from_json(json.dumps(found).encode())


@given(st.binary() | st.recursive(st.none() | st.integers(), st.lists).map(json.dumps))
def test_nothing_else_is_raised(text: bytes | str) -> None:
    with pytest.raises(UnreadableRecord):
        JobRecord.from_json(text.encode() if isinstance(text, str) else text)


def test_a_newer_format_is_not_read() -> None:
    """Whatever else it holds."""
    text = json.dumps({"format": FORMAT + 1, "id": {"of": "another kind"}}).encode()
    with pytest.raises(NewerFormat, match="format 2, and this version knows 1"):
        JobRecord.from_json(text)


@pytest.mark.parametrize(
    ("value", "is_one"),
    [
        (ID, True),
        ("0" * 32, True),
        ("0" * 31, False),
        ("0" * 33, False),
        ("0" * 32 + "\n", False),
        ("A" * 32, False),
        ("../" + "0" * 29, False),
        (b"0" * 32, False),
        (None, False),
    ],
)
def test_ids(value: object, is_one: bool) -> None:
    assert is_job_id(value) is is_one


def test_the_key_of_a_handler() -> None:
    assert handler_key("work") == handler_key("work") == "00e13ed7"
    assert len({handler_key(f"work{number}") for number in range(1000)}) == 1000
    assert handler_key("\ud800/../ä")  # any text has one
