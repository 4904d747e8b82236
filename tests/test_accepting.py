"""P4: handlers run for the files that they select, of requests that were accepted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from starlette_upload_keepalive import Upload, Uploads
from starlette_upload_keepalive.jobs.options import Start
from starlette_upload_keepalive.uploads import route_path
from tests.asgi import Part, file_part, http_scope, multipart, send_request
from tests.running import at_work
from tests.sites import BODY, LostClient, answering, kept_alive, outcomes, reading, starlette

pytestmark = pytest.mark.anyio


# Which answers accept


@pytest.mark.parametrize(
    ("status", "automatic", "widened", "submitted"),
    [
        (200, True, True, True),
        (299, True, True, True),
        (303, False, True, True),
        (304, False, False, True),
        (400, False, False, False),
        (422, False, False, False),
        (500, False, False, False),
    ],
)
async def test_status_decides(
    uploads: Uploads, status: int, automatic: bool, widened: bool, submitted: bool
) -> None:
    """P4: 200 to 299 accepts, `accept` widens, and a submit is content below 400."""
    uploads.handler("photo", name="automatic")(reading)
    uploads.handler("photo", name="widened", accept={303})(reading)
    explicit = uploads.handler(name="explicit")(reading)

    async def endpoint(request: Request) -> Response:
        photo: Any = (await request.form())["photo"]
        explicit.submit(photo)
        return Response(status_code=status)

    async with at_work(uploads):
        answer = await send_request(starlette(endpoint, uploads), BODY)

    assert answer.status == status
    expected = [("automatic", automatic), ("widened", widened), ("explicit", submitted)]
    assert outcomes(uploads) == [
        (name, *(("succeeded", "data") if accepted else ("discarded", None)))
        for name, accepted in expected
    ]
    assert uploads.stats().open_uploads == 0


async def test_exception_in_the_endpoint(uploads: Uploads) -> None:
    uploads.handler("photo")(reading)

    async def endpoint(request: Request) -> Response:
        await request.form()
        raise ValueError

    async with at_work(uploads):
        with pytest.raises(ValueError):  # noqa: PT011
            await send_request(starlette(endpoint, uploads), BODY)

    assert outcomes(uploads) == [("reading", "discarded", None)]
    assert uploads.stats().open_uploads == 0


async def test_truncated_body(uploads: Uploads) -> None:
    uploads.handler("photo")(reading)

    async with at_work(uploads):
        answer = await send_request(starlette(answering, uploads), BODY[:-10], http_scope("/200"))

    assert answer.status == 400
    assert outcomes(uploads) == []
    assert uploads.stats().open_uploads == 0


@pytest.mark.parametrize("lost_at", ["http.response.start", "http.response.body"])
@pytest.mark.parametrize("start", ["end", "response"])
async def test_accepted_job_runs_although_the_answer_does_not_arrive(
    uploads: Uploads, lost_at: str, start: Start
) -> None:
    """P4: what was accepted is released in every way the call can end."""
    uploads.handler("photo", start=start)(reading)

    async def lose(message: Message) -> None:
        if message["type"] == lost_at:
            raise LostClient

    async with at_work(uploads):
        with pytest.raises(LostClient):
            await send_request(
                starlette(answering, uploads), BODY, http_scope("/200"), on_send=lose
            )

    assert outcomes(uploads) == [("reading", "succeeded", "data")]


async def test_stream_that_raises_after_its_200(uploads: Uploads) -> None:
    uploads.handler("photo")(reading)

    async def broken() -> AsyncIterator[bytes]:
        yield b"some"
        raise LostClient

    async def endpoint(request: Request) -> Response:
        await request.form()
        return StreamingResponse(broken())

    async with at_work(uploads):
        with suppress(Exception):  # in a group on some versions of Starlette
            await send_request(starlette(endpoint, uploads), BODY)

    assert outcomes(uploads) == [("reading", "succeeded", "data")]


# Which files


async def test_selection(uploads: Uploads) -> None:
    def names(files: list[Upload]) -> list[str | None]:
        return [file.filename for file in files]

    async def name(file: Upload) -> str | None:
        return file.filename

    uploads.handler("photo", name="each")(name)
    uploads.handler("photo", name="all", many=True)(names)
    uploads.handler("photo", name="images", content_type="Image/*")(name)
    uploads.handler("photo", name="here", path="/{number:int}")(name)
    uploads.handler("photo", name="elsewhere", path="/photos")(name)
    uploads.handler("cv", name="other field")(name)
    body = multipart(
        Part("title", b"a field"),
        file_part(b"1", filename="a.png"),
        file_part(b"", filename="", content_type="application/octet-stream"),
        file_part(b"2", filename="b.txt", content_type="text/plain"),
        Part("cv", b"a field of that name"),
    )

    async with at_work(uploads):
        await send_request(starlette(answering, uploads), body, http_scope("/201"))

    assert [(name, result) for name, _, result in outcomes(uploads)] == [
        ("each", "a.png"),
        ("each", "b.txt"),
        ("all", ["a.png", "b.txt"]),
        ("images", "a.png"),
        ("here", "a.png"),
        ("here", "b.txt"),
    ]
    assert {job.field for job in uploads.jobs} == {"photo"}


@pytest.mark.parametrize("root_path", ["", "/mounted"])
async def test_path_is_that_of_the_routes(uploads: Uploads, root_path: str) -> None:
    uploads.handler("photo", path="/200")(reading)
    scope = http_scope(f"{root_path}/200", root_path=root_path)

    async with at_work(uploads):
        answer = await send_request(starlette(answering, uploads), BODY, scope)

    assert answer.status == 200
    assert outcomes(uploads) == [("reading", "succeeded", "data")]


async def test_form_that_is_parsed_after_the_answer(uploads: Uploads) -> None:
    """The answer has decided before there was a job."""
    uploads.handler("photo")(reading)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await Response(status_code=scope["wanted"])(scope, receive, send)
        await Request(scope, receive).form()

    async with at_work(uploads):
        for status in (200, 400):
            await send_request(kept_alive(app, uploads), BODY, http_scope(wanted=status))

    assert outcomes(uploads) == [
        ("reading", "succeeded", "data"),
        ("reading", "discarded", None),
    ]


@pytest.mark.parametrize(
    ("scope", "path"),
    [
        ({"path": "/a/b"}, "/a/b"),
        ({"path": "/a/b", "root_path": ""}, "/a/b"),
        ({"path": "/a/b", "root_path": "/a"}, "/b"),
        ({"path": "/a/b", "root_path": "/a/"}, "/b"),
        ({"path": "/b", "root_path": "/a"}, "/b"),
        ({"path": "/ab", "root_path": "/a"}, "/ab"),
    ],
)
def test_path_below_the_mount(scope: dict[str, str], path: str) -> None:
    """Whether the server, or the framework's version, has it in the path or not."""
    assert route_path(scope) == path
