"""P11: a form is what the newest Starlette makes of it, but for the numbered divergences.

Here are forms that are told one by one; in `test_parity_generated`, any.
"""

from __future__ import annotations

import encodings.aliases
import os
from typing import Any

import anyio
import pytest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from starlette_upload_keepalive import UploadKeepAliveMiddleware
from starlette_upload_keepalive.quantities import MIB
from tests.asgi import BOUNDARY, STARLETTE, Part, file_part, multipart, send_request
from tests.forms import BODIES, FORM, against_the_newest, in_loop, ours, starlettes

CONTENT_TYPES = [
    FORM,
    f'multipart/form-data; boundary="{BOUNDARY}"',
    f"multipart/form-data; charset=utf-8; boundary={BOUNDARY}",
    f"multipart/form-data; charset=latin-1; boundary={BOUNDARY}",
    f"multipart/form-data; charset=utf-16; boundary={BOUNDARY}",
    f"multipart/form-data; charset=no-such; boundary={BOUNDARY}",
    "multipart/form-data",
    "multipart/form-data; boundary=",
    'multipart/form-data; boundary=""',
    f"multipart/form-data; boundary={'b' * 257}",
]


@against_the_newest
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
@pytest.mark.parametrize("content_type", CONTENT_TYPES)
def test_a_form_is_what_starlette_makes_of_it(body: bytes, content_type: str) -> None:
    theirs = in_loop(starlettes, [body], content_type)
    found = in_loop(ours, [body], content_type)
    if isinstance(found, str) and found.startswith("Incomplete"):  # divergence 1
        assert not isinstance(theirs, str)
        assert not body.endswith(b"--\r\n")
    else:
        assert found == theirs


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_where_a_body_is_split_makes_no_difference(body: bytes) -> None:
    async def check() -> None:
        whole = await ours([body])
        for at in range(1, len(body)):
            assert await ours([body[:at], body[at:]]) == whole, at
        assert await ours([body[i : i + 1] for i in range(len(body))]) == whole
        assert await ours([b"", *(body[i : i + 7] for i in range(0, len(body), 7)), b""]) == whole

    anyio.run(check)


@against_the_newest
@pytest.mark.parametrize("size", [MIB - 1, MIB, MIB + 1, 3 * MIB + 17])
@pytest.mark.parametrize("message", [16 * 1024, 64 * 1024, 4 * MIB])
def test_a_large_file_is_what_starlette_makes_of_it(size: int, message: int) -> None:
    body = multipart(file_part(os.urandom(size)), Part("after", b"1"))
    chunks = [body[start : start + message] for start in range(0, len(body), message)]
    assert in_loop(ours, chunks) == in_loop(starlettes, chunks)


CHARSETS = sorted({*encodings.aliases.aliases, *encodings.aliases.aliases.values()})


@pytest.mark.parametrize(
    "charset", [*CHARSETS, "undefined", "idna", "a" * 300, "é", "../x", "", "utf-8 "]
)
def test_any_charset_gives_a_form(charset: str) -> None:
    """Where the newest Starlette fails on an odd one, the text is latin-1, as for unknown ones."""
    data = "naïve ✓ \x00".encode()
    body = multipart(Part("a", data), file_part(b"raw", filename="n\u00e4me.txt"))
    content_type = f'multipart/form-data; charset="{charset}"; boundary={BOUNDARY}'
    found = in_loop(ours, [body], content_type)
    if STARLETTE >= (1, 10):
        try:
            theirs = in_loop(starlettes, [body], content_type)
        except ValueError:
            theirs = [("a", data.decode("latin-1")), *found[1:]]
        assert found == theirs
    assert len(found) == 2


FILES = multipart(file_part(b"1"), Part("a", b"12345"), file_part(b"2"), Part("b", b"1234567890"))


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"max_files": 2}, None),
        ({"max_files": 1}, "Too many files. Maximum number of files is 1."),
        ({"max_files": 0}, "Too many files. Maximum number of files is 0."),
        ({"max_files": float("inf")}, None),
        ({"max_fields": 2}, None),
        ({"max_fields": 1}, "Too many fields. Maximum number of fields is 1."),
        ({"max_fields": 0.5}, "Too many fields. Maximum number of fields is 0.5."),
        ({"max_part_size": 10}, None),
        ({"max_part_size": 9}, "Part exceeded maximum size of 0KB."),
    ],
)
@pytest.mark.parametrize("size", [1, 100_000])
def test_limits(limits: dict[str, Any], message: str | None, size: int) -> None:
    chunks = [FILES[start : start + size] for start in range(0, len(FILES), size)]
    found = in_loop(ours, chunks, **limits)
    if message is None:
        assert len(found) == 4
    else:
        assert found == message
    if STARLETTE >= (1, 10):
        assert found == in_loop(starlettes, chunks, **limits)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (multipart(*[file_part(b"")] * 1001), "Too many files. Maximum number of files is 1000."),
        (multipart(*[Part("a")] * 1001), "Too many fields. Maximum number of fields is 1000."),
        (multipart(Part("a", bytes(MIB + 1))), "Part exceeded maximum size of 1024KB."),
        (b"junk", "Invalid multipart data."),
        (
            multipart(b"X: y\r\n\r\n1"),
            'The Content-Disposition header field "name" must be provided.',
        ),
    ],
)
def test_inside_an_app_an_error_is_a_400_with_the_same_message(body: bytes, message: str) -> None:
    async def endpoint(request: Request) -> Response:
        with pytest.raises(HTTPException) as raised:
            await request.form()
        raise raised.value

    async def check() -> None:
        app = Starlette(routes=[Route("/", endpoint, methods=["POST"])])
        app.add_middleware(UploadKeepAliveMiddleware)
        answer = await send_request(app, body)
        assert (answer.status, answer.text) == (400, message)

    anyio.run(check)
    assert in_loop(ours, [body]) == message
    if STARLETTE >= (1, 10):
        assert in_loop(starlettes, [body]) == message


@pytest.mark.parametrize(
    "body", [multipart(*[file_part(b"")] * 1000), multipart(*[Part("a", bytes(2))] * 1000)]
)
def test_as_much_as_the_limits_allow_passes(body: bytes) -> None:
    assert len(in_loop(ours, [body])) == 1000
    assert len(in_loop(ours, [multipart(Part("a", bytes(MIB)))])) == 1
