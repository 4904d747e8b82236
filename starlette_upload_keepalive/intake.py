"""One request's uploads and staged jobs, from parse to accept."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from contextvars import Context, copy_context
from typing import Any

import anyio
from starlette.datastructures import FormData
from starlette.requests import ClientDisconnect

from .exceptions import StorageError, UploadAborted
from .files.multipart import FormItems, MultipartReader
from .files.storage import Storage
from .files.upload import Upload, let_go_of_all
from .jobs.job import Job
from .jobs.stage import Stage

SCOPE_KEY = "starlette_upload_keepalive"
"""Where the middleware leaves the intake in the ASGI scope."""

_CANCELLED = "The form was cancelled while it was being parsed."

logger: logging.Logger = logging.getLogger("starlette_upload_keepalive")


class RequestForm(FormData):
    """A form whose files stay open until the ASGI call ends."""

    async def close(self) -> None:
        """Do nothing: the intake closes the files (divergence 6)."""


class Intake:
    """What one request brings in. It lives in the ASGI scope.

    Make it in the task and the context that the request is served in.

    Args:
        storage: Where files are to live.
        method: The method of the request.
        path: Its path, as the app routes it.
        on_parsed: Called with the intake and the path once the form is complete.
        submits: Whether jobs are likely to be submitted.
    """

    def __init__(
        self,
        storage: Storage,
        method: str,
        path: str,
        on_parsed: Callable[[Intake, str], None],
        *,
        submits: bool = True,
    ) -> None:
        self.request: str = f"{method} {path}"
        self.uploads: list[Upload] = []
        self.stage: Stage = Stage(submits=submits)
        self.context: Context = copy_context()
        self._on_parsed = {on_parsed: path}
        self._storage = storage
        self._form: RequestForm | None = None
        self._failure: Exception | None = None
        self._begun = self._is_parsing = False
        self._parsed: anyio.Event | None = None  # only where somebody waits for it
        self._ended = False

    def join(self, on_parsed: Callable[[Intake, str], None], path: str) -> None:
        """Have a middleware further in told, too, when the form is complete.

        Args:
            on_parsed: Called with the intake and the path, if it is not known yet.
            path: The path of the request, as the app in there routes it.
        """
        if on_parsed in self._on_parsed:
            return
        self._on_parsed[on_parsed] = path
        if self._form is not None:  # a middleware in between has asked for it
            on_parsed(self, path)

    async def form(
        self,
        content_type: str,
        stream: AsyncGenerator[bytes, None],
        *,
        size: int | None = None,
        **limits: Any,
    ) -> RequestForm:
        """Parse the form, or return the one that was parsed before (divergence 5).

        Args:
            content_type: The request's.
            stream: The request's body.
            size: Its bytes, if they are known.
            limits: Those of ``Request.form()``.

        Raises:
            MultiPartException: The body is malformed, incomplete or above a limit.
            StorageError: A file can't be stored (divergence 3).
            UploadAborted: The client has gone (divergence 4).

        Cancellation: every file is closed, and the form can't be had any more.
        """
        async with aclosing(stream):
            if self._is_parsing:
                if self._parsed is None:
                    self._parsed = anyio.Event()
                await self._parsed.wait()
            if self._form is None:
                if self._begun:
                    raise self._failure or RuntimeError(_CANCELLED)
                self._begun = self._is_parsing = True
                try:
                    items = await self._parse(content_type, stream, size=size, **limits)
                finally:
                    self._is_parsing = False
                    if self._parsed is not None:
                        self._parsed.set()
                self._keep(items)
                self._form = RequestForm(items)
                for on_parsed, path in self._on_parsed.items():
                    on_parsed(self, path)
            return self._form

    async def _parse(
        self, content_type: str, stream: AsyncGenerator[bytes, None], **limits: Any
    ) -> FormItems:
        reader = MultipartReader(
            content_type,
            storage=self._storage,
            owner=f"the request {self.request}",
            origin=self.stage,
            **limits,
        )
        try:
            return await reader.read(stream)
        except ClientDisconnect as error:
            logger.info("Upload aborted: the client left during %s.", self.request)
            self._failure = UploadAborted()
            raise self._failure from error
        except Exception as error:
            if isinstance(error, StorageError):  # divergence 3
                logger.exception("An upload of %s could not be stored.", self.request)
            self._failure = error
            raise

    def _keep(self, items: FormItems) -> None:
        uploads = [value for _, value in items if isinstance(value, Upload)]
        if self._ended:  # a task that outlived its request asked for the form
            let_go_of_all(uploads)
            raise RuntimeError("The request ended while its form was being parsed.")
        self.uploads = uploads

    def end(self) -> list[Job[Any]]:
        """Release the accepted jobs and close all files. Never waits.

        Returns:
            The accepted jobs that no runner took.
        """
        self._ended = True
        self._failure = None
        try:
            return self.stage.end()
        finally:
            let_go_of_all(self.uploads)
