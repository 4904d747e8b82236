"""One request's uploads: parsed once, shared by all, closed at the end."""

from __future__ import annotations

import weakref
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from typing import BinaryIO, cast

import anyio
import pytest
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect

from starlette_upload_keepalive import Limits, Upload, UploadAborted, Uploads
from starlette_upload_keepalive.admission import Admission
from starlette_upload_keepalive.files.storage import Storage
from starlette_upload_keepalive.intake import Intake, RequestForm, Taker
from starlette_upload_keepalive.quantities import MIB
from tests.asgi import BOUNDARY, Part, file_part, http_scope, multipart

pytestmark = pytest.mark.anyio

CONTENT_TYPE = f"multipart/form-data; boundary={BOUNDARY}"


async def chunks(body: bytes) -> AsyncGenerator[bytes, None]:
    for start in range(0, len(body), 64 * 1024):
        yield body[start : start + 64 * 1024]


async def not_to_be_read() -> AsyncGenerator[bytes, None]:
    yield pytest.fail("The body was read again.")


def taker(on_parsed: Callable[[Intake, str], None]) -> Taker:
    return Taker([], on_parsed)


def ignored(intake: Intake, path: str) -> None: ...


def make_intake(
    on_parsed: Callable[[Intake, str], None] = ignored, storage: Storage | None = None
) -> Intake:
    admission = Admission(Limits(), storage or Storage())
    return Intake(admission, "POST", "/photos", taker(on_parsed))


def telling(told: list[tuple[Intake, str]]) -> Callable[[Intake, str], None]:
    def on_parsed(intake: Intake, path: str) -> None:
        told.append((intake, path))

    return on_parsed


def upload_in(form: RequestForm) -> Upload:
    upload = form["photo"]
    assert isinstance(upload, Upload)
    return upload


async def test_the_form_is_parsed_once() -> None:
    """P11, divergence 5: whoever asks gets the same form."""
    told: list[tuple[Intake, str]] = []
    intake = make_intake(telling(told))
    form = await intake.form(CONTENT_TYPE, chunks(multipart(file_part(b"x"), Part("a", b"1"))))
    assert await intake.form(CONTENT_TYPE, not_to_be_read()) is form
    assert told == [(intake, "/photos")]
    assert form["a"] == "1"
    intake.end()


async def test_closing_the_form_keeps_its_files() -> None:
    """P1, divergence 6."""
    intake = make_intake()
    form = await intake.form(CONTENT_TYPE, chunks(multipart(file_part(b"abc"))))
    await form.close()
    assert await upload_in(form).read() == b"abc"
    intake.end()


@pytest.mark.parametrize("size", [10, 2 * MIB])
async def test_the_end_closes_all_files(size: int) -> None:
    """P2: with the files held, so that nobody but the intake can close them."""
    storage = Storage()
    intake = make_intake(storage=storage)
    form = await intake.form(CONTENT_TYPE, chunks(multipart(*[file_part(bytes(size))] * 3)))
    files = [upload.file for upload in intake.uploads]
    assert len(files) == 3
    assert intake.end() == []
    assert all(file.closed for file in files)
    assert (storage.open_blobs, storage.memory.used) == (0, 0)
    assert form


class BadFile:
    closed = False

    def close(self) -> None:
        raise OSError("can't be closed")


@pytest.mark.parametrize("bad", [0, 1, 2])
async def test_a_file_that_fails_to_close_keeps_no_other_open(bad: int) -> None:
    """P2: each is closed, whatever becomes of the others; and the error is seen."""
    storage = Storage()
    intake = make_intake(storage=storage)
    await intake.form(CONTENT_TYPE, chunks(multipart(*[file_part(b"x")] * 3)))
    intake.uploads[bad].file = cast("BinaryIO", BadFile())
    with pytest.raises(OSError, match="can't be closed"):
        intake.end()
    assert storage.open_blobs == 0


async def test_those_who_join_are_told_once_each() -> None:
    told: list[str] = []

    first = taker(lambda _, path: told.append(f"first {path}"))
    second = taker(lambda _, path: told.append(f"second {path}"))
    intake = Intake(Admission(Limits(), Storage()), "POST", "/photos", first)
    intake.join(second, "/inner")
    intake.join(second, "/inner")
    intake.join(first, "/inner")
    await intake.form(CONTENT_TYPE, chunks(multipart(Part("a"))))
    assert told == ["first /photos", "second /inner"]
    intake.end()


