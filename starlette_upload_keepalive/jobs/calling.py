"""A call in a worker thread, and what came of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from starlette_upload_keepalive.files.threads import WorkerThreads
from starlette_upload_keepalive.files.upload import Upload, let_go_of_all

from .job import Job


@dataclass(frozen=True)
class Outcome:
    """What came of a call, or of an attempt.

    Attributes:
        result: What the handler returned.
        error: What it raised, or why it has stopped; None if it returned.
        thread_goes_on: Whether its thread was left behind, and works still.
    """

    result: Any = None
    error: BaseException | None = None
    thread_goes_on: bool = False

    def value(self) -> Any:
        """Return the result, or raise the error."""
        try:
            if self.error is not None:
                raise self.error
            return self.result
        finally:
            del self  # else the error's traceback would keep the error, and all of the handler's


def ends_with_thread(
    job: Job[Any], uploads: Sequence[Upload]
) -> tuple[threading.Event, Callable[[], None]]:
    """Have a job know whether the thread of its attempt has ended.

    Args:
        job: The job.
        uploads: Those of the attempt.

    Returns:
        What is set then, and what the thread is to call at its end: it lets go of the
        uploads.
    """
    ended = job._thread_ended = threading.Event()

    def let_go() -> None:
        try:
            let_go_of_all(uploads)
        finally:
            ended.set()

    return ended, let_go


async def in_thread(
    call: Callable[[], Any], threads: WorkerThreads, *, let_go: Callable[[], None] = lambda: None
) -> Outcome:
    """Make a call in a worker thread, which even a SystemExit must not end.

    Args:
        call: What to run; it takes no arguments.
        threads: Whose threads.
        let_go: Called once the call has ended, or will not begin.

    Cancellation: the thread is left behind.
    """
    outcomes: list[Outcome] = []

    def work() -> None:
        try:
            outcomes.append(Outcome(call()))
        except BaseException as error:  # noqa: BLE001
            outcomes.append(Outcome(error=error))

    await threads.run(work, let_go=let_go, abandon_on_cancel=True)
    # Not returned by the thread: Trio's has a frame that would keep it, and the error's traceback.
    return outcomes.pop()
