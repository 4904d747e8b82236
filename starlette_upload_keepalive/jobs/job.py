"""A job: one run-to-be of one handler on one upload, or on all files of a field."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from contextvars import Context
from datetime import datetime, timedelta, timezone
from typing import Any, Generic, Literal, TypeVar

import anyio
from anyio.lowlevel import checkpoint

from starlette_upload_keepalive.events import (
    JobCancelled,
    JobDelayed,
    JobDiscarded,
    JobEvent,
    JobFailed,
    JobReleased,
    JobStarted,
    JobSubmitted,
    JobSucceeded,
)
from starlette_upload_keepalive.files.owner import JOB
from starlette_upload_keepalive.files.upload import Origin, Upload, let_go_of_all

from .arguments import Arguments
from .error_text import MAX_ERROR_LENGTH, described
from .job_state import DONE, JobState, Progress
from .spool import ClaimedJob
from .work import JobRunner, Work

R = TypeVar("R")
E = TypeVar("E", bound=JobEvent)

StopReason = Literal["asked", "shutdown", "timeout"]

# Whether a job that stops is tried again, is lost, or was to end.
_WEIGHT: dict[StopReason, int] = {"timeout": 0, "shutdown": 1, "asked": 2}


class Job(Generic[R]):
    """One run of a handler: its state, its progress and its result.

    Attributes:
        id: 32 random hex digits.
        handler: The handler's name.
        field: The form field that the upload came in, if it did.
        filenames: What the client called the files.
        parent_id: The job whose handler submitted it, if one did.
        state: Where the job stands.
        attempt: How often its handler has been started.
        created_at: When it was made (UTC).
        started_at: When its last attempt began, if one did (UTC).
        delayed_until: When its next attempt is due, if it waits for one (UTC).
        finished_at: When it was done, if it is (UTC).
        progress: What the handler told last, if it did.
        result: What the handler returned, if it did (JSON).
        error: What the handler raised last, if it did: the type and the message,
            of which at most 4,096 characters. Of `Discard`, the reason.
    """

    # No `vars`: FastAPI would answer with them, arguments and all, for an endpoint that returns
    # the job instead of its id.
    __slots__ = (
        "__weakref__",
        "_arguments",
        "_began",
        "_context",
        "_crashes",
        "_done_event",
        "_failures",
        "_held_by",
        "_kept",
        "_on_done",
        "_runner",
        "_stop_reason",
        "_stop_seen",
        "_thread_ended",
        "_uploads",
        "_waiting_since",
        "_work",
        "attempt",
        "created_at",
        "delayed_until",
        "error",
        "field",
        "filenames",
        "finished_at",
        "handler",
        "id",
        "parent_id",
        "progress",
        "result",
        "started_at",
        "state",
    )

    def __init__(
        self,
        work: Work,
        uploads: Sequence[Upload],
        arguments: Arguments,
        *,
        context: Context,
        on_done: Callable[[Job[Any]], bool],
        parent_id: str | None = None,
        job_id: str | None = None,
    ) -> None:
        self.id: str = job_id or os.urandom(16).hex()
        self._work: Work = work
        self.handler: str = work.name
        self.field: str | None = uploads[0].field_name
        self.filenames: Sequence[str | None] = [upload.filename for upload in uploads]
        self.parent_id: str | None = parent_id
        self.state: JobState = JobState.STAGED
        self.attempt: int = 0
        self._failures: int = 0
        self._crashes: int = 0
        self._kept: bool = False  # by a spool, as a job of ours
        self.created_at: datetime = _now()
        self.started_at: datetime | None = None
        self.delayed_until: datetime | None = None
        self.finished_at: datetime | None = None
        self.progress: Progress | None = None
        self.result: R | None = None
        self.error: str | None = None
        self._arguments: Arguments = arguments
        self._context: Context = context
        self._stop_reason: StopReason | None = None
        self._stop_seen: bool = False
        self._thread_ended: threading.Event | None = None  # that of its last attempt
        self._waiting_since: float = time.monotonic()
        self._began = self._waiting_since
        self._held_by: Callable[[], None] | None = None
        self._runner: JobRunner | None = None
        self._on_done = on_done
        self._done_event: anyio.Event | None = None
        self._uploads: list[Upload] = []
        self._own(uploads)

    @property
    def done(self) -> bool:
        """Whether nothing more will come of it."""
        return self.state in DONE

    async def wait(self) -> Job[R]:
        """Wait until the job is done.

        Returns:
            The job itself.

        Raises:
            WouldDeadlock: The job starts only after the request that asks. A
                task of asyncio's own (``gather``, ``wait_for`` before Python
                3.12) or of ``from_thread.run`` is not known to belong to the
                request, and waits in vain if the request waits for it.
            RuntimeError: The job runs in another event loop.

        Cancellation: the job goes on.
        """
        if self.done:
            await checkpoint()
            return self
        if self._runner is not None and not self._runner.in_this_loop:
            raise RuntimeError(
                f"The job {self.id} runs in another event loop: wait there, or look at its state."
            )
        if self._held_by is not None:
            self._held_by()
        if self._done_event is None:
            self._done_event = anyio.Event()
        await self._done_event.wait()
        return self

    def __repr__(self) -> str:
        return f"<Job {self.id} of {self.handler}, {self.state.value}>"

    # What happens to a job

    def _wait_for_turn(self) -> None:
        """It waits for a free thread, task or process."""
        self.state = JobState.WAITING
        self._stop_reason, self._stop_seen = None, False
        self.delayed_until = None
        self._waiting_since = time.monotonic()

    def _begin(self) -> AbstractContextManager[None]:
        """Its handler starts. Returns what the hooks want around it; entering tells them."""
        self.state = JobState.RUNNING
        self.attempt += 1
        self.progress = None
        self.started_at = _now()
        self._began = time.monotonic()
        hooks = self._work.hooks
        if not hooks.want(JobStarted):
            return nullcontext()
        waited_seconds = self._began - self._waiting_since
        return hooks.around(self._event(JobStarted, waited_seconds=waited_seconds))

    def _stop(self, reason: StopReason) -> None:
        """Ask its handler to stop. The weightiest reason counts."""
        if self._stop_reason is None or _WEIGHT[reason] > _WEIGHT[self._stop_reason]:
            self._stop_reason = reason

    def _sees_stop(self) -> bool:
        """Tell its handler whether it is asked to stop."""
        if self._stop_reason is None:
            return False
        self._stop_seen = True
        return True

    def _note(self, progress: Progress) -> None:
        """Its handler tells how far it is."""
        self.progress = progress

    def _delay(self, seconds: float, error: BaseException) -> None:
        """Its handler raised, and is tried again later."""
        self.state = JobState.DELAYED
        self.error = described(error)
        self.delayed_until = _now() + timedelta(seconds=seconds)
        self._tell(JobDelayed, delay_seconds=seconds, ran_seconds=self._ran_seconds, error=error)

    def _succeed(self, result: R) -> None:
        """Its handler returned."""
        self.result = result
        self.error = None
        self._finish(JobState.SUCCEEDED)
        self._tell(JobSucceeded, ran_seconds=self._ran_seconds)

    def _fail(self, error: BaseException) -> None:
        """Its handler raised."""
        self.error = described(error)
        self._finish(JobState.FAILED)
        self._tell(JobFailed, ran_seconds=self._ran_seconds, error=error)

    def _cancel(
        self,
        reason: Literal["asked", "shutdown"],
        *,
        thread_goes_on: bool = False,
        error: BaseException | None = None,
    ) -> None:
        """It will not be finished. Its last attempt may have raised."""
        self._stop(reason)  # a thread may be at work
        if error is not None:
            self.error = described(error)
        self._finish(JobState.CANCELLED)
        self._tell(JobCancelled, reason=reason, thread_goes_on=thread_goes_on, error=error)

    def _give_up(self, reason: str) -> None:
        """Its handler gave up on it."""
        self.error = reason[:MAX_ERROR_LENGTH]
        self._discard(reason)

    def _discard(self, reason: str) -> None:
        """It is not to run."""
        self._finish(JobState.DISCARDED)
        self._tell(JobDiscarded, reason=reason)

    def _run_again(self) -> None:
        """It failed, and is to be run once more."""
        self.state = JobState.STAGED
        self._failures = 0
        self.finished_at = self.error = self.progress = self._done_event = None
        self._context.copy().run(self._tell, JobSubmitted)

    def _tell(self, kind: type[E], **told: Any) -> None:
        """Tell the hooks what happened to it.

        Args:
            kind: The event.
            told: What it tells besides what each of them does.
        """
        hooks = self._work.hooks
        if hooks.want(kind):
            hooks.tell(self._event(kind, **told))

    # In a spool

    def _stands(self, claimed: ClaimedJob) -> None:
        """It was claimed from a spool, where it stood like this."""
        self._kept = True
        standing = claimed.standing
        self.attempt = standing.attempts
        self._failures, self._crashes = standing.failures, standing.crashes
        self.created_at = datetime.fromtimestamp(claimed.record.created_at, timezone.utc)

    def _park(self) -> None:
        """It waits in the spool, which has its files."""
        self._kept = False
        self._let_go_of_files()

    def _unpark(self, claimed: ClaimedJob) -> None:
        """It was claimed again."""
        self._stands(claimed)
        self._own(claimed.uploads)

    def _give_back(self, *, thread_goes_on: bool = False) -> None:
        """The app has ended first; its spool has it, and another will run it."""
        self.state = JobState.WAITING
        self._kept = False
        self._let_go()
        self._tell(JobReleased, thread_goes_on=thread_goes_on)

    # Its files

    def _own(self, uploads: Sequence[Upload]) -> None:
        try:
            for upload in uploads:
                self._uploads.append(upload._share(f"{JOB} {self.id}"))
        except BaseException:
            self._let_go()
            raise

    @property
    def _has_uploads(self) -> bool:
        """Whether it still owns its files."""
        return bool(self._uploads)

    def _open_uploads(self, origin: Origin) -> list[Upload]:
        """Make uploads for one attempt, each at its first byte. Whoever asks closes them."""
        opened: list[Upload] = []
        owner = f"attempt {self.attempt} of {JOB} {self.id}"
        try:
            for upload in self._uploads:
                lent = upload._share(owner, origin=origin, lend=True)
                opened.append(lent)
        except BaseException:
            let_go_of_all(opened)
            raise
        return opened

    def _let_go(self) -> None:
        """Let go of its files, and of what its request had in its context."""
        self._context = Context()
        self._let_go_of_files()

    def _let_go_of_files(self) -> None:
        uploads, self._uploads = self._uploads, []
        let_go_of_all(uploads)

    # Behind them

    @property
    def _ran_seconds(self) -> float:
        return time.monotonic() - self._began

    def _finish(self, state: JobState) -> None:
        """It is done; whoever waits is told. Called in the event loop."""
        self.state = state
        self.finished_at = _now()
        self.delayed_until = None
        self._held_by = None
        try:
            if not self._on_done(self):
                self._let_go()
        finally:
            if self._done_event is not None:
                self._done_event.set()

    def _event(self, kind: type[E], **told: Any) -> E:
        return kind(
            job_id=self.id,
            handler=self.handler,
            field=self.field,
            filenames=tuple(self.filenames),
            attempt=self.attempt,
            parent_id=self.parent_id,
            **told,
        )


def _now() -> datetime:
    return datetime.now(timezone.utc)
