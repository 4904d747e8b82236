"""P11: a form is what the newest Starlette makes of it, but for the numbered divergences."""

from __future__ import annotations

import encodings.aliases
import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.datastructures import FormData, Headers, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from starlette_upload_keepalive import Upload, UploadAborted, UploadKeepAliveMiddleware
from starlette_upload_keepalive.storage import MIB
from tests.asgi import (
    BOUNDARY,
    DISCONNECT,
    STARLETTE,
    Part,
    as_messages,
    echo_app,
    file_part,
    http_scope,
    in_messages,
    multipart,
    receiving,
    send_request,
)

FORM = f"multipart/form-data; boundary={BOUNDARY}"

against_the_newest = pytest.mark.skipif(
    STARLETTE < (1, 10), reason="only the newest Starlette is the measure"
)


@dataclass(frozen=True)
class File:
    """All that can be seen of a file."""

    filename: str | None
    content_type: str | None
    headers: tuple[tuple[bytes, bytes], ...]
    size: int | None
    data: bytes


Seen = list[tuple[str, "str | File"]] | str
"""A form, or the message of the error."""


async def seen_in(form: FormData) -> Seen:
    return [(name, await seen_of(value)) for name, value in form.multi_items()]


async def seen_of(value: str | UploadFile) -> str | File:
    if isinstance(value, str):
        return value
    return File(
        value.filename,
        value.content_type,
        tuple(value.headers.raw),
        value.size,
        await value.read(),
    )


async def ours(chunks: Sequence[bytes], content_type: str = FORM, **limits: Any) -> Seen:
    found: list[Seen] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            # The form() of older ones knows no max_part_size.
            form = await Request(scope, receive)._get_form(**limits)
            found.append(await seen_in(form))
        except MultiPartException as error:
            found.append(error.message)
        await echo_app()(scope, receive, send)

    scope = http_scope(content_type=content_type)
    await send_request(UploadKeepAliveMiddleware(app), as_messages(list(chunks) or [b""]), scope)
    return found[0]


async def starlettes(chunks: Sequence[bytes], content_type: str = FORM, **limits: Any) -> Seen:
    async def stream() -> AsyncGenerator[bytes, None]:
        for chunk in chunks:
            yield chunk

    async with aclosing(stream()) as body:
        parser = MultiPartParser(Headers({"content-type": content_type}), body, **limits)
        try:
            form = await parser.parse()
        except MultiPartException as error:
            return error.message
        try:
            return await seen_in(form)
        finally:
            for file in parser._files_to_close_on_error:  # more than the form may know
                file.close()


def in_loop(call: Any, *args: Any, **named: Any) -> Seen:
    async def run() -> Seen:
        found: Seen = await call(*args, **named)
        return found

    return anyio.run(run)


RICH = multipart(
    Part("text", "naïve ✓".encode()),
    file_part(b"\x00\r\n--\r\n\xff", name="photo"),
    Part("text", b"second"),
    Part("note", b"typed", content_type="text/plain; charset=latin-1"),
    file_part(b"", name="empty", filename="", content_type="application/octet-stream"),
    b'Content-Disposition: form-data; name="x"; filename="y"\r\nX-Custom:  spaced \r\nA: \r\n\r\nz',
    b"content-disposition: form-data; name=unquoted; filename*=UTF-8''%e2%82%ac.txt\r\n\r\nstar",
    b'Content-Disposition: form-data; name="q\\"uote"; filename="C:\\dir\\f.txt"\r\n\r\n1',
    b'Content-Disposition: form-data; name="a"; filename="C:\\dir\\f.txt"\r\n\r\n1',
    b'Content-Disposition: form-data; name="a"; filename="q\\"uote"\r\n\r\n1',
    b'Content-Disposition: form-data; name=""\r\n\r\nno name',
    b'Content-Disposition: form-data; name="b64"\r\nContent-Transfer-Encoding: base64\r\n\r\nYQ==',
    b"Content-Disposition: form-data; name=n\r\nContent-Type: multipart/mixed; boundary=i"
    b"\r\n\r\n--i\r\n",
)

