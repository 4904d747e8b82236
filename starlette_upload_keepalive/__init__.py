"""Hand an upload to work that outlives its request."""

from .exceptions import (
    ArgumentsTooLarge,
    Discard,
    HandlerTimeout,
    JobNotFound,
    NotAccepted,
    NotDurable,
    NotRunning,
    ProcessDied,
    ResultTooLarge,
    RetryLater,
    SpoolUnusable,
    StorageError,
    StorageFull,
    TooManyOpenFiles,
    UploadAborted,
    UploadChanged,
    UploadClosed,
    UploadKeepAliveError,
    UploadTooLarge,
    WouldDeadlock,
)
from .files.detaching import detach
from .files.upload import Upload
from .jobs.event_log import log_events
from .jobs.handler import Handler
from .jobs.job import Job
from .jobs.job_context import JobContext
from .jobs.job_state import JobState, Progress
from .jobs.retry import Retry
from .jobs.stats import Stats
from .middleware import UploadKeepAliveMiddleware
from .spool.directory_spool import DirectorySpool
from .uploads import Uploads

__version__ = "0.1.0"

__all__ = [
    "ArgumentsTooLarge",
    "DirectorySpool",
    "Discard",
    "Handler",
    "HandlerTimeout",
    "Job",
    "JobContext",
    "JobNotFound",
    "JobState",
    "NotAccepted",
    "NotDurable",
    "NotRunning",
    "ProcessDied",
    "Progress",
    "ResultTooLarge",
    "Retry",
    "RetryLater",
    "SpoolUnusable",
    "Stats",
    "StorageError",
    "StorageFull",
    "TooManyOpenFiles",
    "Upload",
    "UploadAborted",
    "UploadChanged",
    "UploadClosed",
    "UploadKeepAliveError",
    "UploadKeepAliveMiddleware",
    "UploadTooLarge",
    "Uploads",
    "WouldDeadlock",
    "__version__",
    "detach",
    "log_events",
]
