"""What the media type of a form says: its boundary, and its charset."""

from __future__ import annotations

import codecs
import re
from contextlib import suppress
from typing import NamedTuple

from python_multipart.multipart import parse_options_header
from starlette.formparsers import MultiPartException

INVALID = "Invalid multipart data."

# What the newest python-multipart refuses by itself; earlier ones have no such limit.
_MAX_BOUNDARY = 256
_MAX_CONTENT_TYPE = 4096 + 128  # divergence 13

# Codecs of domain names: punycode takes 20 s for a megabyte. And those whose text may be none that
# UTF-8 can tell, so that an answer in JSON fails, or a database.
_NO_CHARSETS = {"idna", "punycode", "raw-unicode-escape", "unicode-escape", "utf-7"}

# What clients send nearly always; python-multipart's own parser takes five times as long.
_PLAIN = re.compile(r"multipart/form-data; ?boundary=([\w'()+,./:?-]+)", re.ASCII)


class MultipartType(NamedTuple):
    """What the media type of a form says.

    Attributes:
        boundary: What stands between its parts.
        charset: The codec of its text.
    """

    boundary: bytes
    charset: str = "utf-8"


def multipart_type(content_type: str) -> MultipartType:
    """Read the ``Content-Type`` of a request.

    Raises:
        MultiPartException: It has no boundary, or one that is too long.
    """
    if len(content_type) > _MAX_CONTENT_TYPE:
        raise MultiPartException(INVALID)
    plain = _PLAIN.fullmatch(content_type)
    found = _parsed(content_type) if plain is None else MultipartType(plain[1].encode())
    if len(found.boundary) > _MAX_BOUNDARY:
        raise MultiPartException(INVALID)
    return found


def _parsed(content_type: str) -> MultipartType:
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if boundary is None:
        raise MultiPartException("Missing boundary in multipart.")
    charset = options.get(b"charset", b"utf-8").decode("latin-1")
    with suppress(LookupError, ValueError):
        if (name := codecs.lookup(charset).name) not in _NO_CHARSETS:
            return MultipartType(boundary, name)
    return MultipartType(boundary, "latin-1")  # divergence 11
