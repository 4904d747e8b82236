"""The app that is attacked: it tells what it got, and keeps it as an app would.

It is that of ``tests.server_app`` with two more endpoints. Its handlers record
each upload named "photo" that they are given.
"""

from __future__ import annotations

from fastapi import Request
from fastapi.responses import PlainTextResponse

from starlette_upload_keepalive import Upload
from tests.server_app import DIRECTORY, app, recorded

__all__ = ["recorded"]

SAVED = DIRECTORY / "saved"
_SHOWN = 20


@app.post("/form")
async def tell(request: Request) -> PlainTextResponse:
    """Tell the values in order: the beginning of a field, the type and the size of a file."""
    form = await request.form()
    return PlainTextResponse(" ".join(f"{name}={_told(v)}" for name, v in form.multi_items()))


@app.post("/save")
async def save(photo: Upload) -> PlainTextResponse:
    """Store it under a name made of the client's, and tell that."""
    SAVED.mkdir(exist_ok=True)
    path = await photo.save_to(SAVED)
    return PlainTextResponse(str(path))


def _told(value: object) -> str:
    if isinstance(value, Upload):
        return f"{value.content_type}:{value.size}"
    return str(value)[:_SHOWN]
