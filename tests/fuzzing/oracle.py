"""What a form must come to: what the newest Starlette makes of it, but for what is told here.

Each difference is worked out from what was sent, not looked for in what we have made of it: so one
that is not there is as wrong as one too many.

- Divergence 1: a body without its closing boundary is an error. `is_closed` reads the body by
  itself, all at once.
- Divergence 2: a file above its limit is an error, unless another has come before.
- Divergence 10: where a body is cut makes no difference. What Starlette makes of all of it at once
  is what counts.
- Divergence 11: a charset whose codec fails is taken for Latin-1, and so is one that is for no
  text. Starlette lets that error pass.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import AsyncGenerator, Generator
from contextlib import ExitStack, aclosing, contextmanager
from dataclasses import replace
from unittest import mock

from python_multipart.multipart import parse_options_header
from starlette.formparsers import MultiPartException, MultiPartParser

from starlette_upload_keepalive import Upload
from starlette_upload_keepalive.exceptions import FileTooLarge
from starlette_upload_keepalive.files import blob, write_behind, write_through
from starlette_upload_keepalive.files.storage import Storage
from starlette_upload_keepalive.files.upload import let_go_of_all
from starlette_upload_keepalive.forms import multipart
from starlette_upload_keepalive.forms.multipart import INCOMPLETE, MultipartReader
from starlette_upload_keepalive.forms.multipart_type import INVALID
from starlette_upload_keepalive.limits.field_limits import FormLimits
from starlette_upload_keepalive.limits.reception import Reception
from tests.asgi import STARLETTE
from tests.forms import File, Seen, seen_of, starlettes

from .form_case import FormCase

MEASURED = STARLETTE >= (1, 10)
"""Whether the Starlette that is installed is the measure (divergence 7)."""

_MESSAGE = re.compile(
    "|".join(
        [
            re.escape(INCOMPLETE),
            re.escape(INVALID),
            "Missing boundary in multipart.",
            'The Content-Disposition header field "name" must be provided.',
            "Too many (files|fields). Maximum number of (files|fields) is [0-9.inf]+.",
            "Part exceeded maximum size of [0-9]+KB.",
            "The file of the field .* is too large: it may have [0-9,]+ bytes at most.",
        ]
    ),
    re.DOTALL,
)
_FIRST = re.compile(rb"[\r\n][^-]*")  # python-multipart skips it
_HEADERS = re.compile(rb"\r\n(?:.*?\r\n)??\r\n", re.DOTALL)

# Of domain names, and of text that UTF-8 has not.
_NO_CHARSETS = {"idna", "punycode", "utf-7", "unicode-escape", "raw-unicode-escape"}


async def check(case: FormCase) -> None:
    """Fail if we make anything else of a form than we must."""
    found = await ours(case)
    at_once = await ours(replace(case, chunks=[case.body], on_disk=False))
    assert found == at_once, ("it matters how it comes", found, at_once)
    if MEASURED:
        expected = await expected_of(case)
        assert found == expected, (found, expected)


async def ours(case: FormCase) -> Seen:
    """Parse a form by our reader, and see that nothing of it is left open."""
    storage = Storage(memory_max_size=16) if case.on_disk else Storage()
    reader = MultipartReader(
        case.content_type,
        reception=Reception(size=None if case.on_disk else len(case.body)),
        limits=FormLimits(max_file_size=case.max_file_size),
        storage=storage,
        owner="the oracle",
        **case.limits,  # type: ignore[arg-type]
    )
    with ExitStack() as stack:
        if case.on_disk:
            stack.enter_context(_small_batches())
        try:
            async with aclosing(_stream(case)) as stream:
                items = await reader.read(stream)
        except MultiPartException as error:
            found: Seen = error.message
        except FileTooLarge as error:
            found = error.detail
        else:
            found = [(name, await seen_of(value)) for name, value in items]
            let_go_of_all(value for _, value in items if isinstance(value, Upload))
    assert not isinstance(found, str) or _MESSAGE.fullmatch(found), found
    storage.closer.drain()
    assert storage.open_blobs == 0, "a file is still open"
    assert storage.memory.used == 0, "memory is still taken"
    return found


async def expected_of(case: FormCase) -> Seen:
    """Tell what must come of a form, by the newest Starlette."""
    try:
        if _is_no_charset(_charset(case)):
            theirs = await _in_an_odd_charset(case)
        else:
            theirs = await _starlettes(case, case.content_type)
    except ValueError:
        theirs = await _in_an_odd_charset(case)
    except FileTooLarge as error:
        theirs = error.detail
    if isinstance(theirs, str) or is_closed(case.body, _options(case)[b"boundary"]):
        return theirs
    return INCOMPLETE


def is_closed(body: bytes, boundary: bytes) -> bool:
    """Tell whether a body that has no error ends with its closing boundary."""
    delimiter = b"--" + boundary
    at = found.end() if (found := _FIRST.match(body)) else 0
    if not body.startswith(delimiter, at):
        return False
    at += len(delimiter)
    next_delimiter = re.compile(rb"\r\n" + re.escape(delimiter) + rb"(?=--|[ \t]|\r\n)")
    while not body.startswith(b"--", at):
        while body[at : at + 1] in (b" ", b"\t"):
            at += 1
        headers = _HEADERS.match(body, at)
        following = headers and next_delimiter.search(body, headers.end())
        if not following:
            return False
        at = following.end()
    return True


async def _starlettes(case: FormCase, content_type: str) -> Seen:
    """Parse a form by Starlette, with the one limit that it has not."""

    class Parser(MultiPartParser):
        size = 0

        def on_part_begin(self) -> None:
            self.size = 0
            super().on_part_begin()

        def on_part_data(self, data: bytes, start: int, end: int) -> None:
            self.size += end - start
            part, most = self._current_part, case.max_file_size
            if part.file is not None and most is not None and self.size > most:
                raise FileTooLarge(part.field_name, most)
            super().on_part_data(data, start, end)

    return await starlettes([case.body], content_type, parsed_by=Parser, **case.limits)


async def _in_an_odd_charset(case: FormCase) -> Seen:
    options = _options(case)
    charset = _charset(case)
    content_type = "multipart/form-data; charset=latin-1"
    if b"boundary" in options:
        boundary = options[b"boundary"].decode("latin-1")
        content_type += '; boundary="' + boundary.replace("\\", r"\\").replace('"', r"\"") + '"'
        assert parse_options_header(content_type)[1][b"boundary"] == options[b"boundary"]

    def text(latin: str) -> str:
        if _is_no_charset(charset):
            return latin
        try:
            return latin.encode("latin-1").decode(charset)
        except (LookupError, ValueError):
            return latin

    def value_of(value: str | File) -> str | File:
        if isinstance(value, str):
            return text(value)
        return replace(value, filename=text(value.filename or ""))

    try:
        seen = await _starlettes(case, content_type)
    except FileTooLarge as error:
        return FileTooLarge(text(error.field or ""), error.max_size).detail
    if isinstance(seen, str):
        return seen
    return [(text(name), value_of(value)) for name, value in seen]


def _charset(case: FormCase) -> str:
    return _options(case).get(b"charset", b"utf-8").decode("latin-1")


def _is_no_charset(charset: str) -> bool:
    try:
        return codecs.lookup(charset).name in _NO_CHARSETS
    except (LookupError, ValueError):
        return False


def _options(case: FormCase) -> dict[bytes, bytes]:
    return parse_options_header(case.content_type)[1]


async def _stream(case: FormCase) -> AsyncGenerator[bytes, None]:
    for chunk in case.chunks:
        yield chunk


@contextmanager
def _small_batches() -> Generator[None, None, None]:
    """Have small bodies go all the ways of large ones."""
    with (
        mock.patch.multiple(write_behind, _LEAST=32, BATCH=64),
        mock.patch.object(write_through, "BATCH", 64),
        mock.patch.multiple(multipart, _VIEW=16),
        mock.patch.multiple(blob, _SMALL=8),
    ):
        yield
