"""The ASGI middleware: one line in any Starlette or FastAPI app."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AsyncExitStack

from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from . import form_hook
from .files.allocator import keep_freed_memory
from .intake import SCOPE_KEY, Intake
from .jobs.current_stage import current_stage
from .uploads import Uploads, route_path

_MULTIPART = form_hook.MULTIPART.encode()


class UploadKeepAliveMiddleware:
    """Keeps the files of a form usable, and hands them to handlers afterwards.

    Add it last, so that it is outermost::

        app.add_middleware(UploadKeepAliveMiddleware, uploads=uploads)

    Without ``uploads`` it is the keep-alive alone: whatever runs inside the
    ASGI call may use the files, and they are closed when the call ends.

    Args:
        app: The ASGI app.
        uploads: The configuration and the handlers; the defaults if None.

    Raises:
        TypeError: What was given are no uploads.
    """

    def __init__(self, app: ASGIApp, uploads: Uploads | None = None) -> None:
        if uploads is None:
            uploads = Uploads()
        elif not isinstance(uploads, Uploads):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"uploads must be an Uploads, such as Uploads(), not {uploads!r}.")
        self.app = app
        self.uploads = uploads
        if form_hook.install():  # the first in this process
            keep_freed_memory()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the lifespan."""
        if scope["type"] == "http":
            if not _is_multipart(scope):
                await self.app(scope, receive, send)
            elif SCOPE_KEY in scope:
                await self._join(scope, receive, send)
            else:
                await self._keep_alive(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._run_jobs(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _run_jobs(self, scope: Scope, receive: Receive, send: Send) -> None:
        last: list[Message] = []

        async def send_last_later(message: Message) -> None:
            if message["type"].startswith("lifespan.shutdown."):
                last.append(message)
            else:
                await send(message)

        try:
            async with AsyncExitStack() as running:
                try:
                    await running.enter_async_context(self.uploads.running())
                except Exception as error:
                    # Else uvicorn says that no lifespan is supported, and serves all the same.
                    await receive()
                    await send({"type": "lifespan.startup.failed", "message": str(error)})
                    raise
                await self.app(scope, self.uploads._drained(receive), send_last_later)
        finally:
            # Hypercorn cancels whoever has a step left after that.
            for message in last:
                await send(message)

    async def _keep_alive(self, scope: Scope, receive: Receive, send: Send) -> None:
        intake = scope[SCOPE_KEY] = self.uploads._open_intake(scope)

        refused = False

        async def send_deciding(message: Message) -> None:
            nonlocal refused
            if refused:
                return
            if message["type"] == "http.response.start":
                intake.stage.decide(message["status"])
                if intake.stage.holds_accepted:
                    refusal = await self.uploads._keep_accepted(intake)
                    if refusal is not None:
                        refused = True
                        await _answer(refusal)(scope, receive, send)
                        return
            await send(message)
            if _is_last(message):
                intake.stage.answered()

        outer_stage = current_stage.get()  # of a job that makes requests to an app
        current_stage.set(intake.stage)
        try:
            await self.app(scope, receive, send_deciding)
        finally:
            current_stage.set(outer_stage)
            scope.pop(SCOPE_KEY, None)
            stranded = self.uploads._end_intake(intake)
            if stranded:
                await self.uploads._run_here(stranded)

    async def _join(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Another of these stands further out, and owns the request's files."""
        intake: Intake = scope[SCOPE_KEY]
        intake.join(self.uploads._taker, route_path(scope))
        await self.app(scope, receive, send)


def _answer(error: HTTPException) -> Response:
    return PlainTextResponse(error.detail, error.status_code, error.headers)


def _is_multipart(scope: Scope) -> bool:
    headers: Iterable[tuple[bytes, bytes]] = scope["headers"]
    for name, value in headers:
        if name == b"content-type":
            return value.lstrip()[:19].lower() == _MULTIPART
    return False


def _is_last(message: Message) -> bool:
    if message["type"] == "http.response.body":
        return not bool(message.get("more_body", False))
    return bool(message["type"] == "http.response.pathsend")  # granian sends the file itself
