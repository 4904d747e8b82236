"""One request's uploads and staged jobs, from parse to accept."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from contextvars import Context, copy_context
from dataclasses import dataclass
from typing import Any

import anyio
from starlette.datastructures import FormData
from starlette.requests import ClientDisconnect

from .admission import Admission
from .exceptions import StorageError, UploadAborted, UploadRefused
from .files.over_limit import OverLimit
from .files.owner import REQUEST
from .files.printable import printable
from .files.upload import Upload, let_go_of_all
from .forms.field_memory import FieldMemory
from .forms.multipart import FormItems, MultipartReader
from .jobs.job import Job
from .jobs.stage import Stage
from .limits.field_limits import FileRule, FormLimits

SCOPE_KEY = "starlette_upload_keepalive"
"""Where the middleware leaves the intake in the ASGI scope."""

_SERVER_ERROR = 500
_MOST_NAMED = 200  # characters of a request, which the client has chosen
_CANCELLED = "The form was cancelled while it was being parsed."

logger: logging.Logger = logging.getLogger("starlette_upload_keepalive")


class RequestForm(FormData):
    """A form whose files stay open until the ASGI call ends."""

    async def close(self) -> None:
        """Do nothing: the intake closes the files (divergence 6)."""


@dataclass(frozen=True, eq=False)
class Taker:
    """An app's uploads, as an intake sees them.

    Attributes:
        rules: What files may be in requests to the app.
        on_parsed: Called with the intake and the path once the form is complete.
    """

    rules: Sequence[FileRule]
    on_parsed: Callable[[Intake, str], None]


class Intake:
    """What one request brings in. It lives in the ASGI scope.

    Make it in the task and the context that the request is served in.

    Args:
        admission: What takes its form in, or refuses it.
        method: The method of the request.
        path: Its path, as the app routes it.
        taker: The uploads of the app.
        submits: Whether jobs are likely to be submitted.

    Attributes:
        request: Its method and path, as the log may have them.
        uploads: Those of the form, once it is complete.
        stage: The jobs that wait for its answer.
        context: That of the middleware, for handlers that run by themselves.
    """

    def __init__(
        self,
        admission: Admission,
        method: str,
        path: str,
        taker: Taker,
        *,
        submits: bool = True,
    ) -> None:
        self.request: str = printable(f"{method} {path}", _MOST_NAMED)
        self.uploads: list[Upload] = []
        self.stage: Stage = Stage(submits=submits)
        self.context: Context = copy_context()
        self._takers = {taker: path}
        self._admission = admission
        self._form: RequestForm | None = None
        self._field_memory: FieldMemory | None = None
        self._failure: Exception | None = None
        self._begun = self._is_parsing = False
        self._parsed: anyio.Event | None = None  # only where somebody waits for it
        self._ended = False

    def join(self, taker: Taker, path: str) -> None:
        """Have the files taken by the app of a middleware further in, too.

        Args:
            taker: The uploads of that app.
            path: The path of the request, as the app in there routes it.
        """
        if taker in self._takers:
            return
        self._takers[taker] = path
        if self._form is not None:  # a middleware in between has asked for it
            taker.on_parsed(self, path)

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
            UploadRefused: It is more than the app takes (divergence 2).
            StorageError: A file can't be stored (divergence 3).
            UploadAborted: The client has gone (divergence 4).

        Cancellation: every file is closed, and the form can't be had any more.
        """
        try:
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
                for taker, path in self._takers.items():
                    taker.on_parsed(self, path)
            return self._form
        finally:
            await stream.aclose()

    async def _parse(
        self,
        content_type: str,
        stream: AsyncGenerator[bytes, None],
        *,
        size: int | None,
        **limits: Any,
    ) -> FormItems:
        reception = None
        try:
            reception = self._admission.admit(size)
            await self._admission.check_room(reception)
            reader = MultipartReader(
                content_type,
                storage=self._admission.storage,
                reception=reception,
                limits=self._limits_of_files(),
                owner=f"{REQUEST} {self.request}",
                origin=self.stage,
                **limits,
            )
            items = await reader.read(stream)
            self._field_memory = reader.field_memory
            return items  # noqa: TRY300
        except ClientDisconnect as error:
            logger.info("Upload aborted: the client left during %s.", self.request)
            self._failure = UploadAborted()
            raise self._failure from error
        except Exception as error:
            self._log(error)
            self._failure = error
            raise
        finally:
            if reception is not None:
                self._admission.leave(reception)

    def _limits_of_files(self) -> FormLimits:
        rules: list[FileRule] = []
        for taker, path in self._takers.items():
            if taker.rules:  # else, as mostly, nothing has to be made
                rules += [rule for rule in taker.rules if rule.files.is_on(path)]
        return FormLimits(rules, self._admission.limits.max_file_size)

    def _log(self, error: Exception) -> None:
        cause, why = error.__cause__, ""
        if isinstance(cause, OverLimit):
            why = f" ({cause.strerror}.)"
            cause = None
        if isinstance(error, StorageError) and cause is not None:  # divergence 3
            logger.error("An upload of %s could not be stored.", self.request, exc_info=error)
        elif isinstance(error, (UploadRefused, StorageError)):
            # What is wrong with a server is for its operator to see, what with a client is not.
            level = logging.WARNING if error.status_code >= _SERVER_ERROR else logging.INFO
            logger.log(level, "An upload of %s was refused: %s%s", self.request, error.detail, why)

    def _keep(self, items: FormItems) -> None:
        uploads = [value for _, value in items if isinstance(value, Upload)]
        if self._ended:  # a task that outlived its request asked for the form
            let_go_of_all(uploads)
            self._give_back_memory()
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
            self._give_back_memory()

    def _give_back_memory(self) -> None:
        if self._field_memory is not None:
            self._field_memory.give_back()
