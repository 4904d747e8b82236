"""Uploads: the configuration, the handlers and the runner of one app."""

from __future__ import annotations

import logging
import math
import os
import tempfile
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, cast

import anyio
from starlette.types import Message, Receive, Scope

from starlette_upload_keepalive.quantities import MIB, check_least

from .admission import Admission
from .events import Hook, Hooks
from .exceptions import NotRunning, StorageError
from .files.disk_errors import told_to_the_client
from .files.storage import Storage
from .files.threads import WorkerThreads
from .intake import Intake, Taker
from .jobs.event_log import log_events
from .jobs.handler import Handler
from .jobs.history import JobHistory
from .jobs.job import Job
from .jobs.keeper import Keeper
from .jobs.known_jobs import Jobs
from .jobs.options import RunIn
from .jobs.owned_upload import owned_uploads, warn_of_owned
from .jobs.registry import HandlerRegistry
from .jobs.runner import Runner
from .jobs.spool import Spool
from .jobs.stage import NOT_RUNNING
from .jobs.stats import Stats
from .limits.field_limits import FieldLimits
from .limits.limits import Limits

# They wait for the disk: many at once share its time.
_SPOOL_THREADS = 64

AnyHandler = Handler[Any, Any, Any, Any]

logger: logging.Logger = logging.getLogger("starlette_upload_keepalive")


