"""A job: one run-to-be of one handler on one upload, or on all files of a field."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from contextvars import Context
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from enum import Enum
from typing import Any, Generic, Literal, Protocol, TypeVar

import anyio
from anyio.lowlevel import checkpoint

from .arguments import Arguments
from .events import (
    Hooks,
    JobCancelled,
    JobDelayed,
    JobDiscarded,
    JobEvent,
    JobFailed,
    JobStarted,
    JobSubmitted,
    JobSucceeded,
)
from .options import HandlerOptions, RunIn
from .storage import KIB
from .upload import Origin, Upload, let_go_of_all

R = TypeVar("R")
E = TypeVar("E", bound=JobEvent)

StopReason = Literal["asked", "shutdown", "timeout"]

# Whether a job that stops is tried again, is lost, or was to end.
_WEIGHT: dict[StopReason, int] = {"timeout": 0, "shutdown": 1, "asked": 2}

MAX_ERROR_LENGTH = 4 * KIB


class JobState(str, Enum):
    """Where a job stands."""

    STAGED = "staged"
    """It waits for its request to be accepted and to end."""
    WAITING = "waiting"
    """It waits for a free thread or task."""
    RUNNING = "running"
    """Its handler is at work."""
    DELAYED = "delayed"
    """It waits for the time of its next attempt."""
    SUCCEEDED = "succeeded"
    """Its handler has returned."""
    FAILED = "failed"
    """Its handler has raised, and is not tried again."""
    CANCELLED = "cancelled"
    """It was cancelled, or the app was shut down first."""
    DISCARDED = "discarded"
    """Its request was not accepted or vetoed it, or its handler gave up on it."""


DONE = frozenset(
    {JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.DISCARDED},
)


@dataclass(frozen=True)
class Progress:
    """How far a job is.

    Attributes:
        fraction: From 0 to 1.
        message: What it is doing, for people.
    """

    fraction: float
    message: str = ""


class Work(Protocol):
    """What a job runs: a handler, as the runner sees it."""

    name: str
    run_in: RunIn
    options: HandlerOptions
    hooks: Hooks

    def invoke(self, job: Job[Any], uploads: list[Upload]) -> Any:
        """Call the function."""


class JobRunner(Protocol):
    """What a job was published to."""

    def cancel(self, job: Job[Any]) -> bool:
        """End the job; False if it is done."""
        ...

    def hurry(self, job: Job[Any]) -> bool:
        """Let it wait for its turn, if it is delayed; False if it is not."""
        ...


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
        "_began",
        "_done_event",
        "_on_done",
        "_uploads",
        "arguments",
        "attempt",
        "context",
        "created_at",
        "delayed_until",
        "error",
        "failures",
        "field",
        "filenames",
        "finished_at",
        "handler",
        "held_by",
        "id",
        "parent_id",
        "progress",
        "result",
        "runner",
        "started_at",
        "state",
        "stop_reason",
        "stop_seen",
        "waiting_since",
        "work",
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
    ) -> None:
        self.id = uuid.uuid4().hex
        self.work = work
        self.handler = work.name
        self.field = uploads[0].field_name
        self.filenames = [upload.filename for upload in uploads]
        self.parent_id = parent_id
        self.state = JobState.STAGED
        self.attempt = 0
        self.failures = 0
        self.created_at = _now()
        self.started_at: datetime | None = None
        self.delayed_until: datetime | None = None
        self.finished_at: datetime | None = None
        self.progress: Progress | None = None
        self.result: R | None = None
        self.error: str | None = None
        self.arguments = arguments
        self.context = context
        self.stop_reason: StopReason | None = None
        self.stop_seen = False
        self.waiting_since = self._began = time.monotonic()
        self.held_by: Callable[[], None] | None = None
        self.runner: JobRunner | None = None
        self._on_done = on_done
        self._done_event: anyio.Event | None = None
        self._uploads: list[Upload] = []
        try:
            for upload in uploads:
                self._uploads.append(upload._share(f"the job {self.id}"))
        except BaseException:
            self.close_uploads()
            raise

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

        Cancellation: the job goes on.
        """
        if self.done:
            await checkpoint()
            return self
        if self.held_by is not None:
            self.held_by()
        if self._done_event is None:
            self._done_event = anyio.Event()
        await self._done_event.wait()
        return self

    def __repr__(self) -> str:
        return f"<Job {self.id} of {self.handler}, {self.state.value}>"

    # What happens to a job

    def submitted(self) -> None:
        """It was made and is known."""
        self.tell(JobSubmitted)

    def wait_for_turn(self) -> None:
        """It waits for a free thread or task."""
        self.state = JobState.WAITING
        self.stop_reason, self.stop_seen = None, False
        self.delayed_until = None
        self.waiting_since = time.monotonic()

    def begin(self) -> JobStarted:
        """Its handler starts. Returns what the hooks are to be told."""
        self.state = JobState.RUNNING
        self.attempt += 1
        self.started_at = _now()
        self._began = time.monotonic()
        return self._event(JobStarted, waited_seconds=self._began - self.waiting_since)

    def stop(self, reason: StopReason) -> None:
        """Ask its handler to stop. The weightiest reason counts."""
        if self.stop_reason is None or _WEIGHT[reason] > _WEIGHT[self.stop_reason]:
            self.stop_reason = reason

    def sees_stop(self) -> bool:
        """Tell its handler whether it is asked to stop."""
        if self.stop_reason is None:
            return False
        self.stop_seen = True
        return True

    def delay(self, seconds: float, error: BaseException) -> None:
        """Its handler raised, and is tried again later."""
        self.state = JobState.DELAYED
        self.error = _described(error)
        self.delayed_until = _now() + timedelta(seconds=seconds)
        self.tell(JobDelayed, delay_seconds=seconds, ran_seconds=self._ran_seconds, error=error)

    def succeed(self, result: R) -> None:
        """Its handler returned."""
        self.result = result
        self.error = None
        self._finish(JobState.SUCCEEDED)
        self.tell(JobSucceeded, ran_seconds=self._ran_seconds)

    def fail(self, error: BaseException) -> None:
        """Its handler raised."""
        self.error = _described(error)
        self._finish(JobState.FAILED)
        self.tell(JobFailed, ran_seconds=self._ran_seconds, error=error)

    def cancel(self, reason: Literal["asked", "shutdown"], *, thread_goes_on: bool = False) -> None:
        """It will not be finished."""
        self.stop(reason)  # a thread may be at work
        self._finish(JobState.CANCELLED)
        self.tell(JobCancelled, reason=reason, thread_goes_on=thread_goes_on)

    def give_up(self, reason: str) -> None:
        """Its handler gave up on it."""
        self.error = reason[:MAX_ERROR_LENGTH]
        self.discard(reason)

    def discard(self, reason: str) -> None:
        """It is not to run."""
        self._finish(JobState.DISCARDED)
        self.tell(JobDiscarded, reason=reason)

    def run_again(self) -> None:
        """It failed, and is to be run once more."""
        self.state = JobState.STAGED
        self.failures = 0
        self.finished_at = self.error = self._done_event = None

    def tell(self, kind: type[E], **told: Any) -> None:
        """Tell the hooks what happened to it.

        Args:
            kind: The event.
            told: What it tells besides what each of them does.
        """
        self.work.hooks.tell(self._event(kind, **told))

    # Its files

    @property
    def has_uploads(self) -> bool:
        """Whether it still owns its files."""
        return bool(self._uploads)

    def open_uploads(self, origin: Origin) -> list[Upload]:
        """Make uploads for one attempt, each at its first byte. Whoever asks closes them."""
        opened: list[Upload] = []
        owner = f"attempt {self.attempt} of the job {self.id}"
        try:
            for upload in self._uploads:
                opened.append(upload._share(owner, origin=origin))  # noqa: PERF401 - one may raise
        except BaseException:
            let_go_of_all(opened)
            raise
        return opened

    def close_uploads(self) -> None:
        """Let go of its files. Again does nothing."""
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
        self.held_by = None
        try:
            if not self._on_done(self):
                self.context = Context()  # the history need not keep what the request had there
                self.close_uploads()
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


def _described(error: BaseException) -> str:
    try:
        message = str(error)[:MAX_ERROR_LENGTH]
    except Exception:  # noqa: BLE001 - it is the handler's code, which must harm no other job
        message = ""
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def _now() -> datetime:
    return datetime.now(timezone.utc)
