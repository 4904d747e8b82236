"""The numbered divergences from Starlette, as the docs list them."""

from __future__ import annotations

from contextlib import suppress
from encodings.aliases import aliases

import anyio
import pytest
from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

from starlette_upload_keepalive import Upload, UploadAborted, UploadKeepAliveMiddleware
from starlette_upload_keepalive.quantities import MIB
from tests.asgi import (
    BOUNDARY,
    DISCONNECT,
    STARLETTE,
    Part,
    file_part,
    in_messages,
    multipart,
    receiving,
    send_request,
)
from tests.forms import BODIES, RICH, in_loop, ours, starlettes

ONLY_WINDOWS = {"mbcs", "oem"}


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


@pytest.mark.parametrize("preamble", [b"\r\n", b"\n\n\n", b"\r\njunk", b"\njunk\r\n\r\n"])
def test_divergence_10_where_a_preamble_is_cut_makes_no_difference(preamble: bytes) -> None:
    body = preamble + multipart(Part("a", b"1"))
    for at in range(len(preamble) + 2):
        assert in_loop(ours, [body[:at], body[at:]]) == [("a", "1")]
    assert in_loop(ours, [body[at : at + 1] for at in range(len(body))]) == [("a", "1")]
    if STARLETTE >= (1, 10):
        assert in_loop(starlettes, [body]) == [("a", "1")]


def test_divergence_11_a_charset_that_fails_is_taken_for_latin_1() -> None:
    body = multipart(Part("a", b"\xe4"), file_part(b"\xe4"))
    content_type = f"multipart/form-data; charset=undefined; boundary={BOUNDARY}"
    assert in_loop(ours, [body], content_type)[0] == ("a", "ä")
    if STARLETTE >= (1, 10):
        with pytest.raises(UnicodeError, match="undefined encoding"):
            in_loop(starlettes, [body], content_type)


@pytest.mark.parametrize("charset", ["punycode", "IDNA"])
def test_divergence_11_what_is_for_domain_names_is_no_charset(charset: str) -> None:
    # With punycode, what is "bcher-kva" would be "bücher": after a time that is quadratic.
    body = multipart(Part("a", b"bcher-kva"), file_part(b"1", filename="xn--bcher-kva"))
    content_type = f"multipart/form-data; charset={charset}; boundary={BOUNDARY}"
    found = in_loop(ours, [body], content_type)
    assert found == in_loop(ours, [body], f"multipart/form-data; boundary={BOUNDARY}")


@pytest.mark.parametrize(
    ("charset", "name"),
    [("utf-7", b"+2AA-"), ("unicode_escape", rb"\ud800"), ("raw_unicode_escape", rb"\uD800")],
)
def test_divergence_11_no_text_is_none_that_utf_8_can_tell(charset: str, name: bytes) -> None:
    """An answer in JSON that has a lone surrogate is a 500."""
    assert not is_utf_8(name.decode(charset))
    body = multipart(Part("a", name), Part(name.decode(), b"1"))
    content_type = f"multipart/form-data; charset={charset}; boundary={BOUNDARY}"
    assert in_loop(ours, [body], content_type) == [("a", name.decode()), (name.decode(), "1")]


def is_utf_8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def test_divergence_11_has_all_codecs_of_such_text() -> None:
    """P11: a lone surrogate, as each codec that Python has would encode it."""
    names = {*aliases.values(), "undefined", "unicode_escape", "raw_unicode_escape"} - ONLY_WINDOWS
    for charset in sorted(names):
        with suppress(LookupError, ValueError):
            encoded = "\ud800".encode(charset)
            body = multipart(Part("a", encoded))
            content_type = f"multipart/form-data; charset={charset}; boundary={BOUNDARY}"
            found = in_loop(ours, [body], content_type)
            assert is_utf_8(str(found[0][1])), charset


@pytest.mark.parametrize(("length", "refused"), [(4224, False), (4225, True)])
def test_divergence_13_a_type_may_be_as_long_as_a_header_of_a_part(
    length: int, refused: bool
) -> None:
    content_type = f"multipart/form-data; boundary={BOUNDARY}; x=".ljust(length, "y")
    found = in_loop(ours, [multipart(Part("a", b"1"))], content_type)
    assert found == ("Invalid multipart data." if refused else [("a", "1")])