BODIES = {
    "all kinds of parts": RICH,
    "no part": multipart(),
    "a preamble of line ends": b"\r\n\r\n" + RICH,
    "an epilogue": RICH + b"more",
    "a preamble": b"junk\r\n" + RICH,
    "junk": b"junk",
    "no disposition": multipart(b"X: y\r\n\r\n1"),
    "no header": multipart(b"\r\n1"),
    "no name": multipart(b"Content-Disposition: form-data\r\n\r\n1"),
    "a bad header": multipart(b"no colon\r\n\r\n1"),
    "a bare line feed": multipart(b'Content-Disposition: form-data; name="a"\n\n1'),
    "eight headers": multipart(
        b'Content-Disposition: form-data; name="a"\r\n' + b"X: y\r\n" * 7 + b"\r\n1"
    ),
    "nine headers": multipart(
        b'Content-Disposition: form-data; name="a"\r\n' + b"X: y\r\n" * 8 + b"\r\n1"
    ),
    "boundary-like data": multipart(
        file_part(b"\r\n--boundary-of-the-tes\r\n--boundary-of-the-test")
    ),
    "a boundary with padding": RICH.replace(b"test\r\nC", b"test  \r\nC"),
    "another boundary": multipart(Part("a", b"1"), boundary="other"),
}

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


def boundary_free(data: bytes) -> bool:
    return BOUNDARY.encode() not in data


NAMES = st.text(st.characters(codec="latin-1", exclude_characters='"\\\r\n;'), max_size=20)
DATA = st.one_of(
    st.binary(max_size=200),
    st.lists(st.sampled_from([b"\r", b"\n", b"-", b"\r\n--boundary-", b"x"]), max_size=30).map(
        b"".join
    ),
).filter(boundary_free)
PARTS = st.builds(Part, NAMES, DATA, st.none() | NAMES, st.none() | st.just("image/png"))


@against_the_newest
@settings(deadline=None)
@given(parts=st.lists(PARTS, max_size=6), size=st.integers(1, 300))
def test_any_form_is_what_starlette_makes_of_it(parts: list[Part], size: int) -> None:
    body = multipart(*parts)
    chunks = [body[start : start + size] for start in range(0, len(body), size)]
    assert in_loop(ours, chunks) == in_loop(starlettes, chunks)


DISPOSITIONS = st.lists(
    st.sampled_from(
        [
            *["form-data", "Form-Data", "attachment", ";", "; ", " ; ", "=", '"', '""', "\\", "'"],
            *["name", "NAME", "filename", "filename*", '="a"', '="b c"', "=a", "=''b", "%41", " "],
            *['; name="a"', '; filename="b"', "; filename=b.txt", '; x="y"', "\t", "é", "\x00"],
        ]
    ),
    max_size=8,
).map("".join)


@against_the_newest
@settings(deadline=None, max_examples=400)
@given(dispositions=st.lists(DISPOSITIONS | DISPOSITIONS.map('form-data; name="n"'.__add__)))
def test_any_disposition_is_what_starlette_makes_of_it(dispositions: list[str]) -> None:
    heads = [f"Content-Disposition: {one}\r\n\r\n".encode() for one in dispositions]
    body = multipart(*(head + b"1" for head in heads))
    assert in_loop(ours, [body]) == in_loop(starlettes, [body])


@against_the_newest
@settings(deadline=None)
@given(
    body=st.lists(
        st.sampled_from(
            [
                b"--boundary-of-the-test",
                b"--",
                b"\r\n",
                b"\r",
                b"\n",
                b"x",
                b": ",
                b'Content-Disposition: form-data; name="a"',
                b'; filename="b"',
            ]
        ),
        max_size=30,
    ).map(b"".join),
    size=st.integers(1, 60),
)
def test_any_junk_is_what_starlette_makes_of_it(body: bytes, size: int) -> None:
    """But for divergence 1, where Starlette drops the part that is not complete."""
    chunks = [body[start : start + size] for start in range(0, len(body), size)]
    found, theirs = in_loop(ours, chunks), in_loop(starlettes, chunks)
    if isinstance(found, str) and found.startswith("Incomplete"):
        assert not isinstance(theirs, str)
    else:
        assert found == theirs


@against_the_newest
@pytest.mark.parametrize("size", [MIB - 1, MIB, MIB + 1, 3 * MIB + 17])
@pytest.mark.parametrize("message", [16 * 1024, 64 * 1024, 4 * MIB])
def test_a_large_file_is_what_starlette_makes_of_it(size: int, message: int) -> None:
    body = multipart(file_part(os.urandom(size)), Part("after", b"1"))
    chunks = [body[start : start + message] for start in range(0, len(body), message)]
    assert in_loop(ours, chunks) == in_loop(starlettes, chunks)


