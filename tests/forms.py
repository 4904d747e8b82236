"""A form as we make it, and as Starlette does, for tests that compare them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import anyio
import pytest
from starlette.datastructures import FormData, Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from starlette_upload_keepalive import UploadKeepAliveMiddleware
from tests.asgi import (
    BOUNDARY,
    STARLETTE,
    Part,
    as_messages,
    echo_app,
    file_part,
    http_scope,
    multipart,
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


async def starlettes(
    chunks: Sequence[bytes],
    content_type: str = FORM,
    *,
    parsed_by: type[MultiPartParser] = MultiPartParser,
    **limits: Any,
) -> Seen:
    async def stream() -> AsyncGenerator[bytes, None]:
        for chunk in chunks:
            yield chunk

    async with aclosing(stream()) as body:
        parser = parsed_by(Headers({"content-type": content_type}), body, **limits)
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
