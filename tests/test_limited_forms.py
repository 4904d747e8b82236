"""What is over a limit is refused: with which status, when, and what is told."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import anyio
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message

from starlette_upload_keepalive import (
    DirectorySpool,
    FieldLimits,
    FileTooLarge,
    JobState,
    Limits,
    Upload,
    UploadKeepAliveMiddleware,
    Uploads,
)
from starlette_upload_keepalive.quantities import KIB, MIB
from tests.asgi import (
    Answer,
    Part,
    file_part,
    http_scope,
    in_messages,
    lifespan,
    multipart,
    send_request,
)
from tests.limited import app_with, refusals, send

pytestmark = pytest.mark.anyio


async def test_a_file_is_refused_while_it_arrives(caplog: pytest.LogCaptureFixture) -> None:
    """Divergence 2: with its first byte too many, and not at its end."""
    caplog.set_level(logging.INFO, "starlette_upload_keepalive")
    uploads = Uploads(limits=Limits(max_file_size=100 * KIB))
    app = app_with(uploads)

    for size in (100 * KIB - 1, 100 * KIB):
        sent = await send(app, multipart(file_part(bytes(size))))
        assert (sent.answer.status, sent.answer.json) == (200, [size])
    assert refusals(caplog) == []

    sent = await send(app, multipart(file_part(bytes(3 * MIB))))

    text = "The file of the field 'photo' is too large: it may have 102,400 bytes at most."
    assert (sent.answer.status, sent.answer.text) == (413, text)
    assert sent.received <= 100 * KIB + 32 * KIB
    assert refusals(caplog) == [("INFO", f"An upload of POST / was refused: {text}")]
    assert uploads.stats().open_uploads == 0


async def test_one_byte_more_than_a_file_may_have() -> None:
    app = app_with(Uploads(limits=Limits(max_file_size=100)))
    assert (await send(app, multipart(file_part(bytes(101))))).answer.status == 413
    two = multipart(file_part(bytes(100)), file_part(bytes(100)))
    assert (await send(app, two)).answer.json == [100, 100]


async def test_a_field_and_a_path_may_have_limits_of_their_own() -> None:
    fields = [FieldLimits("photo", path="/photos", max_size=10), FieldLimits("cv", max_size=20)]
    uploads = Uploads(fields=fields)
    photos, others = app_with(uploads, "/photos"), app_with(uploads, "/others")

    async def status(app: ASGIApp, path: str, **sizes: int) -> int | None:
        body = multipart(*[file_part(bytes(size), name=name) for name, size in sizes.items()])
        return (await send(app, body, path=path)).answer.status

    assert await status(photos, "/photos", photo=10, cv=20) == 200
    assert await status(photos, "/photos", photo=11) == 413
    assert await status(photos, "/photos", cv=21) == 413
    assert await status(others, "/others", photo=11, cv=20) == 200
    assert await status(others, "/others", cv=21) == 413


async def test_a_handler_may_have_a_limit_for_the_files_of_its_field() -> None:
    uploads = Uploads()

    @uploads.handler("photo", content_type="image/*", max_size=10)
    def handle(photo: Upload) -> None: ...

    app = app_with(uploads)
    async with uploads.running():
        refused = await send(app, multipart(file_part(bytes(11))))
        assert refused.answer.status == 413
        assert uploads.stats().jobs[JobState.SUCCEEDED] == 0
        other = file_part(bytes(11), content_type="application/pdf")  # it does not run for these
        assert (await send(app, multipart(other))).answer.status == 200
        assert (await send(app, multipart(file_part(bytes(10))))).answer.status == 200
        await uploads.drain()
    assert uploads.stats().jobs[JobState.SUCCEEDED] == 1


async def test_a_handler_takes_no_larger_upload_by_submit() -> None:
    uploads = Uploads()

    @uploads.handler(max_size=10)
    def handle(photo: Upload) -> None: ...

    async with uploads.running():
        async with Upload.from_bytes(bytes(11), filename="a") as upload:
            with pytest.raises(FileTooLarge) as refused:
                handle.submit(upload)
            assert refused.value.status_code == 413
            assert len(uploads.jobs) == 0
        async with Upload.from_bytes(bytes(10), filename="a") as upload:
            await handle.submit(upload).wait()


async def test_a_type_that_is_not_taken_is_refused_before_its_bytes_are_stored() -> None:
    uploads = Uploads(fields=[FieldLimits("photo", content_type=["image/png", "image/jpeg"])])
    app = app_with(uploads)

    for declared in ("image/png", "IMAGE/JPEG; q=1"):
        sent = await send(app, multipart(file_part(b"x", content_type=declared)))
        assert sent.answer.status == 200
    for other in ("text/html", None):
        sent = await send(app, multipart(file_part(bytes(MIB), content_type=other)))
        assert sent.answer.status == 415
        assert sent.answer.text == (
            "The file of the field 'photo' is of a type that is not taken. "
            "It may be image/png or image/jpeg."
        )
        assert sent.received == 16 * KIB
    cv = file_part(b"x", name="cv", content_type="text/html")
    assert (await send(app, multipart(cv))).answer.status == 200


async def test_a_file_input_that_was_left_blank_is_of_no_type() -> None:
    app = app_with(Uploads(fields=[FieldLimits("photo", content_type="image/*", max_size=10)]))
    octets = "application/octet-stream"
    blank = file_part(b"", filename="", content_type=octets)
    assert (await send(app, multipart(blank))).answer.json == [0]
    unnamed = file_part(b"x", filename="", content_type=octets)
    assert (await send(app, multipart(unnamed))).answer.status == 415


async def test_a_body_that_says_it_is_too_large_is_not_read() -> None:
    app = app_with(Uploads(limits=Limits(max_request_size=1000)))
    body = multipart(file_part(bytes(1000)))

    sent = await send(app, body, length=len(body))
    assert (sent.answer.status, sent.received) == (413, 0)
    assert sent.answer.text == "The request is too large: it may have 1,000 bytes at most."

    sent = await send(app, multipart(file_part(bytes(MIB))))  # and one that does not say
    assert (sent.answer.status, sent.received) == (413, 16 * KIB)
    assert (await send(app, multipart(file_part(bytes(500))))).answer.status == 200


async def test_a_body_that_says_a_false_length_is_counted() -> None:
    app = app_with(Uploads(limits=Limits(max_request_size=1000)))
    sent = await send(app, multipart(file_part(bytes(MIB))), length=10)
    assert sent.answer.status == 413


async def test_a_form_too_many_at_once(caplog: pytest.LogCaptureFixture) -> None:
    uploads = Uploads(limits=Limits(max_concurrency=1))
    app = app_with(uploads)
    body = multipart(file_part(b"x"))
    half_way, go_on = anyio.Event(), anyio.Event()
    slow = Answer()

    async def receive() -> Message:
        if not half_way.is_set():
            half_way.set()
            return {"type": "http.request", "body": body[:50], "more_body": True}
        await go_on.wait()
        return {"type": "http.request", "body": body[50:]}

    async def send_slow(message: Message) -> None:
        slow.messages.append(message)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(app, http_scope(), receive, send_slow)
        await half_way.wait()
        sent = await send(app, body)
        assert (sent.answer.status, sent.received) == (503, 0)
        assert sent.answer.headers["retry-after"] == "1"
        assert sent.answer.text == "Too many uploads at once. Try again in a moment."
        go_on.set()
    assert slow.status == 200
    assert (await send(app, body)).answer.status == 200
    text = (
        "An upload of POST / was refused: Too many uploads at once. Try again in a moment. "
        "(As many forms are received as max_concurrency allows: 1.)"
    )
    assert refusals(caplog) == [("WARNING", text)]


async def test_its_place_is_free_when_the_form_is_read_and_not_when_the_request_ends() -> None:
    app: Any = None

    async def endpoint(request: Request) -> JSONResponse:
        await request.form()
        nested = None
        if request.url.path == "/outer":
            nested = (await send_request(app, multipart(Part("a")), http_scope("/inner"))).status
        return JSONResponse(nested)

    app = Starlette(routes=[Route("/{which}", endpoint, methods=["POST"])])
    app.add_middleware(UploadKeepAliveMiddleware, uploads=Uploads(limits=Limits(max_concurrency=1)))
    answer = await send_request(app, multipart(Part("a")), http_scope("/outer"))
    assert answer.json == 200


async def test_with_too_many_jobs_no_form_is_taken_in() -> None:
    """P7: what comes faster than it is worked on is told so, before it is read."""
    uploads = Uploads(handler_tasks=1, limits=Limits(max_pending_jobs=3))
    go_on = anyio.Event()

    @uploads.handler("photo")
    async def handle(photo: Upload) -> None:
        await go_on.wait()

    app = app_with(uploads)
    async with lifespan(app):
        for _ in range(3):
            assert (await send(app, multipart(file_part(b"x")))).answer.status == 200
        sent = await send(app, multipart(file_part(b"x")))
        assert (sent.answer.status, sent.received) == (503, 0)
        assert sent.answer.headers["retry-after"] == "10"
        go_on.set()
        await uploads.drain()
        assert (await send(app, multipart(file_part(b"x")))).answer.status == 200


async def test_what_would_fill_the_disk_is_not_read(caplog: pytest.LogCaptureFixture) -> None:
    app = app_with(Uploads(limits=Limits(min_free_space=1 << 60)))
    body = multipart(file_part(bytes(2 * MIB)))

    sent = await send(app, body, length=len(body))
    assert (sent.answer.status, sent.received) == (507, 0)
    refused = (
        "An upload of POST / was refused: There is no space left to store the upload. "
        f"(Less than min_free_space, {1 << 60:,} bytes, would stay free.)"
    )
    assert refusals(caplog) == [("WARNING", refused)]

    caplog.clear()
    sent = await send(app, body)  # one that does not say how much it is
    assert refusals(caplog) == [("WARNING", refused)]
    assert sent.answer.status == 507
    assert 0 < sent.received <= len(body)
    assert (await send(app, multipart(file_part(b"x")))).answer.status == 200  # in memory


async def test_with_a_spool_small_files_need_free_space_too(tmp_path: Path) -> None:
    uploads = Uploads(spool=DirectorySpool(tmp_path), limits=Limits(min_free_space=1 << 60))
    async with uploads.running():
        sent = await send(app_with(uploads), multipart(file_part(b"x")))
    assert (sent.answer.status, sent.received) == (507, 0)


async def test_files_on_disk_have_no_more_bytes_than_they_may(
    caplog: pytest.LogCaptureFixture,
) -> None:
    uploads = Uploads(limits=Limits(max_disk_bytes=3 * MIB))
    app = app_with(uploads)
    body, twice = multipart(file_part(bytes(2 * MIB))), multipart(file_part(bytes(4 * MIB)))

    assert (await send(app, body, length=len(body))).answer.status == 200
    sent = await send(app, twice, length=len(twice))
    assert (sent.answer.status, sent.received) == (507, 0)
    assert (await send(app, twice)).answer.status == 507
    refused = (
        "An upload of POST / was refused: There is no space left to store the upload. "
        "(Uploads would have more than max_disk_bytes, 3,145,728.)"
    )
    assert refusals(caplog) == 2 * [("WARNING", refused)]
    assert (await send(app, body)).answer.status == 200
    assert uploads.storage.disk.used == 0


async def test_no_more_files_are_opened_than_may_be(caplog: pytest.LogCaptureFixture) -> None:
    uploads = Uploads(memory_max_size=0, limits=Limits(max_open_files=2))
    app = app_with(uploads)
    photo = file_part(bytes(10))

    assert (await send(app, multipart(photo, photo))).answer.status == 200
    sent = await send(app, multipart(photo, photo, photo))
    assert (sent.answer.status, sent.answer.headers["retry-after"]) == (503, "1")
    refused = (
        "An upload of POST / was refused: Too many uploads are open. Try again in a moment. "
        "(As many files are open as max_open_files allows: 2.)"
    )
    assert refusals(caplog) == [("WARNING", refused)]
    assert (await send(app, multipart(photo, photo))).answer.status == 200


async def test_a_client_that_sends_nothing_more(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "starlette_upload_keepalive")
    uploads = Uploads(limits=Limits(receive_timeout=0.05))
    app = app_with(uploads)
    body = multipart(file_part(bytes(2 * MIB)))
    for length in (None, len(body)):  # with a writer beside it, and without
        caplog.clear()
        scope = http_scope()
        if length is not None:
            scope["headers"].append((b"content-length", str(length).encode()))
        messages = in_messages(body)[:-1]

        answer = await send_request(app, messages, scope)

        assert answer.status == 408
        assert answer.text == "The upload is too slow. Nothing has come for 0.05 seconds."
        assert [level for level, _ in refusals(caplog)] == ["INFO"]
        assert uploads.stats().open_uploads == 0


@pytest.mark.parametrize("size", [100, 1 * MIB])
async def test_a_file_that_does_not_begin_like_what_it_is_declared_as(size: int) -> None:
    uploads = Uploads(fields=[FieldLimits("photo", sniff=True)])
    app = app_with(uploads)
    png = b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR".ljust(size, b"\0")
    html = b"<html>".ljust(size)

    assert (await send(app, multipart(file_part(png)))).answer.json == [size]
    for other in (html, png[1:]):
        sent = await send(app, multipart(file_part(other)))
        assert sent.answer.status == 415
        assert sent.received <= 16 * KIB
    assert (await send(app, multipart(file_part(html, name="cv")))).answer.status == 200
    assert uploads.stats().open_uploads == 0


async def test_the_first_bytes_are_found_in_messages_of_any_size() -> None:
    app = app_with(Uploads(fields=[FieldLimits("photo", sniff=True)]))
    html = multipart(file_part(b"<html>".ljust(3000)), Part("after", b"x"))
    for size in (1, 7, 1000):
        answer = await send_request(app, in_messages(html, size))
        assert answer.status == 415
        assert answer.text == (
            "The file of the field 'photo' does not begin like what it is declared as, "
            "but like text/html."
        )


async def test_a_blank_file_input_is_not_sniffed_and_an_empty_file_is() -> None:
    app = app_with(Uploads(fields=[FieldLimits("photo", sniff=True)]))
    blank = file_part(b"", filename="", content_type="image/png")
    assert (await send(app, multipart(blank))).answer.status == 200
    sent = await send(app, multipart(file_part(b"")))
    assert (sent.answer.status, sent.answer.text) == (
        415,
        "The file of the field 'photo' is empty.",
    )
