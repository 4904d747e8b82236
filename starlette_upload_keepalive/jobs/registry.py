"""Where handlers are registered."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, Literal, overload

from starlette_upload_keepalive.events import Hooks
from starlette_upload_keepalive.limits.field_limits import FileRule

from .callbacks import OnError, OnSuccess
from .decorator import HandlerDecorator, ManyHandlerDecorator
from .handler import Handler
from .history import JobHistory
from .job import Job
from .options import HandlerOptions, OnCrash, RunIn, Start
from .retry import Retry
from .selection import Selection
from .work import Keep

AnyHandler = Handler[Any, Any, Any, Any]


class HandlerRegistry:
    """The handlers of one app, by name.

    Args:
        history: Where their jobs are remembered.
        hooks: Who is told what happens to jobs.
        publish: Hands a job to its runner; False if none is running.
        keep: Keeps jobs in a durable spool, if there is one.
    """

    def __init__(
        self,
        history: JobHistory,
        hooks: Hooks,
        publish: Callable[[Job[Any]], bool],
        keep: Keep | None,
    ) -> None:
        self._handlers: dict[str, AnyHandler] = {}
        self._rules: list[FileRule] = []
        self._history = history
        self._hooks = hooks
        self._publish = publish
        self._keep = keep

    @overload
    def handler(
        self,
        field: str | None = None,
        *,
        path: str | None = None,
        content_type: str | Sequence[str] | None = None,
        many: Literal[False] = False,
        accept: Collection[int] = (),
        start: Start = "end",
        name: str | None = None,
        retry: Retry | None = None,
        timeout: float | None = None,
        run_in: RunIn | None = None,
        memory_limit: int | None = None,
        cpu_limit: int | None = None,
        max_concurrency: int | None = None,
        priority: int = 0,
        max_size: int | None = None,
        on_crash: OnCrash = "retry",
        on_success: OnSuccess | None = None,
        on_error: OnError | None = None,
    ) -> HandlerDecorator: ...

    @overload
    def handler(
        self,
        field: str | None = None,
        *,
        path: str | None = None,
        content_type: str | Sequence[str] | None = None,
        many: Literal[True],
        accept: Collection[int] = (),
        start: Start = "end",
        name: str | None = None,
        retry: Retry | None = None,
        timeout: float | None = None,
        run_in: RunIn | None = None,
        memory_limit: int | None = None,
        cpu_limit: int | None = None,
        max_concurrency: int | None = None,
        priority: int = 0,
        max_size: int | None = None,
        on_crash: OnCrash = "retry",
        on_success: OnSuccess | None = None,
        on_error: OnError | None = None,
    ) -> ManyHandlerDecorator: ...

    def handler(
        self,
        field: str | None = None,
        *,
        path: str | None = None,
        content_type: str | Sequence[str] | None = None,
        many: bool = False,
        accept: Collection[int] = (),
        start: Start = "end",
        name: str | None = None,
        retry: Retry | None = None,
        timeout: float | None = None,
        run_in: RunIn | None = None,
        memory_limit: int | None = None,
        cpu_limit: int | None = None,
        max_concurrency: int | None = None,
        priority: int = 0,
        max_size: int | None = None,
        on_crash: OnCrash = "retry",
        on_success: OnSuccess | None = None,
        on_error: OnError | None = None,
    ) -> Any:
        """Register a function that works on uploads after their request.

        With a field it runs by itself for every file of that form field whose
        request is answered with 200 to 299. Without, it runs for what is given
        to ``submit``. A plain function runs in a worker thread, an ``async`` one
        on the event loop. Its first parameter is the upload, which is closed
        when it returns; its second may be a `JobContext`.

        Args:
            field: The form field whose files it runs for by itself.
            path: Only for requests of this path, as in a route: "/users/{id}/photos".
            content_type: Only for files of this declared media type, or one of
                several: "image/*".
            many: Give it all files of the field at once, as a list.
            accept: Status codes that accept a file besides 200 to 299: ``{303}``
                for a redirect after the post.
            start: "end": when the request has ended, so that its dependencies
                have committed. "response": as soon as the answer is out.
            name: What jobs call it; the function's name if None.
            retry: How often it is tried when it raises; once if None.
            timeout: The seconds that an attempt may take. On the event loop it
                is then cancelled; a process is killed. A thread is asked to stop
                (``job.cancelled``), and its job goes on until it does.
            run_in: "process": in a process of its own for each attempt, which is killed
                when it is to stop, whatever it does. For plain functions at the top of a
                module; Linux only.
            memory_limit: The bytes of address space that the process may have.
            cpu_limit: The seconds of computing that the process may take.
            max_concurrency: How many of its jobs run at once.
            priority: From -5 to 5: each step up gets twice the turns when
                handlers wait for a thread, a task or a process.
            max_size: The bytes that a file may have. One of its field that has more is
                refused with 413 while it arrives, as is a larger one by ``submit``.
            on_crash: Whether it is tried again when its process has ended while it ran:
                with a durable spool. "retry": at most three times, or as often as
                ``retry`` says. "fail": never.
            on_success: Called with the job once it has succeeded; plain or ``async``.
            on_error: Called with the job and the error once it has failed for good.

        Raises:
            ValueError: An option is out of place, or the name is taken.
            TypeError: The function does not fit.
        """
        selection = Selection.of(
            field, path=path, content_type=content_type, many=many, accept=accept
        )
        options = HandlerOptions(
            start=start,
            retry=retry,
            timeout=timeout,
            run_in=run_in,
            memory_limit=memory_limit,
            cpu_limit=cpu_limit,
            max_concurrency=max_concurrency,
            priority=priority,
            max_size=max_size,
            on_crash=on_crash,
            on_success=on_success,
            on_error=on_error,
        )

        def register(function: Callable[..., Any]) -> AnyHandler:
            handler: AnyHandler = Handler(
                function,
                name=name,
                selection=selection,
                many=many,
                options=options,
                history=self._history,
                hooks=self._hooks,
                publish=self._publish,
                keep=self._keep,
            )
            if handler.name in self._handlers:
                raise ValueError(f"A handler {handler.name!r} is registered: give one a name=.")
            self._handlers[handler.name] = handler
            if selection is not None and max_size is not None:
                self._rules.append(FileRule(selection.files, max_size))
            return handler

        return register

    def _check_names(self) -> None:
        """See that processes would find the functions that they are to run.

        Raises:
            TypeError: One would not.
        """
        for handler in self._handlers.values():
            handler._check_name()
