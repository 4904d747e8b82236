"""Parts are told of as python-multipart reads them, with as little of its work as that takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from starlette.formparsers import MultiPartException

from starlette_upload_keepalive.forms import part_parser
from starlette_upload_keepalive.forms.part_parser import PartParser
from starlette_upload_keepalive.forms.plain_parts import PlainPart, RawHeaders
from tests.asgi import multipart
from tests.fuzzing.form_case import split
from tests.generated_forms import bodies

FIELD = b'Content-Disposition: form-data; name="b"'


def form(*parts: tuple[bytes, bytes]) -> bytes:
    return multipart(*map(b"\r\n\r\n".join, parts), boundary="B")


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
    """Whatever is read without its state machine."""
    body = data.draw(bodies(boundary))
    sizes = data.draw(st.just([]) | st.lists(st.integers(0, 40), max_size=6))
    messages = list(split(body, sizes))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(part_parser, "plain_parts", none_of_them)
        patch.setattr(part_parser._StateMachine, "write", MultipartParser.write)
        expected = told_of(messages, boundary)
    assert told_of(messages, boundary) == expected


def test_python_multipart_goes_on_where_the_first_other_part_begins() -> None:
    odd = FIELD + b"; x=y"
    body = form((FIELD, b"1"), (odd, b"2"), (FIELD, b"3"))
    told = told_of([body])
    assert [part[-1] for part in told if part[0] == "begin"] == [b"1", b"2", b"3"]
    assert told[-1] == ("complete",)


def test_no_part_has_the_name_of_the_one_before() -> None:
    odd = FIELD + b"; x=y"
    told = told_of([form((FIELD, b"1"), (odd, b"2"), (b"X: y", b"3"))])
    assert [part[2] for part in told if part[0] == "begin"] == [b"b", b"b", None]


def test_an_epilogue_in_messages_of_its_own_is_skipped() -> None:
    plain = form((FIELD, b"1"))
    assert told_of([plain, b"--B\r\n", b"x"]) == told_of([plain])
    assert told_of([b"", b"", plain]) == told_of([plain])


def test_what_is_told_of_a_buffer_that_may_be_used_again_is_a_copy() -> None:
    """A middleware may send one, against the ASGI specification."""
    plain = form((FIELD + b'; filename="f"\r\nContent-Type: text/plain', b"1"))
    told = told_of([cast("bytes", bytearray(plain))])
    assert told == told_of([plain])
    _, headers, *names, _ = told[0]
    assert {type(each) for each in (*names, *sum(headers, ()))} == {bytes}


@pytest.mark.parametrize(
    ("message", "is_plain"),
    [
        (b"x" * 1000, True),
        (b"\r\n--b\r\r\n\n-" + b"x" * 1000, True),
        (b"x" * 1000 + b"\rx", True),
        (b"x" * 1000 + b"\r", False),
        (b"x" * 1000 + b"\r\n--", False),
        (b"x\r\n--B", False),
    ],
)
def test_what_is_nothing_but_more_of_a_file_is_taken_as_it_is(
    message: bytes, is_plain: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = Parts()
    write = PartParser(b"B", parts).begin(b"--B\r\n" + FIELD + b"\r\n\r\n" + b"begun, ")
    assert write is not None
    seen: list[bytes] = []

    def internal_write(self: MultipartParser, data: bytes, _: int) -> int:
        seen.append(data)
        return len(data)

    monkeypatch.setattr(MultipartParser, "_internal_write", internal_write)
    assert write(message) == len(message)
    assert seen == ([] if is_plain else [message])
    assert parts.told[0][-1] == b"begun, " + (message if is_plain else b"")
