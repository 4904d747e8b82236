"""What a handler has raised, as text."""

from __future__ import annotations

from starlette_upload_keepalive.exceptions import HandlerRaised
from starlette_upload_keepalive.quantities import KIB

MAX_ERROR_LENGTH = 4 * KIB


def described(error: BaseException) -> str:
    """Return the type and the message of what a handler has raised."""
    if isinstance(error, HandlerRaised):  # its text is that of another already
        return str(error)
    name = type.__dict__["__name__"].__get__(type(error))
    try:
        message = str(str(error)[:MAX_ERROR_LENGTH])
    except BaseException:  # noqa: BLE001 - it is the handler's code, which must harm no other job
        message = ""
    return f"{name}: {message}" if message else str(name)
