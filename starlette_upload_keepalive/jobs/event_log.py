"""The hook that is there by default: it tells the standard library's logging."""

from __future__ import annotations

import logging

from starlette_upload_keepalive.events import (
    CallbackFailed,
    JobCancelled,
    JobDelayed,
    JobDiscarded,
    JobEvent,
    JobFailed,
    JobOverran,
    JobReleased,
    JobStarted,
    JobSubmitted,
    JobSucceeded,
    ignores,
)
from starlette_upload_keepalive.files.printable import printable

logger: logging.Logger = logging.getLogger("starlette_upload_keepalive")


@ignores(JobSubmitted, JobStarted, JobSucceeded)
def log_events(event: JobEvent) -> None:
    """Log what goes wrong with jobs, to the logger "starlette_upload_keepalive".

    A failure or a loss is an error, another attempt a warning, and what was
    asked for is only information.

    Args:
        event: What happened.
    """
    told = _message(event)
    if told is None:
        return
    level, message, error = told
    logger.log(
        level,
        "Job %s of handler %s %s: field %r, files %r.",
        event.job_id,
        event.handler,
        message,
        event.field,
        list(event.filenames),
        exc_info=error,
    )


def _message(event: JobEvent) -> tuple[int, str, BaseException | None] | None:
    match event:
        case JobFailed(error=error):
            return logging.ERROR, "failed", error
        case CallbackFailed(callback=callback, error=error):
            return logging.ERROR, f"is done, but its {callback} failed", error
        case JobDelayed(error=error, attempt=attempt, delay_seconds=delay):
            message = (
                f"will be tried again in {delay:.3g} s, after attempt {attempt} ({_of(error)})"
            )
            return logging.WARNING, message, None
        case JobOverran(timeout_seconds=timeout):
            message = f"takes longer than its {timeout:g} s (its thread was asked to stop)"
            return logging.WARNING, message, None
        case JobCancelled(reason="asked"):
            return logging.INFO, "was cancelled", None
        case JobCancelled(thread_goes_on=thread_goes_on, error=error):
            thread = " (its thread goes on until it returns)" if thread_goes_on else ""
            return logging.ERROR, f"is lost, the app was shut down first{thread}", error
        case JobReleased(thread_goes_on=thread_goes_on):
            thread = " (once its thread has ended)" if thread_goes_on else ""
            return logging.INFO, f"waits in the spool, the app was shut down first{thread}", None
        case JobDiscarded(reason=reason):
            return logging.INFO, f"was discarded ({printable(reason)})", None
        case _:
            return None


def _of(error: BaseException) -> str:
    told = repr(error)  # which escapes nearly always what is not printable
    return told if told.isprintable() else printable(told)
