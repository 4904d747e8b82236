"""A job: one run-to-be of one handler on one upload, or on all files of a field."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Generator, Mapping, Sequence
from contextvars import Context
from dataclasses import dataclass, field
from datetime import datetime, timezone
from enum import Enum
from typing import Any, Generic, Literal, TypeVar

import anyio
from anyio.lowlevel import checkpoint

from .exceptions import ResultTooLarge
from .storage import KIB
from .upload import Upload, let_go_of_all

R = TypeVar("R")

RunIn = Literal["thread", "loop"]

MAX_RESULT_SIZE = 64 * KIB
MAX_ERROR_LENGTH = 4 * KIB


class JobState(str, Enum):
    """Where a job stands."""

    STAGED = "staged"
    """It waits for its request to be accepted and to end."""
    WAITING = "waiting"
    """It waits for a free thread or task."""
    RUNNING = "running"
    """Its handler is at work."""
    SUCCEEDED = "succeeded"
    """Its handler has returned."""
    FAILED = "failed"
    """Its handler has raised."""
    CANCELLED = "cancelled"
    """The app was shut down first."""
    DISCARDED = "discarded"
    """Its request was not accepted, or vetoed it."""


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


@dataclass(frozen=True)
class Arguments:
    """What a handler is called with besides the upload: JSON, whatever the spool."""

    positional: Sequence[Any] = ()
    named: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @classmethod
    def checked(cls, positional: Sequence[Any], named: Mapping[str, Any]) -> Arguments:
        """Copy arguments by way of JSON.

        Raises:
            TypeError: One of them is not JSON.
        """
        if not positional and not named:
            return cls()
        return cls(*through_json([positional, named], "The arguments of a job"))


class Job(Generic[R]):
    """One run of a handler: its state, its progress and its result.

    Attributes:
        id: 32 random hex digits.
        handler: The handler's name.
        field: The form field that the upload came in, if it did.
        filenames: What the client called the files.
        state: Where the job stands.
        created_at: When it was made (UTC).
        started_at: When its handler began, if it did (UTC).
        finished_at: When it was done, if it is (UTC).
        progress: What the handler told last, if it did.
        result: What the handler returned, if it did (JSON).
        error: What the handler raised, if it did: the type and the message, of
            which at most 4,096 characters.
    """

    # No `vars`: FastAPI would answer with them, arguments and all, for an endpoint that returns
    # the job instead of its id.
    __slots__ = (
        "__weakref__",
        "_done_event",
        "_on_done",
        "arguments",
        "cancel_requested",
        "context",
        "created_at",
        "error",
        "field",
        "filenames",
        "finished_at",
        "handler",
        "held_by",
        "id",
        "invoke",
        "progress",
        "result",
        "run_in",
        "started_at",
        "state",
        "uploads",
    )

    def __init__(
        self,
        handler: str,
        uploads: Sequence[Upload],
        arguments: Arguments,
        *,
        context: Context,
        run_in: RunIn,
        invoke: Callable[[Job[Any]], Any],
        on_done: Callable[[Job[Any]], None],
    ) -> None:
        self.id = uuid.uuid4().hex
        self.handler = handler
        self.field = uploads[0].field_name
        self.filenames = [upload.filename for upload in uploads]
        self.state = JobState.STAGED
        self.created_at = _now()
        self.started_at: datetime | None = None
        self.finished_at: datetime | None = None
        self.progress: Progress | None = None
        self.result: R | None = None
        self.error: str | None = None
        self.arguments = arguments
        self.context = context
        self.run_in: RunIn = run_in
        self.invoke = invoke
        self.cancel_requested = False
        self.uploads: list[Upload] = []
        try:
            for upload in uploads:
                self.uploads.append(upload._share(f"the job {self.id}"))
        except BaseException:
            self.close_uploads()
            raise
        self.held_by: Callable[[], None] | None = None
        self._on_done = on_done
        self._done_event: anyio.Event | None = None

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

    def begin(self) -> None:
        """Its handler starts."""
        self.state = JobState.RUNNING
        self.started_at = _now()

    def fail(self, error: BaseException) -> None:
        """Its handler raised."""
        message = str(error)[:MAX_ERROR_LENGTH]
        self.error = f"{type(error).__name__}: {message}" if message else type(error).__name__
        self.finish(JobState.FAILED)

    def finish(self, state: JobState) -> None:
        """It is done; whoever waits is told. Called in the event loop."""
        self.state = state
        self.finished_at = _now()
        self.held_by = None
        self.context = Context()  # the history need not keep what the request had there
        if self._done_event is not None:
            self._done_event.set()
        self._on_done(self)

    def close_uploads(self) -> None:
        """Let go of its files. Again does nothing."""
        uploads, self.uploads = self.uploads, []
        let_go_of_all(uploads)


class JobContext:
    """What a handler knows of its job; annotate its second parameter with it.

    Attributes:
        id: The job's id.
    """

    def __init__(self, job: Job[Any]) -> None:
        self._job = job
        self.id = job.id

    @property
    def cancelled(self) -> bool:
        """Whether the app asks the handler to stop: it is shutting down.

        A handler in a thread can't be stopped from outside, so let it look here
        now and then. One on the event loop is cancelled.
        """
        return self._job.cancel_requested

    def progress(self, fraction: float, message: str = "") -> Checkpoint:
        """Tell how far the job is. Takes effect at once.

        Args:
            fraction: From 0 to 1.
            message: What it is doing, for people.

        Returns:
            Something to await on the event loop, so that others get a turn. In
            a thread, just call.

        Raises:
            ValueError: The fraction is not from 0 to 1.
        """
        if not 0 <= fraction <= 1:
            raise ValueError(f"fraction must be from 0 to 1, not {fraction}.")
        self._job.progress = Progress(fraction, message)
        return Checkpoint()


class Checkpoint:
    """Lets others have a turn when awaited, and need not be."""

    def __await__(self) -> Generator[Any, Any, None]:
        return checkpoint().__await__()


def through_json(value: Any, what: str, max_size: int | None = None) -> Any:
    """Copy a value by way of JSON, as every spool would.

    Args:
        value: The value.
        what: What it is, for the error.
        max_size: The most bytes of JSON.

    Raises:
        TypeError: The value is not JSON.
        ResultTooLarge: It is more than that many bytes.
    """
    try:
        text = json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{what} must be JSON (None, bool, int, float, str, list, dict): {error}."
        ) from error
    if max_size is not None and len(text) > max_size:
        raise ResultTooLarge(
            f"{what} is {len(text)} bytes of JSON, more than {max_size}: "
            "store it elsewhere and return where it is."
        )
    return json.loads(text)


def _now() -> datetime:
    return datetime.now(timezone.utc)