async def test_one_who_joins_after_the_form_was_parsed_is_told_too() -> None:
    """A middleware further in, behind one that has asked for the form already."""
    told: list[tuple[Intake, str]] = []
    intake = make_intake()
    await intake.form(CONTENT_TYPE, chunks(multipart(Part("a"))))
    intake.join(taker(telling(told)), "/inner")
    assert told == [(intake, "/inner")]
    intake.end()


async def test_a_failure_is_the_same_for_everyone() -> None:
    intake = make_intake()
    with pytest.raises(MultiPartException) as first:
        await intake.form(CONTENT_TYPE, chunks(b"junk"))
    with pytest.raises(MultiPartException) as second:
        await intake.form(CONTENT_TYPE, not_to_be_read())
    assert first.value is second.value
    intake.end()


async def test_a_failure_that_is_over_needs_no_garbage_collector() -> None:
    """P2: an error knows the frames that it passed, and they the intake."""
    intake = make_intake()
    with suppress(MultiPartException):
        await intake.form(CONTENT_TYPE, chunks(b"junk"))
    intake.end()
    gone = weakref.ref(intake)
    del intake
    assert gone() is None


async def test_a_client_that_left_is_an_abort(caplog: pytest.LogCaptureFixture) -> None:
    """Divergence 4: told apart from a bad request, and logged."""

    async def leaving() -> AsyncGenerator[bytes, None]:
        yield multipart(file_part(bytes(100)))[:90]
        raise ClientDisconnect

    intake = make_intake()
    with caplog.at_level("INFO", "starlette_upload_keepalive"), pytest.raises(UploadAborted):
        await intake.form(CONTENT_TYPE, leaving())
    (record,) = caplog.records
    assert record.getMessage() == "Upload aborted: the client left during POST /photos."
    with pytest.raises(UploadAborted):
        await intake.form(CONTENT_TYPE, not_to_be_read())
    intake.end()


async def test_no_path_forges_a_line_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """Servers have taken the escapes out of it, so that it may hold anything."""

    async def leaving() -> AsyncGenerator[bytes, None]:
        yield b""
        raise ClientDisconnect

    uploads = Uploads()
    intake = uploads._open_intake(http_scope("/a\nERROR:root:forged\r\x1b[2J" + "b" * 5000))
    with caplog.at_level("INFO", "starlette_upload_keepalive"), pytest.raises(UploadAborted):
        await intake.form(CONTENT_TYPE, leaving())
    uploads._end_intake(intake)
    (message,) = caplog.messages
    told = r"Upload aborted: the client left during POST /a\nERROR:root:forged\r\x1b[2Jbbb"
    assert message.startswith(told)
    assert len(message) < 300


async def test_after_a_cancelled_parse_the_form_is_gone() -> None:
    started = anyio.Event()

    async def stalling() -> AsyncGenerator[bytes, None]:
        yield multipart(file_part(bytes(100)))[:90]
        started.set()
        await anyio.sleep_forever()

    storage = Storage()
    intake = make_intake(storage=storage)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(intake.form, CONTENT_TYPE, stalling())
        await started.wait()
        tasks.cancel_scope.cancel()
    assert storage.open_blobs == 0
    with pytest.raises(RuntimeError, match="cancelled while it was being parsed"):
        await intake.form(CONTENT_TYPE, not_to_be_read())
    intake.end()


async def test_two_that_ask_at_once_get_one_form() -> None:
    proceed = anyio.Event()
    forms: list[RequestForm] = []

    async def slow() -> AsyncGenerator[bytes, None]:
        yield multipart(file_part(b"x"))
        await proceed.wait()

    async def ask(stream: AsyncGenerator[bytes, None]) -> None:
        forms.append(await intake.form(CONTENT_TYPE, stream))

    intake = make_intake()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask, slow())
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(ask, not_to_be_read())
        await anyio.wait_all_tasks_blocked()
        proceed.set()
    assert len(forms) == 2
    assert forms[0] is forms[1]
    intake.end()


@pytest.mark.parametrize("size", [10, 2 * MIB])
async def test_a_form_that_is_complete_after_the_end_is_closed(size: int) -> None:
    """P2: a task that outlived its request was still parsing."""
    proceed = anyio.Event()
    body = multipart(file_part(bytes(size)))
    storage = Storage()
    told: list[tuple[Intake, str]] = []
    intake = make_intake(telling(told), storage)

    async def slow() -> AsyncGenerator[bytes, None]:
        yield body[: size // 2]
        await proceed.wait()
        yield body[size // 2 :]

    async def ask() -> None:
        with pytest.raises(RuntimeError, match="request ended while its form was being parsed"):
            await intake.form(CONTENT_TYPE, slow())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        await anyio.wait_all_tasks_blocked()
        intake.end()
        proceed.set()
    assert storage.open_blobs == 0
    assert told == []
