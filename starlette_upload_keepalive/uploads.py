"""Uploads: the configuration, the handlers and the runner of one app."""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, overload

import anyio
from starlette.types import Message, Receive, Scope

from .handler import Handler, HandlerDecorator, ManyHandlerDecorator, Selection
from .history import JobHistory
from .intake import Intake
from .job import Job, JobState
from .runner import Runner
from .stage import Start
from .storage import MIB, Storage, check_least
from .threads import WorkerThreads

AnyHandler = Handler[Any, Any, Any, Any]

logger = logging.getLogger("starlette_upload_keepalive")


@dataclass(frozen=True)
class Stats:
    """How much is going on.

    Attributes:
        open_blobs: Stored files that somebody owns.
        memory_bytes: The bytes of those that are in memory.
        jobs: How many jobs are in each state; of those that are done, how many ever were.
    """

    open_blobs: int
    memory_bytes: int
    jobs: dict[JobState, int]


class Uploads:
    """The uploads of one app: its configuration, its handlers, and what runs them.

    It lives as long as the app. Give it to the middleware, which enters
    `running` for the app's lifespan.

    Args:
        memory_max_size: The size in bytes up to which a file stays in memory.
        memory_budget: The bytes that all files in memory may take together; a
            file that finds too little left goes to disk, whatever its size.
        directory: Where larger files lie; the system's temporary directory if None.
        io_threads: How many worker threads read and write files at once.
        handler_threads: How many plain functions run at once, each in a thread.
        handler_tasks: How many ``async`` functions run at once.
        grace_period: The seconds that jobs get to finish at shutdown. Keep it
            below the server's own limit, which is 60 for hypercorn.
        job_history: How many jobs that are done are remembered.

    Raises:
        ValueError: A number is out of its range, or the directory is none.

    Attributes:
        jobs: The known jobs: ``uploads.jobs.get(id)``.
    """

    def __init__(
        self,
        *,
        memory_max_size: int = MIB,
        memory_budget: int = 64 * MIB,
        directory: str | Path | None = None,
        io_threads: int = 8,
        handler_threads: int = 8,
        handler_tasks: int = 100,
        grace_period: float = 30.0,
        job_history: int = 1000,
    ) -> None:
        check_least("handler_threads", handler_threads, 1)
        check_least("handler_tasks", handler_tasks, 1)
        check_least("job_history", job_history, 0, " jobs")
        if not 0 <= grace_period < math.inf:
            raise ValueError(f"grace_period must be 0 seconds or more, not {grace_period!r}.")
        self.storage = Storage(
            memory_max_size=memory_max_size,
            memory_budget=memory_budget,
            directory=directory,
            io_threads=io_threads,
        )
        self.jobs = JobHistory(job_history)
        self._handlers: dict[str, AnyHandler] = {}
        self._threads = WorkerThreads(handler_threads)
        self._handler_threads = handler_threads
        self._handler_tasks = handler_tasks
        self._grace_period = grace_period
        self._runner: Runner | None = None
        self._intakes: set[Intake] = set()
        self._told_no_runner = False

    # Handlers

    @overload
    def handler(
        self,
        field: str | None = None,
        *,
        path: str | None = None,
        content_type: str | Sequence[str] = (),
        many: Literal[False] = False,
        accept: Collection[int] = (),
        start: Start = "end",
        name: str | None = None,
    ) -> HandlerDecorator: ...

    @overload
    def handler(
        self,
        field: str | None = None,
        *,
        path: str | None = None,
        content_type: str | Sequence[str] = (),
        many: Literal[True],
        accept: Collection[int] = (),
        start: Start = "end",
        name: str | None = None,
    ) -> ManyHandlerDecorator: ...

    def handler(
        self,
        field: str | None = None,
        *,
        path: str | None = None,
        content_type: str | Sequence[str] = (),
        many: bool = False,
        accept: Collection[int] = (),
        start: Start = "end",
        name: str | None = None,
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

        Raises:
            ValueError: An option is out of place, or the name is taken.
            TypeError: The function does not fit.
        """
        if callable(field):
            raise TypeError("Write @uploads.handler(), with parentheses.")
        selection = None
        if field is not None:
            if isinstance(accept, int):
                raise TypeError(f"accept must be a collection of status codes: {{{accept}}}.")
            content_types = (content_type,) if isinstance(content_type, str) else content_type
            selection = Selection(
                field,
                path=path,
                content_types=tuple(pattern.lower() for pattern in content_types),
                many=many,
                accept=frozenset(accept),
            )
        elif path is not None or content_type or accept:
            raise ValueError(
                "path, content_type and accept choose files to run for without a submit(): "
                "name their form field too."
            )

        def register(function: Callable[..., Any]) -> AnyHandler:
            handler: AnyHandler = Handler(
                function,
                name=name,
                selection=selection,
                many=many,
                start=start,
                history=self.jobs,
                publish=self._publish,
            )
            if handler.name in self._handlers:
                raise ValueError(f"A handler {handler.name!r} is registered: give one a name=.")
            self._handlers[handler.name] = handler
            return handler

        return register

    # The app's lifetime

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None, None]:
        """Run jobs for as long as the block lasts.

        The middleware enters it for the lifespan. Enter it yourself where no
        lifespan is sent: in a script, a worker, a mounted app. Entered again
        while it lasts, it is shared; the outermost block drains.

        Raises:
            RuntimeError: It was entered in another event loop, and lasts.

        Cancellation: jobs that run are cancelled too, and logged as lost.
        """
        if self._runner is not None:
            if not self._runner.in_this_loop:
                raise RuntimeError("These uploads run in another event loop: make one per app.")
            yield
            return
        runner = self._runner = self._new_runner(self._grace_period, self._expects_jobs)
        try:
            async with runner.running():
                yield
        finally:
            self._runner = None
            self.storage.closer.drain()

    async def drain(self) -> None:
        """Let all jobs finish, and cancel those that have not after the grace period.

        Cancellation: the jobs go on.
        """
        if self._runner is not None:
            await self._runner.drain()

    def drained(self, receive: Receive) -> Receive:
        """Wrap a lifespan's ``receive``: drain before the app learns of the shutdown.

        The handlers then still have the app's pools and clients. No job is
        taken afterwards.
        """

        async def receive_drained() -> Message:
            message = await receive()
            if message["type"] == "lifespan.shutdown" and self._runner is not None:
                await self._runner.stop()
            return message

        return receive_drained

    def stats(self) -> Stats:
        """Tell how much is going on."""
        return Stats(self.storage.open_blobs, self.storage.memory.used, self.jobs.counts())

    # A request's lifetime

    def open_intake(self, scope: Scope) -> Intake:
        """Begin to take in what a request brings. The caller ends it."""
        intake = Intake(self.storage, scope["method"], route_path(scope), self.stage_selected)
        self._intakes.add(intake)
        return intake

    def end_intake(self, intake: Intake) -> list[Job[Any]]:
        """Release the accepted jobs of a request and close its files. Never waits.

        Returns:
            The accepted jobs that no runner took.
        """
        self._intakes.discard(intake)
        try:
            return intake.end()
        finally:
            if self._runner is not None and self._runner.in_this_loop:
                self._runner.notice()

    def stage_selected(self, intake: Intake, path: str) -> None:
        """Stage the jobs of all handlers that run by themselves for a form's files."""
        for handler in self._handlers.values():
            handler.stage_selected(intake, path)

    async def run_here(self, jobs: Sequence[Job[Any]]) -> None:
        """Run jobs to their end without a lifespan, in the request's own call.

        Cancellation: the jobs are cancelled and logged as lost. If the request
        is cancelled already, they get the grace period.
        """
        if not self._told_no_runner:
            self._told_no_runner = True
            logger.warning(
                "No lifespan was sent to the uploads of these handlers, so their jobs run within "
                "the request. Give them to the middleware (uploads=uploads) and let the server "
                "send lifespan events, or enter `async with uploads.running():`."
            )
        cancelled = anyio.current_effective_deadline() == -math.inf
        runner = self._new_runner(self._grace_period if cancelled else None)
        with anyio.CancelScope(shield=cancelled):
            async with runner.running():
                for job in jobs:
                    runner.publish(job)

    def _new_runner(
        self, grace_period: float | None, expects_more: Callable[[], bool] = lambda: False
    ) -> Runner:
        return Runner(
            threads=self._threads,
            max_threads=self._handler_threads,
            max_tasks=self._handler_tasks,
            grace_period=grace_period,
            expects_more=expects_more,
        )

    def _expects_jobs(self) -> bool:
        """Whether requests hold accepted jobs: some servers send the shutdown before they end."""
        return any(intake.stage.holds_accepted for intake in self._intakes)

    def _publish(self, job: Job[Any]) -> bool:
        return self._runner is not None and self._runner.publish(job)


def route_path(scope: Scope) -> str:
    """The path below the point where the app is mounted, as its routes see it."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "").rstrip("/")
    return path[len(root) :] if root and path.startswith(root + "/") else path
