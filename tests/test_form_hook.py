"""The hook on `Request.form()`: one form per scope, and absent where it is not asked for."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from starlette_upload_keepalive import Upload, UploadAborted, UploadKeepAliveMiddleware, form_hook
from starlette_upload_keepalive.intake import RequestForm
from tests.asgi import (
    DISCONNECT,
    Answer,
    Part,
    echo_app,
    file_part,
    http_scope,
    in_messages,
    multipart,
    receiving,
    send_request,
)

pytestmark = pytest.mark.anyio

BODY = multipart(file_part(b"abc"), Part("a", b"1"))
URLENCODED = "application/x-www-form-urlencoded"


@pytest.fixture(autouse=True)
def _hook_as_before() -> Iterator[None]:
    """Leave the class as it was found, whatever a test installs."""
    before = Request._get_form
    yield
    Request._get_form = before  # type: ignore[method-assign]


@pytest.fixture
def starlettes_own() -> Any:
    form_hook.uninstall()
    return Request._get_form


def app_of(*forms: Any) -> ASGIApp:
    """Make an app that calls each function with a request of its own on one scope."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for use in forms:
            await use(Request(scope, receive))
        await echo_app()(scope, receive, send)

    return UploadKeepAliveMiddleware(app)


async def test_it_is_installed_once_and_can_be_removed(starlettes_own: Any) -> None:
    UploadKeepAliveMiddleware(echo_app())
    hook = Request._get_form
    assert hook is not starlettes_own
    UploadKeepAliveMiddleware(echo_app())
    assert not form_hook.install()
    assert Request._get_form is hook

    form_hook.uninstall()
    assert Request._get_form is starlettes_own
    form_hook.uninstall()
    assert Request._get_form is starlettes_own
    assert form_hook.install()
    assert Request._get_form is not starlettes_own


@pytest.mark.parametrize("body", [BODY, multipart(), b"junk"])
@pytest.mark.parametrize("limits", [{}, {"max_fields": 0}, {"max_files": 0}])
@pytest.mark.parametrize("inside_app", [True, False])
async def test_outside_our_scopes_it_is_starlettes_method(
    starlettes_own: Any, body: bytes, limits: dict[str, int], inside_app: bool
) -> None:
    """P10: the same object, or the very same error."""
    more: dict[str, Any] = {"app": object()} if inside_app else {}
    outcomes: list[Any] = []

    async def original(request: Request, **given: Any) -> Any:
        try:
            outcomes.append(await starlettes_own(request, **given))
        except Exception as error:
            outcomes.append(error)
            raise
        return outcomes[-1]

    Request._get_form = original  # type: ignore[method-assign,assignment]
    form_hook.install()
    request = Request(http_scope(**more), receiving(in_messages(body)))
    try:
        outcome: Any = await request.form(**limits)
        assert type(outcome) is FormData
        await outcome.close()
    except Exception as error:  # noqa: BLE001 - whatever the version raises
        outcome = error
    assert len(outcomes) == 1
    assert outcome is outcomes[0]


async def test_the_limits_are_passed_to_what_was_there_before(starlettes_own: Any) -> None:
    """P10: also those that we have never heard of."""
    given: list[dict[str, Any]] = []
    result = FormData()

    async def original(request: Request, **limits: Any) -> FormData:
        given.append(limits)
        return result

    Request._get_form = original  # type: ignore[method-assign,assignment]
    form_hook.install()
    form = await Request(http_scope())._get_form(of_a_later_version=7)  # type: ignore[call-arg]
    assert form is result
    assert given == [{"of_a_later_version": 7}]


@pytest.mark.parametrize("wrapped", [True, False])
async def test_a_hook_of_someone_else_on_top_stays(starlettes_own: Any, wrapped: bool) -> None:
    calls: list[Request] = []
    forms: list[FormData] = []

    async def use(request: Request) -> None:
        forms.append(await request.form())

    app = app_of(use)
    below: Any = Request._get_form

    async def theirs(request: Request, **limits: Any) -> Any:
        calls.append(request)
        return await below(request, **limits)

    on_top: Any = functools.wraps(below)(theirs) if wrapped else theirs
    Request._get_form = on_top  # type: ignore[method-assign]
    await send_request(app, BODY)
    assert len(calls) == 1
    form_hook.uninstall()
    assert Request._get_form is on_top

    another = app_of(use)
    await send_request(another, BODY)
    assert [type(form) for form in forms] == [RequestForm, RequestForm]


