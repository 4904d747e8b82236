"""A hook that tells structlog what happens to jobs."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager
from dataclasses import fields
from typing import Any, Literal

from starlette_upload_keepalive.events import (
    CallbackFailed,
    JobCancelled,
    JobDelayed,
    JobEvent,
    JobFailed,
    JobOverran,
    JobStarted,
    JobSubmitted,
)

try:
    import structlog
except ModuleNotFoundError as _error:
    raise ImportError(
        "This hook needs structlog: pip install 'starlette-upload-keepalive[structlog]'"
    ) from _error


class StructlogHook:
    """Logs each event with its fields, and binds the job to what its handler logs.

    The event is called ``job_started`` for `JobStarted`, and so on. What
    `log_events` logs has the same level here; besides, a success is information,
    and that a job was submitted or started is for debugging. While an attempt
    runs, ``job_id``, ``handler`` and ``attempt`` are bound: have
    ``structlog.contextvars.merge_contextvars`` among the processors.

    Args:
        logger: A logger of structlog's; the one named "starlette_upload_keepalive" if None.
    """

    def __init__(self, logger: Any = None) -> None:
        if logger is None:
            logger = structlog.get_logger("starlette_upload_keepalive")
        self._logger = logger

    def __call__(self, event: JobEvent) -> AbstractContextManager[object] | None:
        """Log an event."""
        told = {field.name: getattr(event, field.name) for field in fields(event)}
        told["filenames"] = list(event.filenames)
        error, level = told.pop("error", None), _level(event)
        if error is not None:
            told["error"] = repr(error)
            if level == "error":
                told["exc_info"] = error
        # By its name, which every kind of logger has.
        getattr(self._logger, level)(_name(event), **told)
        if not isinstance(event, JobStarted):
            return None
        return structlog.contextvars.bound_contextvars(
            job_id=event.job_id, handler=event.handler, attempt=event.attempt
        )


def _name(event: JobEvent) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(event).__name__).lower()


def _level(event: JobEvent) -> Literal["debug", "info", "warning", "error"]:
    match event:
        case JobFailed() | CallbackFailed() | JobCancelled(reason="shutdown"):
            return "error"
        case JobDelayed() | JobOverran():
            return "warning"
        case JobSubmitted() | JobStarted():
            return "debug"
        case _:
            return "info"
