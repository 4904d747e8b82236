"""What the media type of a form says: its boundary, its charset, and how long it may be."""

from __future__ import annotations

import pytest
from starlette.formparsers import MultiPartException

from starlette_upload_keepalive.forms.multipart_type import multipart_type

FORM = "multipart/form-data; "


@pytest.mark.parametrize(
    ("parameters", "boundary"),
    [
        ("boundary=B", b"B"),
        ("boundary='()+_,-./:?", b"'()+_,-./:?"),
        ('boundary="B B"', b"B B"),
        ('boundary="a;b"', b"a;b"),
        ("boundary=B;x=y", b"B"),
        ("Boundary=B", b"B"),
        ("boundary=é", b"\xe9"),
    ],
)
def test_its_boundary(parameters: str, boundary: bytes) -> None:
    assert multipart_type(FORM + parameters) == (boundary, "utf-8")


@pytest.mark.parametrize(
    ("named", "charset"),
    [
        ("UTF8", "utf-8"),
        ("Shift_JIS", "shift_jis"),
        ("no-such", "latin-1"),
        ("idna", "latin-1"),
        ("punycode", "latin-1"),
    ],
)
def test_its_charset(named: str, charset: str) -> None:
    assert multipart_type(f"{FORM}charset={named}; boundary=B") == (b"B", charset)


def test_without_a_boundary_it_is_refused() -> None:
    with pytest.raises(MultiPartException, match="Missing boundary"):
        multipart_type(FORM + "charset=utf-8")


def test_it_may_be_that_long() -> None:
    longest = (FORM + "boundary=B; x=").ljust(4224, "y")
    assert multipart_type(longest).boundary == b"B"
    with pytest.raises(MultiPartException, match="Invalid multipart data"):
        multipart_type(longest + "y")


def test_its_boundary_may_be_that_long() -> None:
    longest = FORM + "boundary=" + "b" * 256
    assert multipart_type(longest).boundary == b"b" * 256
    with pytest.raises(MultiPartException, match="Invalid multipart data"):
        multipart_type(longest + "b")