@pytest.mark.parametrize(
    "content_type", [None, "application/json", URLENCODED, "multipart/mixed; boundary=b", "multi"]
)
async def test_what_is_no_form_with_files_passes_untouched(content_type: str | None) -> None:
    """P10: the very same objects, and nothing in the scope."""
    scope = http_scope(content_type=content_type)
    before = dict(scope)
    seen: list[Any] = []

    async def app(*given: Any) -> None:
        seen.extend(given)

    async def receive() -> Message:
        raise AssertionError("not asked for")

    async def send(_: Message) -> None: ...

    await UploadKeepAliveMiddleware(app)(scope, receive, send)
    assert seen[0] is scope
    assert scope == before
    assert seen[1] is receive
    assert seen[2] is send


@pytest.mark.parametrize(
    "content_type", ["multipart/form-data", "Multipart/Form-Data", " \tmultipart/form-data"]
)
async def test_a_form_is_recognised_however_it_is_written(content_type: str) -> None:
    forms: list[FormData] = []

    async def use(request: Request) -> None:
        forms.append(await request.form())

    boundary = "; boundary=boundary-of-the-test"
    scope = http_scope(content_type=content_type + boundary)
    await send_request(app_of(use), BODY, scope)
    assert type(forms[0]) is RequestForm


@pytest.mark.parametrize("end", ["-not", "\x0b", "\xa0"])
async def test_what_only_looks_like_a_form_is_left_to_starlette(end: str) -> None:
    """The middleware looks at the first bytes alone; the hook at all of them."""
    forms: list[FormData] = []

    async def use(request: Request) -> None:
        forms.append(await request.form())

    scope = http_scope(content_type=f"multipart/form-data{end}; boundary=boundary-of-the-test")
    await send_request(app_of(use), multipart(Part("a", b"1")), scope)
    assert type(forms[0]) is FormData


async def test_a_request_whose_headers_were_taken_away_has_no_form() -> None:
    async def use(request: Request) -> None:
        bare = Request({**request.scope, "headers": []}, request.receive)
        assert await bare.form() == FormData()

    await send_request(app_of(use), BODY)


async def test_a_form_that_the_request_has_already_stays() -> None:
    """P11: a class of the app's own may make it."""

    async def use(request: Request) -> None:
        request._form = form = FormData({"a": "theirs"})
        assert await request.form() is form

    await send_request(app_of(use), BODY)


async def test_a_second_request_on_the_scope_sees_the_same_form() -> None:
    """P11, divergence 5."""
    forms: list[FormData] = []

    async def use(request: Request) -> None:
        forms.append(await request.form())
        assert await request.form() is forms[-1]

    await send_request(app_of(use, use), BODY)
    assert forms[0] is forms[1]
    assert forms[0]["a"] == "1"


async def test_a_form_that_a_copy_of_the_scope_parsed_is_shared() -> None:
    """Divergence 5: routers and middlewares copy scopes."""
    forms: list[FormData] = []

    async def use(request: Request) -> None:
        copy = Request(dict(request.scope), request.receive)
        forms.append(await copy.form())
        forms.append(await request.form())

    await send_request(app_of(use), BODY)
    assert forms[0] is forms[1]


async def test_closing_the_request_keeps_the_files() -> None:
    """P1, divergence 6: `Request._form` is kept in step, so that closing it is ours."""
    data: list[bytes] = []

    async def use(request: Request) -> None:
        async with request.form() as form:
            pass
        await request.close()
        upload = form["photo"]
        assert isinstance(upload, Upload)
        data.append(await upload.read())

    await send_request(app_of(use), BODY)
    assert data == [b"abc"]


