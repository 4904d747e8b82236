"""Parts as clients nearly always send them, read in one step each."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

RawHeaders = list[tuple[bytes, bytes]]

DISPOSITION = rb'form-data; name="([^"\\\x00-\x1f\x7f]*)"(?:; filename="([^"\\\x00-\x1f\x7f]*)")?'

# Browsers, curl, requests and httpx send a part so. What is sent in any other way, if only in
# another order, as by aiohttp, is left to python-multipart, which goes from state to state and
# takes ten times as long.
_HEAD = re.compile(
    rb"\r\n(?i:content-disposition): (" + DISPOSITION + rb")\r\n"
    rb"(?:(?i:content-type): ([!-~][ -~]*)\r\n)?\r\n"
)
_MAX_HEAD = 4096  # bytes: no limit of python-multipart is below this

_CRLF, _HYPHENS = b"\r\n", b"--"
_LAST = (b"--\r\n", b"--")


class PlainPart(NamedTuple):
    """A part that is all in one message.

    Attributes:
        headers: Its headers, with names in small letters.
        name: The form field.
        filename: What the client calls its file, if it has one.
        start: Where its data begin.
        end: Where they end, and the delimiter after it begins.
        is_last: Whether that closes the form.
    """

    headers: RawHeaders
    name: bytes
    filename: bytes | None
    start: int
    end: int
    is_last: bool


def plain_parts(body: bytes, delimiter: bytes) -> Iterator[PlainPart]:
    """Read the parts from the beginning on, up to the first that is sent otherwise.

    Args:
        body: The first message in which something of the form comes. If it does not end
            like a form, a file in it may go on in the next; then nothing is read.
        delimiter: What stands between its parts: a line end, two hyphens and the boundary
            (RFC 2046, 5.1.1).
    """
    if not (body.endswith(_LAST) and body.startswith(delimiter[2:])):
        return
    width = len(delimiter)
    at = width - 2
    while True:
        head = _HEAD.match(body, at, at + _MAX_HEAD)
        if head is None:
            return
        start = head.end()
        end = body.find(delimiter, start)
        at = end + width
        after = body[at : at + 2]
        if end == -1 or after not in (_CRLF, _HYPHENS):
            return
        disposition, name, filename, content_type = head.groups()
        headers = [(b"content-disposition", disposition)]
        if content_type is not None:
            headers.append((b"content-type", content_type))
        yield PlainPart(headers, name, filename, start, end, after == _HYPHENS)
        if after == _HYPHENS:
            return
