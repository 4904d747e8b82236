"""P11: whatever the form, it is what the newest Starlette makes of it, but for the divergences.

`tests.fuzzing.oracle` tells what they are, and when each must show.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

import anyio
import pytest
from hypothesis import given, settings
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message

from starlette_upload_keepalive import Limits, UploadKeepAliveMiddleware, Uploads
from starlette_upload_keepalive.forms.multipart import INCOMPLETE
from tests.asgi import DISCONNECT, as_messages, http_scope, send_request
from tests.forms import Seen, against_the_newest, seen_in
from tests.fuzzing import oracle
from tests.fuzzing.form_case import FormCase
from tests.generated_forms import form_cases

# Starlette leaves its files open where a charset fails in mid-form (divergence 11).
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*SpooledTemporaryFile:pytest.PytestUnraisableExceptionWarning"
)


@settings(deadline=None, max_examples=500)
@given(form_cases())
def test_any_form_is_what_it_must_be(case: FormCase) -> None:
    anyio.run(oracle.check, case)


@against_the_newest
@settings(deadline=None, max_examples=200)
@given(form_cases())
def test_any_form_is_answered_as_it_must_be(case: FormCase) -> None:
    """Through an app with our middleware and one without: the same status, and the same text."""

    async def check() -> None:
        found = await our_answer(case)
        expected = await oracle.expected_of(case)
        assert found == as_answered(expected)
        try:
            theirs = await answer_of(app_of(case), replace(case, chunks=[case.body]))
        except ValueError:
            return  # divergence 11
        if expected != INCOMPLETE and case.max_file_size is None:  # divergences 1 and 2
            assert found == theirs

    anyio.run(check)


@against_the_newest
@settings(deadline=None)
@given(form_cases())
def test_a_client_may_leave_in_the_midst_of_any_form(case: FormCase) -> None:
    """Divergence 4: unless there is an error in what has come."""

    async def check() -> None:
        half = replace(case, chunks=case.chunks[: len(case.chunks) // 2])
        found = await our_answer(half, more=[DISCONNECT])
        expected = await oracle.expected_of(half)
        if isinstance(expected, str) and expected != INCOMPLETE:
            assert found == as_answered(expected)
        else:
            assert found == (499, "The client disconnected during the upload.")
            with suppress(ValueError), pytest.raises(ClientDisconnect):
                await answer_of(app_of(case), replace(half, chunks=[half.body]), more=[DISCONNECT])

    anyio.run(check)


def as_answered(expected: Seen) -> tuple[int, str]:
    if not isinstance(expected, str):
        return 200, ascii(expected)
    return (413 if expected.startswith("The file") else 400), expected


async def our_answer(case: FormCase, more: Sequence[Message] = ()) -> tuple[int | None, str]:
    uploads = Uploads(limits=Limits(max_file_size=case.max_file_size))
    answer = await answer_of(UploadKeepAliveMiddleware(app_of(case), uploads=uploads), case, more)
    uploads.storage.closer.drain()
    assert uploads.storage.open_blobs == 0
    return answer


async def answer_of(
    app: ASGIApp, case: FormCase, more: Sequence[Message] = ()
) -> tuple[int | None, str]:
    messages = as_messages(case.chunks or [b""])
    messages[-1]["more_body"] = bool(more)
    scope = http_scope(content_type=case.content_type)
    answer = await send_request(app, [*messages, *more], scope)
    return answer.status, answer.text


def app_of(case: FormCase) -> ASGIApp:
    async def endpoint(request: Request) -> Response:
        async with request.form(**case.limits) as form:  # type: ignore[arg-type]
            return PlainTextResponse(ascii(await seen_in(form)))

    return Starlette(routes=[Route("/", endpoint, methods=["POST"])])
