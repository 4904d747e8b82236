"""Parts as clients nearly always send them are read in one step, as python-multipart reads them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from python_multipart.exceptions import FormParserError
from starlette.formparsers import MultiPartException

from starlette_upload_keepalive.files import part_parser, plain_parts
from starlette_upload_keepalive.files.part_parser import PartParser
from starlette_upload_keepalive.files.plain_parts import PlainPart, RawHeaders
from tests.generated_forms import bodies

DELIMITER = b"\r\n--B"
FILE = b'Content-Disposition: form-data; name="a"; filename="a.txt"\r\nContent-Type: text/plain'
FIELD = b'Content-Disposition: form-data; name="b"'


def form(*parts: tuple[bytes, bytes], end: bytes = b"--\r\n") -> bytes:
    lines = (b"--B\r\n" + head + b"\r\n\r\n" + data + b"\r\n" for head, data in parts)
    return b"".join(lines) + b"--B" + end


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


@pytest.mark.parametrize("end", [b"--", b"--\r\n"])
def test_a_form_may_end_with_a_line_end_or_without(end: bytes) -> None:
    assert data_of(form((FIELD, b"1"), end=end)) == [b"1"]


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


@pytest.mark.parametrize("after", [b"x", b" \r\n", b"-x", b"\rx", b"\n"])
def test_data_that_look_like_a_delimiter_leave_their_part(after: bytes) -> None:
    assert data_of(form((FIELD, b"1"), (FIELD, b"2" + DELIMITER + after), (FIELD, b"3"))) == [b"1"]


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
    ],
)
def test_what_does_not_begin_and_end_like_a_form_has_no_plain_parts(body: bytes) -> None:
    assert read(body) == []


# Against python-multipart

Told = list[tuple[Any, ...]]


class Parts:
    """Writes down what it is told, whatever the pieces that data come in."""

    def __init__(self) -> None:
        self.told: Told = []

    def begin_part(self, headers: RawHeaders, name: bytes | None, filename: bytes | None) -> None:
        self.told.append(("begin", headers, name, filename, bytearray()))

    def add_data(self, data: bytes, start: int, end: int) -> None:
        assert start < end
        self.told[-1][-1].extend(data[start:end])

    def end_part(self) -> None:
        self.told.append(("end",))

    def end_form(self) -> None:
        self.told.append(("complete",))


def told_of(messages: Sequence[bytes], boundary: bytes = b"B") -> Told:
    parts = Parts()
    parser = PartParser(boundary, parts)
    write: Callable[[bytes], object] | None = None
    try:
        for message in messages:
            if write is None:
                write = parser.begin(message)
            else:
                write(message)
    except (FormParserError, MultiPartException) as error:
        parts.told.append(("error", type(error)))
    return parts.told


BOUNDARIES = st.sampled_from([b"B", b"----WebKitFormBoundary1a2b", b"-", b"--", b"'()+_,./:=?"])


def none_of_them(*_: bytes) -> Sequence[PlainPart]:
    return ()


@given(st.data(), BOUNDARIES)
def test_they_are_told_of_as_by_python_multipart(data: st.DataObject, boundary: bytes) -> None:
    body = data.draw(bodies(boundary))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(part_parser, "plain_parts", none_of_them)
        expected = told_of([body], boundary)
    assert told_of([body], boundary) == expected


def test_python_multipart_goes_on_where_the_first_other_part_begins() -> None:
    odd = FIELD + b"; x=y"
    body = form((FIELD, b"1"), (odd, b"2"), (FIELD, b"3"))
    told = told_of([body])
    assert [part[-1] for part in told if part[0] == "begin"] == [b"1", b"2", b"3"]
    assert told[-1] == ("complete",)


def test_an_epilogue_in_messages_of_its_own_is_skipped() -> None:
    plain = form((FIELD, b"1"))
    assert told_of([plain, b"--B\r\n", b"x"]) == told_of([plain])
    assert told_of([b"", b"", plain]) == told_of([plain])


def test_a_body_in_pieces_that_a_client_may_use_again_is_not_read_at_once() -> None:
    """A middleware may send them, against the ASGI specification."""
    plain = form((FIELD, b"1"))
    assert told_of([cast("bytes", bytearray(plain))]) == told_of([plain])
