"""What the fuzzer has found stays mended, and what it begins with shows faults by itself."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from starlette_upload_keepalive.files import safe_filename
from starlette_upload_keepalive.forms import part_parser, plain_parts
from starlette_upload_keepalive.forms.multipart import MultipartReader
from starlette_upload_keepalive.forms.part_parser import PartParser, _PartHeaders
from starlette_upload_keepalive.jobs import record
from starlette_upload_keepalive.limits.field_limits import UNLIMITED, FormLimits
from starlette_upload_keepalive.spool import entry
from tests.forms import against_the_newest
from tests.fuzzing import oracle
from tests.fuzzing.form_case import FormCase, decode
from tests.fuzzing.targets import TARGETS
from tests.servers import ROOT

FOLDER = ROOT / "tests/fuzzing/corpus"
CORPUS = {name: sorted((FOLDER / name).iterdir()) for name in TARGETS}


def replay(file: Path) -> None:
    name = file.parent.name
    if name == "form":  # its target keeps an event loop
        anyio.run(oracle.check, decode(file.read_bytes()))
    else:
        TARGETS[name](file.read_bytes())


@pytest.mark.parametrize(
    "file",
    [file for files in CORPUS.values() for file in files],
    ids=lambda file: f"{file.parent.name}-{file.name}",
)
def test_the_corpus_holds(file: Path) -> None:
    replay(file)


def test_nothing_lies_in_the_corpus_that_is_not_replayed() -> None:
    assert {path.name for path in FOLDER.iterdir()} == TARGETS.keys()
    assert all(file.is_file() for files in CORPUS.values() for file in files)


# How a file tells a form


@pytest.mark.parametrize(
    ("data", "case"),
    [
        (b"", FormCase("", [b""])),
        (b"a\n", FormCase("a", [b""])),
        (b"a\r\0b\xe9\n----m\nbody", FormCase("ab\xe9", [b"body"])),
        (b"a\n12--d\n", FormCase("a", [b""], {"max_files": 1, "max_fields": 2}, None, True)),
        (b"a\n--\x005m\n", FormCase("a", [b""], {"max_part_size": 0}, 5)),
        (b"a\n----m!\n123", FormCase("a", [b"1", b"2", b"3"])),
        (b'a\n----m" !\n12345\n', FormCase("a", [b"12", b"", b"3", b"45", b"", b"\n"])),
        (b"a\n----m  \n123", FormCase("a", [b"123"])),
        (b"a\n----m!\n" + b"x" * 300, FormCase("a", [b"x"] * 200 + [b"x" * 100])),
    ],
)
def test_a_file_tells_a_form(data: bytes, case: FormCase) -> None:
    assert decode(data) == case


@pytest.mark.parametrize(
    ("body", "closed"),
    [
        (b"", False),
        (b"--B--", True),
        (b"\r\n--B--", True),
        (b"\njunk--B--", True),
        (b"\r\n", False),
        (b"--", False),
        (b"--B\r\n", False),
        (b"--B\r\nX: --B--\r\n", False),
        (b"--B\r\nX: y\r\n\r\n--B--", False),  # the line end is the headers'
        (b"--B\r\nX: y\r\n\r\n\r\n--B--", True),
        (b"--B\r\n\r\n1\r\n--B--", True),
        (b"--B\r\n\r\n1\r\n--B-\r\n--Bx\r\n--B\r\r\n--B--", True),
        (b"--B\r\n\r\n1\r\n--B \t\r\n\r\n2\r\n--B--", True),
        (b"--B\r\n\r\n1\r\n--B \t", False),
        (b"--B\r\n\r\n1\r\n--B \r\n--B--", False),
    ],
)
def test_where_a_body_is_closed(body: bytes, closed: bool) -> None:
    assert oracle.is_closed(body, b"B") is closed


# Faults


def as_it_is(_: object, data: bytes) -> bytes:
    return data


def always(value: Any) -> Callable[..., Any]:
    return lambda *_: value


def keep_the_last_piece(headers: _PartHeaders, data: bytes, start: int, end: int) -> None:
    headers._value = data[start:end]


def decode_strictly(_: MultipartReader, data: bytes) -> str:
    return data.decode()


class EqualToAll:
    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0


FAULTS: dict[str, tuple[str, Any, str, Any]] = {
    # The form
    "any end will do": ("form", MultipartReader, "_complete", property(always(True), always(None))),
    "headers are cut": ("form", _PartHeaders, "add_value", keep_the_last_piece),
    "a preamble is cut": ("form", PartParser, "_past_preamble", as_it_is),
    "no codec fails": ("form", MultipartReader, "_decode", decode_strictly),
    "a limit is one too high": ("form", MultipartReader, "_fields", property(always(0), always(0))),
    "no file is too large": ("form", FormLimits, "of", always(UNLIMITED)),
    "long headers pass": ("form", part_parser, "_MAX_HEADER", 1),
    "backslashes are plain": (
        "form",
        part_parser,
        "_PLAIN_DISPOSITION",
        re.compile(rb'form-data; name="([^"]*)"(?:; filename="([^"]*)")?'),
    ),
    "backslashes are plain in whole forms": (
        "form",
        plain_parts,
        "_HEAD",
        re.compile(plain_parts._HEAD.pattern.replace(rb"\\", b"", 2)),
    ),
    "any delimiter will do": ("form", plain_parts, "_HYPHENS", EqualToAll()),
    # Names
    "devices pass": ("filename", safe_filename, "_DEVICE", re.compile("CON")),
    "spaces end a name": ("filename", safe_filename, "_NOT_LAST", "."),
    "blanks pass": ("filename", safe_filename, "_visible", str),
    # The spool
    "a number has two names": (
        "entry",
        entry,
        "_NAME",
        re.compile(entry._NAME.pattern, re.IGNORECASE),
    ),
    "any id will do": ("record", record, "_ID", re.compile(".*")),
    "arguments are any text": ("record", record.JobRecord, "_check", always(None)),
}


@against_the_newest
@pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
@pytest.mark.parametrize("fault", FAULTS)
def test_the_corpus_shows_a_fault(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    target, owner, name, broken = FAULTS[fault]
    monkeypatch.setattr(owner, name, broken, raising=False)
    assert any(map(fails, CORPUS[target]))


def fails(file: Path) -> bool:
    try:
        replay(file)
    except Exception:  # noqa: BLE001
        return True
    return False
