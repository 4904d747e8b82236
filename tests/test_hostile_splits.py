"""However a body is cut into messages, the same comes of it (divergence 10)."""

from __future__ import annotations

import pytest

from tests.asgi import BOUNDARY, Part, file_part, multipart
from tests.forms import BODIES, RICH, against_the_newest, ours, starlettes
from tests.hostile.bodies import INCOMPLETE

pytestmark = pytest.mark.anyio

B = BOUNDARY.encode()
FIELD = b'Content-Disposition: form-data; name="a"'
ONE = multipart(Part("a", b"1"))
TWO = multipart(Part("a", b"1"), Part("b", b"2"))

CUT = {
    "all kinds of parts": RICH,
    **{name: body for name, body in BODIES.items() if RICH not in body},
    # Before the first boundary
    "a preamble after a line end": b"\r\njunk" + ONE,
    "a preamble between line ends": b"\njunk\r\n" + ONE,
    "a preamble with a hyphen": b"\r\nju-nk" + ONE,
    "nothing but a preamble": b"\r\njunk",
    "nothing but a line end": b"\r",
    "hyphens": b"--" + ONE,
    "a space": b" " + ONE,
    # In what is nearly a boundary
    "all beginnings of a boundary": multipart(
        file_part(b"".join(b"\r\n--" + B[:end] for end in range(len(B) + 1)))
    ),
    "boundaries that go on": multipart(
        file_part(b"".join(b"\r\n--" + B + end for end in [b"X", b"-X", b"\rX", b"\r\r\n"]))
    ),
    "carriage returns before boundaries": multipart(file_part(b"\r\r\r")),
    "padding": TWO.replace(B + b"\r\n", B + b" \t \r\n"),
    "padding that goes on": TWO.replace(B + b"\r\n", B + b" \t X\r\n"),
    "padding at the end": ONE.replace(B + b"--", B + b" --"),
    # In headers
    "a carriage return in a header": multipart(FIELD + b"\rX: y\r\n\r\n1"),
    "two carriage returns": multipart(FIELD + b"\r\r\n\r\n1"),
    "no line feed after the headers": multipart(FIELD + b"\r\n\rX1"),
    "spaces around values": multipart(
        b"Content-Disposition:   form-data; name=a  \r\nX: \r\n\r\n1"
    ),
    "a header that is continued": multipart(FIELD + b";\r\n x=y\r\n\r\n1"),
    "a header without a name": multipart(b": y\r\n\r\n1"),
    "NUL and more": multipart(FIELD.replace(b"a", b"\0\xff\xfe") + b"\r\n\r\n\0"),
    "a boundary in the headers": multipart(FIELD + b"\r\n--" + B + b"\r\n\r\n1"),
    # At the end
    "a whole form after the end": ONE + TWO,
    "no line end at the end": ONE.removesuffix(b"\r\n"),
    "one hyphen at the end": ONE.removesuffix(b"-\r\n"),
    "one hyphen and more": ONE.removesuffix(b"-\r\n") + b"X",
    "the end at once": b"--" + B + b"--",
    "the end with one hyphen": b"--" + B + b"-X",
}


@pytest.mark.parametrize("body", CUT.values(), ids=CUT)
async def test_a_body_may_be_cut_anywhere(body: bytes) -> None:
    whole = await ours([body])
    for at in range(1, len(body)):
        assert await ours([body[:at], body[at:]]) == whole, at
    assert await ours([body[at : at + 1] for at in range(len(body))]) == whole


@against_the_newest
@pytest.mark.parametrize("body", CUT.values(), ids=CUT)
async def test_what_comes_of_it_is_what_starlette_makes_of_the_whole(body: bytes) -> None:
    """P11; but for divergence 1."""
    assert await ours([body]) in (await starlettes([body]), INCOMPLETE)
