"""From the messages of a multipart body to its parts: drives python-multipart."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Protocol

from python_multipart import MultipartParser
from python_multipart.multipart import MultipartState, parse_options_header
from starlette.formparsers import MultiPartException

from .multipart_type import INVALID
from .plain_parts import DISPOSITION, RawHeaders, plain_parts

# What the newest python-multipart refuses by itself; earlier ones have no such limits.
_MAX_HEADERS = 8
_MAX_HEADER = 4096 + 128

# What clients send nearly always; python-multipart's own parser takes five times as long.
_PLAIN_DISPOSITION = re.compile(DISPOSITION)

Write = Callable[[bytes], object]


class Parts(Protocol):
    """Who is told of the parts of a body."""

    def begin_part(self, headers: RawHeaders, name: bytes | None, filename: bytes | None) -> None:
        """Know what the next part is.

        Args:
            headers: Its headers, with names in small letters.
            name: The form field, if it has one.
            filename: What the client calls its file, if it has one.
        """

    def add_data(self, data: bytes, start: int, end: int) -> None:
        """Take what comes next of the part: a slice of a message."""

    def end_part(self) -> None:
        """Know that the part is complete."""

    def end_form(self) -> None:
        """Know that the form is complete."""


class PartParser:
    """Tells of the parts of one multipart body.

    Args:
        boundary: What stands between them.
        parts: Who is told. What those raise comes out of here.
    """

    def __init__(self, boundary: bytes, parts: Parts) -> None:
        self._boundary = boundary
        self._parts = parts
        self._in_preamble = False

    def begin(self, data: bytes) -> Write | None:
        """Take the first message.

        Returns:
            What takes those that follow, or None if this is to take the next as well: nothing
            of the form has come.

        Raises:
            FormParserError: The body is malformed; so does what is returned.
        """
        rest = self._read_plain_parts(data)
        if rest is None:
            return _skip_epilogue
        data = self._past_preamble(rest)
        if not data:
            return None
        machine = _StateMachine(self._boundary, _PartHeaders(self._parts), self._parts)
        machine.write(data)
        return machine.write

    def _read_plain_parts(self, data: bytes) -> bytes | None:
        """Tell of the parts that need no state machine, and return the rest; None after the last.

        The rest begins with a boundary, which is as good as the first of a body.
        """
        parts, read = self._parts, 0
        for part in plain_parts(data, b"\r\n--" + self._boundary):
            parts.begin_part(part.headers, part.name, part.filename)
            if part.start < part.end:
                parts.add_data(data, part.start, part.end)
            parts.end_part()
            if part.is_last:
                parts.end_form()
                return None
            read = part.end + 2
        return data[read:]

    def _past_preamble(self, data: bytes) -> bytes:
        """Leave out what comes before the first boundary.

        What follows on a line end is skipped up to a hyphen that may begin a boundary: by itself
        python-multipart does so to the end of one message (divergence 10).
        """
        self._in_preamble = self._in_preamble or data[:1] in (b"\r", b"\n")
        if self._in_preamble:
            return data[data.find(b"-") :] if b"-" in data else b""
        return data


def _skip_epilogue(_: bytes) -> None:
    """Skip what comes after the last boundary (RFC 2046, 5.1.1)."""


class _PartHeaders:
    """Collects the headers of one part after the other, and begins the part with them."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._name = b""
        self._value = b""
        self._headers: RawHeaders = []
        self._disposition = b""

    def begin(self) -> None:
        self._headers = []
        self._disposition = b""

    def add_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]
        if len(self._name) > _MAX_HEADER:
            raise MultiPartException(INVALID)

    def add_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]
        if len(self._name) + len(self._value) > _MAX_HEADER:
            raise MultiPartException(INVALID)

    def end_header(self) -> None:
        name, value = self._name.lower(), self._value
        self._name = self._value = b""
        if name == b"content-disposition":
            self._disposition = value
        self._headers.append((name, value))
        if len(self._headers) > _MAX_HEADERS:
            raise MultiPartException(INVALID)

    def finish(self) -> None:
        plain = _PLAIN_DISPOSITION.fullmatch(self._disposition)
        if plain is not None:
            name, filename = plain.groups()
        else:
            options = parse_options_header(self._disposition)[1]
            name, filename = options.get(b"name"), options.get(b"filename")
        self._parts.begin_part(self._headers, name, filename)


class _StateMachine(MultipartParser):
    """Goes from state to state in what is not simply more of a file.

    It knows what to call, instead of making up its name for each of a part's dozen events.
    """

    def __init__(self, boundary: bytes, headers: _PartHeaders, parts: Parts) -> None:
        super().__init__(boundary)
        self._calls: dict[str, Callable[..., None]] = {
            "part_begin": headers.begin,
            "header_field": headers.add_name,
            "header_value": headers.add_value,
            "header_end": headers.end_header,
            "headers_finished": headers.finish,
            "part_data": parts.add_data,
            "part_end": parts.end_part,
            "end": parts.end_form,
        }

    def write(self, data: bytes) -> int:
        """Take a message: nearly all of a large file have neither a delimiter nor a part of one."""
        if self.index == 0 and self.state == MultipartState.PART_DATA:
            delimiter = self.boundary  # with the line end and the hyphens that come before it
            if delimiter not in data:
                tail = data.rfind(b"\r", 1 - len(delimiter))
                if data and (tail == -1 or not delimiter.startswith(data[tail:])):
                    self._calls["part_data"](data, 0, len(data))
                    return len(data)
        return super().write(data)

    def callback(
        self, name: str, data: bytes | None = None, start: int | None = None, end: int | None = None
    ) -> None:
        """Call what is to be told, if somebody is."""
        call = self._calls.get(name)
        if call is None:
            return
        if data is None:
            call()
        else:
            call(data, start, end)
