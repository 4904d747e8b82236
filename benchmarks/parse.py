"""Parsing a form and closing its files, in process: from the first message to the last byte gone.

The same little ASGI app asks for ``request.form()`` with and without the
middleware around it. As limits: the bare parser, which stores nothing, and the
raw body written to a temporary file, which is not parsed.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Awaitable, Callable
from functools import partial
from typing import IO

from python_multipart import MultipartParser
from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from starlette_upload_keepalive import UploadKeepAliveMiddleware, Uploads

from .forms import BOUNDARY, KIB, MB, Form, Part, noise
from .measure import MICROSECONDS, Bench, Contender, Unit, WrongResult

Look = Callable[[FormData], Awaitable[None]]


async def run(bench: Bench) -> None:
    """Parse one large file in messages of several sizes, and forms of many small parts."""
    size = bench.pick(200 * MB, quick=2 * MB)
    for message_size in (16 * KIB, 64 * KIB, 256 * KIB):
        form = Form.of([Part("file", noise(size), "large.bin")], message_size=message_size)
        await bench.race(
            f"Parse a file of {size / MB:g} MB, in messages of {message_size // KIB} KiB",
            Unit("MB/s", size / MB, is_rate=True),
            [_starlette(form), _ours(form), _bare_parser(form), _raw_write(form)],
        )
    small = {
        "Parse one file of 2 kB": _files(1),
        "Parse ten files of 2 kB": _files(10),
        "Parse a hundred files of 2 kB": _files(100),
        "Parse 1,000 fields": [Part(f"field-{i}", b"some value") for i in range(1000)],
    }
    for title, parts in small.items():
        form = Form.of(parts)
        await bench.race(
            title,
            MICROSECONDS,
            [_starlette(form), _ours(form), _bare_parser(form)],
            repeat=bench.pick(max(5, 2000 // len(parts)), quick=1),
        )


def _files(count: int) -> list[Part]:
    return [Part("files", noise(2000), f"small-{i}.bin") for i in range(count)]


# The contenders


def _starlette(form: Form) -> Contender:
    async def post(look: Look) -> None:
        await form.post(_app(look))

    return _parsing("Starlette", form, post)


def _ours(form: Form) -> Contender:
    uploads = Uploads()

    async def post(look: Look) -> None:
        await form.post(UploadKeepAliveMiddleware(_app(look), uploads=uploads))
        # Large files are closed by a thread. It counts, although no request waits for it.
        uploads.storage.closer.drain()

    return _parsing("this package", form, post)


def _parsing(name: str, form: Form, post: Callable[[Look], Awaitable[None]]) -> Contender:
    return Contender(name, partial(post, _do_not_look), partial(post, partial(compare, form)))


def _app(look: Look) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async with Request(scope, receive).form() as form:
            await look(form)

    return app


def _bare_parser(form: Form) -> Contender:
    async def parse() -> int:
        size = 0

        def count(data: bytes, start: int, end: int) -> None:
            nonlocal size
            size += end - start

        parser = MultipartParser(BOUNDARY, {"on_part_data": count})
        for message in form.messages:
            parser.write(message["body"])
        parser.finalize()
        return size

    async def check() -> None:
        _expect("bytes seen", await parse(), sum(len(part.data) for part in form.parts))

    return Contender("bare python-multipart, nothing stored", parse, check)


def _raw_write(form: Form) -> Contender:
    def write(file: IO[bytes]) -> None:
        for message in form.messages:
            os.write(file.fileno(), message["body"])

    async def run() -> None:
        with tempfile.TemporaryFile(buffering=0) as file:
            write(file)

    async def check() -> None:
        with tempfile.TemporaryFile(buffering=0) as file:
            write(file)
            _expect("bytes written", os.fstat(file.fileno()).st_size, form.size)

    return Contender("raw body to a file, nothing parsed", run, check)


# What they must have stored


async def _do_not_look(form: FormData) -> None:
    pass


async def compare(sent: Form, form: FormData) -> None:
    _expect("parts", len(form.multi_items()), len(sent.parts))
    for part, (name, value) in zip(sent.parts, form.multi_items(), strict=True):
        if isinstance(value, UploadFile):
            found = (name, value.filename, await value.read())
            _expect("size", value.size, len(part.data))
        else:
            found = (name, None, value.encode())
        if found != (part.name, part.filename, part.data):
            raise WrongResult(f"The part {part.name!r} was not stored as it was sent.")


def _expect(what: str, found: object, expected: object) -> None:
    if found != expected:
        raise WrongResult(f"{what}: {found}, not {expected}.")