CHARSETS = sorted({*encodings.aliases.aliases, *encodings.aliases.aliases.values()})


@pytest.mark.parametrize(
    "charset", [*CHARSETS, "undefined", "idna", "punycode", "a" * 300, "é", "../x", "", "utf-8 "]
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


# The divergences, by number


@pytest.mark.parametrize("size", [10, 3 * MIB])
@pytest.mark.parametrize("after", ["", "\r\n", f"\r\n--{BOUNDARY}", f"\r\n--{BOUNDARY}\r\n"])
def test_divergence_1_a_body_without_its_closing_boundary_is_refused(size: int, after: str) -> None:
    """P4: Starlette leaves out the file, and says nothing."""
    complete = multipart(Part("a", b"1"), file_part(bytes(size)))
    body = complete[: -len(f"\r\n--{BOUNDARY}--\r\n")] + after.encode()
    found = in_loop(ours, [body])
    assert found == "Incomplete multipart data: the body ended before its closing boundary."
    if STARLETTE >= (1, 10):
        assert len(in_loop(starlettes, [body])) <= 2


def test_divergence_1_what_follows_the_closing_boundary_does_not_matter() -> None:
    for end in ("--", "--\r", "--\r\n", "--\r\nmore"):
        body = multipart(Part("a", b"1"))[: -len("--\r\n")] + end.encode()
        assert in_loop(ours, [body]) == [("a", "1")]


def test_divergence_4_a_client_that_leaves_is_an_abort_and_no_bad_request() -> None:
    errors: list[UploadAborted] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        with pytest.raises(UploadAborted) as raised:
            await Request(scope, receive).form()
        errors.append(raised.value)

    async def check() -> None:
        half: list[Message] = [*in_messages(RICH, len(RICH) // 2)[:1], DISCONNECT]
        await send_request(UploadKeepAliveMiddleware(app), half)

    anyio.run(check)
    assert errors[0].status_code == 499


def test_divergence_5_every_request_on_a_scope_sees_the_same_form() -> None:
    forms: list[FormData] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        forms.append(await Request(scope, receive).form())
        forms.append(await Request(dict(scope), receiving([])).form())

    async def check() -> None:
        await send_request(UploadKeepAliveMiddleware(app), RICH)

    anyio.run(check)
    assert forms[0] is forms[1]


def test_divergence_6_files_stay_open_until_the_call_ends() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        async with request.form() as form:
            photo = form["photo"]
        await form.close()
        await request.close()
        assert isinstance(photo, Upload)
        assert await photo.read() == b"\x00\r\n--\r\n\xff"
        uploads.append(photo)

    uploads: list[Upload] = []

    async def check() -> None:
        await send_request(UploadKeepAliveMiddleware(app), RICH)
        with pytest.raises(ValueError, match="closed"):
            await uploads[0].read()

    anyio.run(check)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (BODIES["junk"], "Invalid multipart data."),
        (BODIES["a bad header"], "Invalid multipart data."),
        (BODIES["nine headers"], "Invalid multipart data."),
        (multipart(Part("a", bytes(MIB + 1))), "Part exceeded maximum size of 1024KB."),
    ],
)
def test_divergence_7_bad_bodies_get_the_same_on_every_version(body: bytes, message: str) -> None:
    """Older Starlettes answer 500, and know no limit for a field."""
    assert in_loop(ours, [body]) == message


@pytest.mark.parametrize("size", [10, 2 * MIB])
def test_divergence_8_the_file_is_read_only_and_write_works_on_a_copy(size: int) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        photo = (await Request(scope, receive).form())["photo"]
        assert isinstance(photo, Upload)
        file = photo.file
        with pytest.raises(OSError, match="write"):
            file.write(b"x")
        assert not file.writable()
        await photo.write(b"changed")
        await photo.seek(0)
        assert await photo.read() == b"changed" + bytes(size - 7)
        assert file.closed

    async def check() -> None:
        await send_request(UploadKeepAliveMiddleware(app), multipart(file_part(bytes(size))))

    anyio.run(check)
