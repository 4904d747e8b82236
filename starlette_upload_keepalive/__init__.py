"""Hand an upload to work that outlives its request."""

from .detaching import detach
from .event_log import log_events
from .exceptions import (
    Discard,
    HandlerTimeout,
    JobNotFound,
    NotAccepted,
    NotRunning,
    ResultTooLarge,
    RetryLater,
    StorageError,
    StorageFull,
    TooManyOpenFiles,
    UploadAborted,
    UploadChanged,
    UploadClosed,
    UploadKeepAliveError,
    WouldDeadlock,
)
from .handler import Handler
from .job import Job
from .job_context import JobContext
from .job_state import JobState, Progress
from .middleware import UploadKeepAliveMiddleware
from .retry import Retry
from .stats import Stats
from .upload import Upload
from .uploads import Uploads

__version__ = "0.1.0"

__all__ = [
    "Discard",
    "Handler",
    "HandlerTimeout",
    "Job",
    "JobContext",
    "JobNotFound",
    "JobState",
    "NotAccepted",
    "NotRunning",
    "Progress",
    "ResultTooLarge",
    "Retry",
    "RetryLater",
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
    "Uploads",
    "WouldDeadlock",
    "__version__",
    "detach",
    "log_events",
]