class Uploads(HandlerRegistry):
    """The uploads of one app: its configuration, its handlers, and what runs them.

    It lives as long as the app. Give it to the middleware, which enters
    `running` for the app's lifespan.

    Args:
        memory_max_size: The size in bytes up to which a file stays in memory.
        memory_budget: The bytes that all files in memory may take together; a
            file that finds too little left goes to disk, whatever its size.
        directory: Where larger files lie, and those of `Upload.as_path`; the
            system's temporary directory if None.
        io_threads: How many worker threads read and write files at once.
        sha256: Hash files that are too large for memory while they arrive, so
            that ``await upload.sha256()`` need not read them again.
        handler_threads: How many plain functions run at once, each in a thread.
        handler_tasks: How many ``async`` functions run at once.
        handler_processes: How many functions with ``run_in="process"`` run at once; as
            many as there are CPUs if None.
        grace_period: The seconds that jobs get to finish at shutdown; in the
            last tenth of it, and the last 3 at most, threads are asked to stop.
            Keep it below the server's own limit, which is 60 for hypercorn.
        job_history: How many jobs that are done are remembered.
        keep_failed: How many of those that failed keep their files, for
            ``uploads.jobs.retry``. They are let go of at shutdown.
        limits: How much may come in, over all requests; the defaults if None.
        fields: What the files of single form fields may be.
        spool: Where accepted jobs and their bytes are kept until they are done, such as
            a `DirectorySpool`, so that they outlive the process; in memory if None.
        hooks: Who is told what happens to jobs; the log by default. Name
            `log_events` among them to keep it.

    Raises:
        ValueError: A number is out of its range, or the directory is none.
        TypeError: The hooks are no sequence, or one can't be called.

    Attributes:
        jobs: The known jobs: ``uploads.jobs.get(id)``.
        storage: Where the files are, for ``Upload.from_path(..., storage=...)``.
    """

    def __init__(
        self,
        *,
        memory_max_size: int = MIB,
        memory_budget: int = 64 * MIB,
        directory: str | Path | None = None,
        io_threads: int = 8,
        sha256: bool = False,
        handler_threads: int = 8,
        handler_tasks: int = 100,
        handler_processes: int | None = None,
        grace_period: float = 30.0,
        job_history: int = 1000,
        keep_failed: int = 0,
        limits: Limits | None = None,
        fields: Sequence[FieldLimits] = (),
        spool: Spool | None = None,
        hooks: Sequence[Hook] = (log_events,),
    ) -> None:
        check_least("handler_threads", handler_threads, 1)
        check_least("handler_tasks", handler_tasks, 1)
        if handler_processes is None:
            handler_processes = os.cpu_count() or 1
        check_least("handler_processes", handler_processes, 1)
        check_least("job_history", job_history, 0, " jobs")
        check_least("keep_failed", keep_failed, 0, " jobs")
        if not isinstance(spool, (Spool, type(None))):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(
                f"spool must be a spool, such as DirectorySpool({str(spool)!r}), not {spool!r}."
            )
        if spool is not None and keep_failed:
            raise ValueError("keep_failed is for jobs in memory: a spool keeps all that fail.")
        if not 0 <= grace_period < math.inf:
            raise ValueError(f"grace_period must be 0 seconds or more, not {grace_period!r}.")
        limits = Limits() if limits is None else limits
        if not isinstance(limits, Limits):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"limits must be a Limits, such as Limits(), not {limits!r}.")
        if not _are_field_limits(fields):
            raise TypeError(f"fields must be a list of FieldLimits, not {fields!r}.")
        if directory is None:
            # It is found by writing a file: not to be tried first with no descriptor left.
            with suppress(FileNotFoundError):  # there is none; small files need none
                tempfile.gettempdir()
        self.storage: Storage = Storage(
            memory_max_size=memory_max_size,
            memory_budget=memory_budget,
            directory=directory,
            io_threads=io_threads,
            sha256=sha256,
            max_open_files=limits.max_open_files,
            max_disk_bytes=limits.max_disk_bytes,
            min_free_space=limits.min_free_space,
        )
        keep = None if spool is None else self._keep_jobs
        super().__init__(
            JobHistory(job_history, keep_failed), Hooks(hooks), self._publish_job, keep
        )
        self.jobs: Jobs = Jobs(self._history, lambda: self._runner, kept=spool is not None)
        self._spool = spool
        self._spool_threads = WorkerThreads(_SPOOL_THREADS)
        self._keeper = (
            None
            if spool is None
            else Keeper(spool, self._spool_threads, self._handlers, self._history, self._keep_jobs)
        )
        self._threads = WorkerThreads(handler_threads)
        self._callback_threads = WorkerThreads(handler_threads)
        self._places: Mapping[RunIn, int] = {
            "thread": handler_threads,
            "loop": handler_tasks,
            "process": handler_processes,
        }
        self._grace_period = grace_period
        self._runner: Runner | None = None
        self._admission = Admission(
            limits, self.storage, self._pending_jobs, kept=spool is not None
        )
        self._rules += [each.rule for each in fields]
        self._taker = Taker(self._rules, self._stage_selected)
        self._intakes: set[Intake] = set()
        self._told_no_runner = False

    # The app's lifetime

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None, None]:
        """Run jobs for as long as the block lasts.

        The middleware enters it for the lifespan. Enter it yourself where no
        lifespan is sent: in a script, a worker, a mounted app. Entered again
        while it lasts, it is shared; the outermost block drains.

        Raises:
            RuntimeError: It was entered in another event loop, and lasts.
            TypeError: A handler is to run in a process, which would not find it.

        Cancellation: jobs that run are cancelled too, and logged as lost.
        """
        if self._runner is not None:
            if not self._runner.in_this_loop:
                raise RuntimeError("These uploads run in another event loop: make one per app.")
            yield
            return
        self._check_names()
        try:
            async with self._kept() as keeper:
                runner = self._runner = self._made_runner(keeper)
                try:
                    async with runner.running():
                        yield
                finally:
                    self._runner = None
                    self._history.let_go()
                    self.storage.closer.drain()
        finally:
            warn_of_owned(self.stats().owned)

    def _made_runner(self, keeper: Keeper | None) -> Runner:
        return Runner(
            # Its turns see to the limit. A thread that was left behind takes no other's place.
            threads=WorkerThreads(math.inf),
            callback_threads=self._callback_threads,
            places=self._places,
            grace_period=self._grace_period,
            expects_more=self._expects_jobs,
            keeper=keeper,
        )

    @asynccontextmanager
    async def _kept(self) -> AsyncGenerator[Keeper | None, None]:
        """Be an owner of the spool for as long as the block lasts, if there is one."""
        spool, threads = self._spool, self._spool_threads
        if spool is None:
            yield None
            return
        await threads.run(partial(spool.open, self.storage))
        try:
            yield self._keeper
        finally:
            with anyio.CancelScope(shield=True):
                await threads.run(spool.close)

    async def drain(self) -> None:
        """Let all jobs finish, and cancel those that have not after the grace period.

        Cancellation: the jobs go on; threads that were asked to stop by then still are.
        """
        if self._runner is not None:
            await self._runner.drain()

    def _drained(self, receive: Receive) -> Receive:
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
        blobs = self.storage.blobs
        executor = None if self._runner is None else self._runner.executor
        oldest = None if executor is None else executor.oldest_waiting
        return Stats(
            open_uploads=len(blobs),
            memory_bytes=self.storage.memory.used,
            disk_bytes=sum(blob.size for blob in blobs if not blob.in_memory),
            jobs=self._history.counts(),
            oldest_waiting_seconds=None if oldest is None else time.monotonic() - oldest,
            busy_threads=0 if executor is None else executor.places_taken("thread"),
            busy_tasks=0 if executor is None else executor.places_taken("loop"),
            busy_processes=0 if executor is None else executor.places_taken("process"),
            look=partial(owned_uploads, self.storage, self.jobs.get),
        )

    # A request's lifetime

    def _open_intake(self, scope: Scope) -> Intake:
        """Begin to take in what a request brings. The caller ends it."""
        intake = Intake(
            self._admission,
            scope["method"],
            route_path(scope),
            self._taker,
            submits=bool(self._handlers),
        )
        self._intakes.add(intake)
        return intake

    def _end_intake(self, intake: Intake) -> list[Job[Any]]:
        """Release the accepted jobs of a request and close its files. Never waits.

        Returns:
            The accepted jobs that no runner took.
        """
        self._intakes.discard(intake)
        try:
            return intake.end()
        finally:
            if self._runner is not None:
                self._runner.notice()

    def _pending_jobs(self) -> int:
        """How many jobs are not done, here or in the spool."""
        return max(self._history.pending, 0 if self._spool is None else self._spool.backlog)

    def _stage_selected(self, intake: Intake, path: str) -> None:
        """Stage the jobs of all handlers that run by themselves for a form's files."""
        for handler in self._handlers.values():
            handler._stage_selected(intake.uploads, path, intake.stage, intake.context)

    async def _run_here(self, jobs: Sequence[Job[Any]]) -> None:
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
        runner = Runner(
            threads=self._threads,  # shared with other requests
            callback_threads=self._callback_threads,
            places=self._places,
            grace_period=self._grace_period if cancelled else None,
            retries=False,  # the client would have to wait for them
        )
        with anyio.CancelScope(shield=cancelled):
            async with runner.running():
                for job in jobs:
                    runner.publish(job)

    def _expects_jobs(self) -> bool:
        """Whether requests hold accepted jobs: some servers send the shutdown before they end."""
        return any(intake.stage.holds_accepted for intake in self._intakes)

    def _publish_job(self, job: Job[Any]) -> bool:
        if self._runner is not None and self._runner.publish(job):
            return True
        if self._keeper is None or not job._kept:
            return False
        # The app is shutting down, or has ended, and the job is on the disk: it is run later.
        self._keeper.release_in_background(job)
        job._give_back()
        return True

    async def _keep_accepted(self, intake: Intake) -> StorageError | None:
        """Have what a request has accepted on the disk, before its answer starts.

        Returns:
            What to answer instead, if it can't be kept; then no job is left.
        """
        try:
            with told_to_the_client():
                for keep, jobs in intake.stage.take_unkept():
                    await keep(jobs)
        except (StorageError, NotRunning) as error:
            logger.exception("What %s has submitted could not be kept.", intake.request)
            intake.stage.reject("it could not be kept in the spool")
            return error if isinstance(error, StorageError) else StorageError(503)
        return None

    async def _keep_jobs(self, jobs: Sequence[Job[Any]]) -> None:
        if self._runner is None or self._runner.keeper is None:
            raise NotRunning(NOT_RUNNING)
        await self._runner.keeper.accept(jobs)


def _are_field_limits(given: Any) -> bool:
    return isinstance(given, Sequence) and all(
        isinstance(each, FieldLimits) for each in cast("Sequence[object]", given)
    )


def route_path(scope: Scope) -> str:
    """The path below the point where the app is mounted, as its routes see it."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "").rstrip("/")
    return path[len(root) :] if root and path.startswith(root + "/") else path
