"""The hook on ``Request.form()``: the only file that touches Starlette's private parts.

Routing makes the ``Request``, so a middleware can't supply its own; instead
``Request._get_form`` is wrapped at class level, once. Outside a scope that
carries our key, the wrapper is Starlette's method and nothing else.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Protocol, cast

from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import Request

from .intake import SCOPE_KEY, Intake

MULTIPART = "multipart/form-data"
_DIGITS = 20


class _Hook(Protocol):
    original: Callable[..., Awaitable[FormData]]

    async def __call__(self, request: Request, **limits: Any) -> FormData: ...


def install() -> bool:
    """Wrap ``Request._get_form``. Again does nothing.

    Returns:
        Whether it was not wrapped before.
    """
    original: Any = Request._get_form
    if hasattr(original, "original"):
        return False

    async def _get_form(request: Request, **limits: Any) -> FormData:
        intake: Intake | None = request.scope.get(SCOPE_KEY)
        if intake is None or request._form is not None:
            return cast("FormData", await original(request, **limits))
        content_type, size = _described(request.scope["headers"])
        if not _is_multipart(content_type):
            return cast("FormData", await original(request, **limits))
        try:
            request._form = await intake.form(content_type, request.stream(), size=size, **limits)
        except MultiPartException as error:
            if "app" in request.scope:
                raise HTTPException(status_code=400, detail=error.message) from error
            raise
        return request._form

    hook = cast("_Hook", _get_form)
    hook.original = original
    Request._get_form = hook  # type: ignore[method-assign,assignment]
    return True


def uninstall() -> None:
    """Put Starlette's method back. Does nothing if another hook is on top."""
    hook: Any = Request._get_form
    # functools.wraps gives our attributes to another's hook, and __wrapped__ besides.
    if hasattr(hook, "original") and not hasattr(hook, "__wrapped__"):
        Request._get_form = hook.original  # type: ignore[method-assign]


def _described(headers: Iterable[tuple[bytes, bytes]]) -> tuple[str, int | None]:
    """Return the type of a body, and its size if that is known."""
    content_type: bytes | None = None
    size = None
    for name, value in headers:
        if name == b"content-type":
            content_type = value if content_type is None else content_type
        # Python refuses to read a number of thousands of digits, which no body is long enough for.
        elif name == b"content-length" and size is None and value.isdigit():
            size = int(value) if len(value) < _DIGITS else None
    return (content_type or b"").decode("latin-1"), size


def _is_multipart(content_type: str) -> bool:
    # Starlette's parser of options gives the same type, and takes ten times as long.
    return content_type.partition(";")[0].strip(" \t").lower() == MULTIPART