async def test_a_body_that_was_read_before_can_still_be_parsed() -> None:
    forms: list[FormData] = []

    async def use(request: Request) -> None:
        assert await request.body() == BODY
        forms.append(await request.form())

    await send_request(app_of(use), BODY)
    assert forms[0]["a"] == "1"


async def test_calls_at_once_get_one_form() -> None:
    forms: list[FormData] = []

    async def ask(request: Request) -> None:
        forms.append(await request.form())

    async def use(request: Request) -> None:
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(ask, request)
            tasks.start_soon(ask, Request(request.scope, request.receive))

    await send_request(app_of(use), in_messages(BODY, 7))
    assert len(forms) == 4
    assert len(set(map(id, forms))) == 1


@pytest.mark.parametrize("inside_app", [True, False])
async def test_after_a_failure_everyone_gets_the_same_error(inside_app: bool) -> None:
    more: dict[str, Any] = {"app": object()} if inside_app else {}
    expected = HTTPException if inside_app else MultiPartException
    errors: list[BaseException] = []

    async def use(request: Request) -> None:
        with pytest.raises(expected, match="Invalid multipart data") as raised:
            await request.form()
        if isinstance(raised.value, HTTPException):
            assert raised.value.status_code == 400
        errors.append(raised.value)

    await send_request(app_of(use, use), b"junk", http_scope(**more))
    assert len(errors) == 2


async def test_after_a_disconnect_everyone_is_told_of_it() -> None:
    """Divergence 4."""

    async def use(request: Request) -> None:
        with pytest.raises(UploadAborted):
            await request.form()

    await send_request(app_of(use, use), [*in_messages(BODY, 50)[:2], DISCONNECT])


async def test_after_a_cancellation_the_form_can_not_be_had() -> None:
    async def ask(request: Request) -> None:
        await request.form()

    async def cancel(request: Request) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask, request)
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()

    async def use(request: Request) -> None:
        with pytest.raises(RuntimeError, match="cancelled while it was being parsed"):
            await request.form()

    the_second_never_comes = in_messages(BODY, 100)[:1]
    await send_request(app_of(cancel, use), the_second_never_comes)


@pytest.mark.parametrize("parsed", [True, False])
async def test_after_the_end_of_the_call_no_file_is_open(parsed: bool) -> None:
    """P2: a task that outlives the call finds closed files, or no form; it opens none."""
    kept: list[Request] = []

    async def use(request: Request) -> None:
        kept.append(request)
        if parsed:
            await request.form()

    await send_request(app_of(use), [*in_messages(BODY), DISCONNECT])
    (request,) = kept
    if parsed:
        upload = (await request.form())["photo"]
        assert isinstance(upload, Upload)
        assert upload._view.closed
        with pytest.raises(ValueError, match="the request POST / has let go of it"):
            await upload.read()
    else:
        form = await request.form()  # Starlette's own, which the caller closes
        assert type(form) is FormData
        await form.close()


async def test_a_form_asked_for_in_a_copied_scope_after_the_end_is_closed() -> None:
    """P2: the copy still knows the intake, which has ended."""
    copies: list[Request] = []

    async def use(request: Request) -> None:
        copies.append(Request(dict(request.scope), request.receive))

    await send_request(app_of(use), BODY)
    with pytest.raises(RuntimeError, match="request ended"):
        await copies[0].form()


async def test_errors_of_the_stream_pass_unchanged() -> None:
    """Frameworks limit a body by an exception of their own out of `receive`."""

    class TooLarge(Exception):
        pass

    error = TooLarge()
    answer = Answer()
    first = in_messages(BODY, 50)[:1]

    async def receive() -> Message:
        await checkpoint()
        if first:
            return first.pop()
        raise error

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await Request(scope, receive).form()

    async def send(message: Message) -> None:
        answer.messages.append(message)

    with pytest.raises(TooLarge) as raised:
        await UploadKeepAliveMiddleware(app)(http_scope(), receive, send)
    assert raised.value is error
