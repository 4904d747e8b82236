"""Parts as clients nearly always send them are read in one step, as python-multipart reads them."""

from __future__ import annotations

import re
import sys

import httpx
import pytest

from starlette_upload_keepalive.forms import plain_parts
from starlette_upload_keepalive.forms.plain_parts import PlainPart
from tests.asgi import multipart

DELIMITER = b"\r\n--B"
FILE = b'Content-Disposition: form-data; name="a"; filename="a.txt"\r\nContent-Type: text/plain'
FIELD = b'Content-Disposition: form-data; name="b"'


def form(*parts: tuple[bytes, bytes]) -> bytes:
    return multipart(*map(b"\r\n\r\n".join, parts), boundary="B")


def read(body: bytes) -> list[PlainPart]:
    return list(plain_parts.plain_parts(body, DELIMITER))


def data_of(body: bytes) -> list[bytes]:
    return [body[part.start : part.end] for part in read(body)]


def test_a_file_and_a_field() -> None:
    body = form((FILE, b"1\r\n2"), (FIELD, b""))
    file, field = read(body)
    assert data_of(body) == [b"1\r\n2", b""]
    assert file.headers == [
        (b"content-disposition", b'form-data; name="a"; filename="a.txt"'),
        (b"content-type", b"text/plain"),
    ]
    assert (file.name, file.filename, file.is_last) == (b"a", b"a.txt", False)
    assert field.headers == [(b"content-disposition", b'form-data; name="b"')]
    assert (field.name, field.filename, field.is_last) == (b"b", None, True)


def test_a_form_may_end_with_a_line_end_or_without() -> None:
    body = form((FIELD, b"1"))
    assert body.endswith(b"--B--\r\n")
    assert data_of(body) == data_of(body[:-2]) == [b"1"]


def test_what_httpx_sends_is_plain() -> None:
    request = httpx.Request(
        "POST",
        "http://test",
        data={"b": ["1", "2"]},
        files={"a": ("ä b.png", b"3", "image/png"), "c": ("c", b"")},
    )
    body = request.read()
    delimiter = b"\r\n--" + request.headers["content-type"].partition("boundary=")[2].encode()
    parts = list(plain_parts.plain_parts(body, delimiter))
    assert [body[part.start : part.end] for part in parts] == [b"1", b"2", b"3", b""]
    assert parts[-1].is_last


@pytest.mark.parametrize(
    "head",
    [
        FIELD.replace(b": ", b":"),
        FIELD.replace(b": ", b":  "),
        FIELD.replace(b"; ", b";"),
        FIELD + b"; x=y",
        FIELD + b" ",
        FIELD + b"\nx: y",
        FIELD.replace(b'"', b""),
        FIELD.replace(b"t-D", b"tXD"),
        FIELD.replace(b"b", rb"\""),
        FIELD.replace(b"b", b"\0"),
        FIELD.replace(b"b", b"\n"),
        FIELD.replace(b'"b"', b'"' + b"b" * 5000 + b'"'),
        FILE.replace(b"a.txt", rb"C:\a.txt"),
        FILE.replace(b"filename", b"filename*"),
        FILE.replace(b"text/plain", b""),
        FILE.replace(b"text/plain", b" text/plain"),
        FILE.replace(b"text/plain", b"text/\xe9"),
        FILE + b"\r\nX: y",
        b"X: y\r\n" + FIELD,
        b"X: y",
    ],
)
def test_the_first_part_that_is_sent_otherwise_and_all_after_it_are_left(head: bytes) -> None:
    assert data_of(form((FIELD, b"1"), (FILE, b"2"), (head, b"3"), (FIELD, b"4"))) == [b"1", b"2"]


@pytest.mark.parametrize(("size", "is_plain"), [(4096, True), (4097, False)])
def test_a_head_may_be_that_long(size: int, is_plain: bool) -> None:
    head = FIELD.replace(b"b", b"b" * (size - len(b"\r\n" + FIELD + b"\r\n\r\n") + 1))
    assert data_of(form((head, b"1"))) == [b"1"] * is_plain


def test_no_more_of_a_head_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """python-multipart refuses one at once that goes on for megabytes."""
    looks: list[tuple[int, int]] = []

    class Watched:
        def match(self, body: bytes, start: int, end: int = sys.maxsize) -> re.Match[bytes] | None:
            looks.append((start, end))
            return head.match(body, start, end)

    head = plain_parts._HEAD
    monkeypatch.setattr(plain_parts, "_HEAD", Watched())
    assert read(form((FIELD, b"1"), (FIELD.replace(b"b", b"b" * 100_000), b"2"))) != []
    assert [end - start for start, end in looks] == [4096, 4096]


@pytest.mark.parametrize("after", [b"x", b" \r\n", b"-x", b"\rx", b"\n"])
def test_data_that_look_like_a_delimiter_leave_their_part(after: bytes) -> None:
    assert data_of(form((FIELD, b"1"), (FIELD, b"2" + DELIMITER + after), (FIELD, b"3"))) == [b"1"]


def test_data_may_begin_like_a_boundary() -> None:
    """The line end before a boundary is its own, and not that after the headers."""
    assert data_of(form((FIELD, b"--B--\r\n1"), (FIELD, b"2"))) == [b"--B--\r\n1", b"2"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--B",
        b"--B--",
        b"--B--\r\n",
        form((FIELD, b"1"))[:-1],
        form((FIELD, b"1"))[:-6],
        form((FIELD, b"1")) + b"an epilogue",
        b"\r\n" + form((FIELD, b"1")),
        form((FIELD, b"1")).replace(b"--B", b"--C"),
        form((FIELD, b"1")).replace(b"--B", b"--C", 1),
    ],
)
def test_what_does_not_begin_and_end_like_a_form_has_no_plain_parts(body: bytes) -> None:
    assert read(body) == []
