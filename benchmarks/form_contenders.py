"""Starlette's ``request.form()`` and ours, in process: one app, with and without middleware."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from starlette_upload_keepalive import FieldLimits, Limits, UploadKeepAliveMiddleware, Uploads

from .forms import Form
from .measure import Contender, WrongResult

STARLETTE, OURS = "Starlette", "this package"
LIMITED = "this package, every limit set"

_MUCH = 1 << 40  # bytes

Look = Callable[[FormData], Awaitable[None]]


def starlette(form: Form, error: str | None = None, **limits: int) -> Contender:
    """Parse it by Starlette alone.

    Args:
        form: What is sent.
        error: Why it must be refused, if it must.
        limits: Arguments of ``request.form()``.
    """
    parse, read = (_app(look, error, limits) for look in (_do_not_look, partial(compare, form)))
    return Contender(STARLETTE, partial(form.post, parse), check=partial(form.post, read))


def ours(form: Form, error: str | None = None, **limits: int) -> Contender:
    """Parse it by this package; the arguments are those of `starlette`."""
    return _ours(OURS, Uploads(), form, error, limits)


def limited(form: Form) -> Contender:
    """Parse it by this package, with each limit that there is, and none of them in the way."""
    names = {part.name or "" for part in form.parts if part.filename is not None}
    every = Limits(
        max_file_size=_MUCH,
        max_request_size=_MUCH,
        max_open_files=1000,
        max_disk_bytes=_MUCH,
        min_rate=1,
    )
    fields = [FieldLimits(name, max_size=_MUCH, content_type="*/*") for name in names]
    return _ours(LIMITED, Uploads(limits=every, fields=fields), form, None, {})


def _ours(
    name: str, uploads: Uploads, form: Form, error: str | None, limits: dict[str, Any]
) -> Contender:
    # Made once, as in an app.
    parse, read = (
        UploadKeepAliveMiddleware(_app(look, error, limits), uploads=uploads)
        for look in (_do_not_look, partial(compare, form))
    )

    async def post(app: ASGIApp) -> None:
        await form.post(app)
        # Large files are closed by a thread. It counts, although no request waits for it.
        uploads.storage.closer.drain()

    return Contender(name, partial(post, parse), check=partial(post, read))


def _app(look: Look, error: str | None, limits: dict[str, Any]) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with Request(scope, receive).form(**limits) as form:
                expect("error", None, error)
                await look(form)
        except MultiPartException as refused:
            expect("error", refused.message, error)

    return app


async def _do_not_look(form: FormData) -> None:
    pass


async def compare(sent: Form, form: FormData) -> None:
    """Read each part.

    Raises:
        WrongResult: It was not stored as it was sent.
    """
    expect("parts", len(form.multi_items()), len(sent.parts))
    for part, (name, value) in zip(sent.parts, form.multi_items(), strict=True):
        if isinstance(value, UploadFile):
            found = (name, value.filename, await value.read())
            expect("size", value.size, len(part.data))
        else:
            found = (name, None, value.encode())
        if found != (part.name, part.filename, part.data):
            raise WrongResult(f"The part {part.name!r} was not stored as it was sent.")


def expect(what: str, found: object, expected: object) -> None:
    """Raise `WrongResult` if it is not what it should be."""
    if found != expected:
        raise WrongResult(f"{what}: {found}, not {expected}.")
