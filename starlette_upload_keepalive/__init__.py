"""Hand an upload to work that outlives its request.

A name is imported when it is first asked for: a process that runs one handler need not
wait for what runs an app.
"""

import importlib
import typing

if typing.TYPE_CHECKING:
    from .exceptions import (
        ArgumentsTooLarge,
        Discard,
        FileTooLarge,
        HandlerCrashed,
        HandlerRaised,
        HandlerTimeout,
        JobNotFound,
        NotAccepted,
        NotDurable,
        NotRunning,
        ProcessDied,
        RequestTooLarge,
        ResultTooLarge,
        RetryLater,
        SpoolUnusable,
        StorageError,
        StorageFull,
        TooManyJobs,
        TooManyOpenFiles,
        TooManyUploads,
        UnsupportedFileType,
        UploadAborted,
        UploadChanged,
        UploadClosed,
        UploadKeepAliveError,
        UploadRefused,
        UploadTooLarge,
        UploadTooSlow,
        WouldDeadlock,
    )
    from .files.detaching import detach
    from .files.upload import Upload
    from .jobs.event_log import log_events
    from .jobs.handler import Handler
    from .jobs.job import Job
    from .jobs.job_context import JobContext
    from .jobs.job_state import JobState, Progress
    from .jobs.owned_upload import OwnedUpload
    from .jobs.retry import Retry
    from .jobs.stats import Stats
    from .limits.field_limits import FieldLimits
    from .limits.limits import Limits
    from .middleware import UploadKeepAliveMiddleware
    from .spool.directory_spool import DirectorySpool
    from .uploads import Uploads

__version__ = "0.1.0"

__all__ = [
    "ArgumentsTooLarge",
    "DirectorySpool",
    "Discard",
    "FieldLimits",
    "FileTooLarge",
    "Handler",
    "HandlerCrashed",
    "HandlerRaised",
    "HandlerTimeout",
    "Job",
    "JobContext",
    "JobNotFound",
    "JobState",
    "Limits",
    "NotAccepted",
    "NotDurable",
    "NotRunning",
    "OwnedUpload",
    "ProcessDied",
    "Progress",
    "RequestTooLarge",
    "ResultTooLarge",
    "Retry",
    "RetryLater",
    "SpoolUnusable",
    "Stats",
    "StorageError",
    "StorageFull",
    "TooManyJobs",
    "TooManyOpenFiles",
    "TooManyUploads",
    "UnsupportedFileType",
    "Upload",
    "UploadAborted",
    "UploadChanged",
    "UploadClosed",
    "UploadKeepAliveError",
    "UploadKeepAliveMiddleware",
    "UploadRefused",
    "UploadTooLarge",
    "UploadTooSlow",
    "Uploads",
    "WouldDeadlock",
    "__version__",
    "detach",
    "log_events",
]

# Where each name is; an error is in `exceptions`.
_MODULES = {
    "DirectorySpool": "spool.directory_spool",
    "FieldLimits": "limits.field_limits",
    "Handler": "jobs.handler",
    "Job": "jobs.job",
    "JobContext": "jobs.job_context",
    "JobState": "jobs.job_state",
    "Limits": "limits.limits",
    "OwnedUpload": "jobs.owned_upload",
    "Progress": "jobs.job_state",
    "Retry": "jobs.retry",
    "Stats": "jobs.stats",
    "Upload": "files.upload",
    "UploadKeepAliveMiddleware": "middleware",
    "Uploads": "uploads",
    "detach": "files.detaching",
    "log_events": "jobs.event_log",
}

if not typing.TYPE_CHECKING:  # pragma: no branch - to it any name would be one of ours

    def __getattr__(name: str) -> typing.Any:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module = importlib.import_module(f"{__name__}.{_MODULES.get(name, 'exceptions')}")
        value = globals()[name] = getattr(module, name)
        return value

    def __dir__() -> list[str]:
        return __all__
