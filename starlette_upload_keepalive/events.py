"""What happens to jobs, told to hooks: for logs, metrics and traces."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Generator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Literal, TypeVar

__all__ = [
    "CallbackFailed",
    "Hook",
    "JobCancelled",
    "JobDelayed",
    "JobDiscarded",
    "JobEvent",
    "JobFailed",
    "JobOverran",
    "JobReleased",
    "JobStarted",
    "JobSubmitted",
    "JobSucceeded",
    "ignores",
]

logger: logging.Logger = logging.getLogger("starlette_upload_keepalive")


@dataclass(frozen=True, kw_only=True)
class JobEvent:
    """What every event tells of its job.

    Attributes:
        job_id: The job's id.
        handler: The name of its handler.
        field: The form field that the upload came in, if it did.
        filenames: What the client called the files.
        attempt: Which attempt it is at: 0 before the first.
        parent_id: The job whose handler submitted it, if one did.
    """

    job_id: str
    handler: str
    field: str | None
    filenames: Sequence[str | None]
    attempt: int
    parent_id: str | None


@dataclass(frozen=True, kw_only=True)
class JobSubmitted(JobEvent):
    """A job was made, or is run again that had failed. One of the four ends follows.

    The ends are `JobSucceeded`, `JobFailed`, `JobCancelled` and `JobDiscarded`.
    """


@dataclass(frozen=True, kw_only=True)
class JobStarted(JobEvent):
    """An attempt begins. A context manager that the hook returns is entered around it.

    Attributes:
        waited_seconds: How long it waited for a free thread, task or process.
    """

    waited_seconds: float


@dataclass(frozen=True, kw_only=True)
class JobOverran(JobEvent):
    """A thread has taken longer than the handler's ``timeout``. It was asked to stop.

    Attributes:
        timeout_seconds: What it should have taken at most.
    """

    timeout_seconds: float


@dataclass(frozen=True, kw_only=True)
class JobDelayed(JobEvent):
    """An attempt ended, and another follows later.

    Attributes:
        delay_seconds: After how long.
        ran_seconds: How long the attempt took.
        error: What the handler raised; a `RetryLater` if it asked for this.
    """

    delay_seconds: float
    ran_seconds: float
    error: BaseException


@dataclass(frozen=True, kw_only=True)
class JobSucceeded(JobEvent):
    """The handler has returned.

    Attributes:
        ran_seconds: How long the attempt took.
    """

    ran_seconds: float


@dataclass(frozen=True, kw_only=True)
class JobFailed(JobEvent):
    """The handler has raised, and no attempt follows.

    Attributes:
        ran_seconds: How long the attempt took.
        error: What it raised.
    """

    ran_seconds: float
    error: BaseException


@dataclass(frozen=True, kw_only=True)
class JobCancelled(JobEvent):
    """The job will not be finished.

    Attributes:
        reason: "asked": by ``uploads.jobs.cancel``. "shutdown": the app ended
            first, and the job is lost.
        thread_goes_on: Whether a thread still works on it, until it returns.
        error: What its last attempt raised, if that is why it is not finished.
    """

    reason: Literal["asked", "shutdown"]
    thread_goes_on: bool
    error: BaseException | None = None


@dataclass(frozen=True, kw_only=True)
class JobReleased(JobEvent):
    """The app has ended first. The job waits in its spool, for another process or the next start.

    Attributes:
        thread_goes_on: Whether a thread still works on it: nobody can claim it before
            that, or the process, has ended.
    """

    thread_goes_on: bool


@dataclass(frozen=True, kw_only=True)
class JobDiscarded(JobEvent):
    """The job was not to run, or gave up.

    Attributes:
        reason: Why, for people: the request was not accepted, the upload was
            vetoed, or what the handler said with `Discard`.
    """

    reason: str


@dataclass(frozen=True, kw_only=True)
class CallbackFailed(JobEvent):
    """A handler's ``on_success`` or ``on_error`` has raised. The job stays as it is.

    Attributes:
        callback: Which of the two.
        error: What it raised.
    """

    callback: Literal["on_success", "on_error"]
    error: BaseException


Hook = Callable[[JobEvent], "AbstractContextManager[object] | None"]
"""Is told each event, in the event loop or in the thread that submits. It must not block."""

H = TypeVar("H", bound=Hook)

_IGNORED = "ignored_events"


def ignores(*kinds: type[JobEvent]) -> Callable[[H], H]:
    """Declare that a hook does nothing with some events: those that all ignore are never made."""

    def declare(hook: H) -> H:
        setattr(hook, _IGNORED, kinds)
        return hook

    return declare


def _ignored_by(hook: Hook) -> Collection[type[JobEvent]]:
    # functools.wraps gives what a hook declares to what is wrapped around it.
    return () if hasattr(hook, "__wrapped__") else getattr(hook, _IGNORED, ())


class Hooks:
    """Those who are told. One that raises is logged, and harms neither job nor other hooks.

    Args:
        hooks: Them, in order.

    Raises:
        TypeError: They are no sequence, or one of them can't be called.
    """

    def __init__(self, hooks: Sequence[Hook] = ()) -> None:
        if callable(hooks):
            raise TypeError(f"hooks must be a list of functions, not the one function {hooks!r}.")
        self._hooks = tuple(hooks)
        for hook in self._hooks:
            if not callable(hook):
                raise TypeError(f"A hook must be a function of one event, not {hook!r}.")
        self._ignored = {
            kind
            for kind in JobEvent.__subclasses__()
            if all(kind in _ignored_by(hook) for hook in self._hooks)
        }

    def want(self, kind: type[JobEvent]) -> bool:
        """Whether one of them does anything with such an event."""
        return kind not in self._ignored

    def tell(self, event: JobEvent) -> list[AbstractContextManager[object]]:
        """Tell all of them.

        Returns:
            The context managers that they gave back.
        """
        given: list[AbstractContextManager[object]] = []
        for hook in self._hooks:
            with _harmless(hook):
                context = hook(event)
                if context is not None:
                    given.append(context)
        return given

    @contextmanager
    def around(self, event: JobStarted) -> Generator[None, None, None]:
        """Tell all of them, and enter what they give back for the block."""
        contexts = self.tell(event)
        if not contexts:
            yield
            return
        with ExitStack() as stack:
            for context in contexts:
                stack.enter_context(_Harmless(context))
            yield


class _Harmless:
    """Enters a context manager of a hook, which can neither fail the job nor hide its failure."""

    def __init__(self, context: AbstractContextManager[object]) -> None:
        self._context = context
        self._entered = False

    def __enter__(self) -> None:
        with _harmless(self._context):
            self._context.__enter__()
            self._entered = True

    def __exit__(self, *raised: object) -> None:
        if self._entered:
            with _harmless(self._context):
                self._context.__exit__(*raised)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


@contextmanager
def _harmless(what: object) -> Generator[None, None, None]:
    try:
        yield
    except KeyboardInterrupt:  # that of the user at the terminal
        raise
    except BaseException:
        logger.exception("The hook %r has raised.", what)
