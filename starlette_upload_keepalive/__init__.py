"""Hand an upload to work that outlives its request."""

from .detaching import detach
from .exceptions import (
    NotAccepted,
    NotRunning,
    ResultTooLarge,
    StorageError,
    StorageFull,
    TooManyOpenFiles,
    UploadAborted,
    UploadClosed,
    UploadKeepAliveError,
    WouldDeadlock,
)
from .handler import Handler
from .job import Job, JobContext, JobState, Progress
from .middleware import UploadKeepAliveMiddleware
from .upload import Upload
from .uploads import Stats, Uploads

__version__ = "0.1.0"

__all__ = [
    "Handler",
    "Job",
    "JobContext",
    "JobState",
    "NotAccepted",
    "NotRunning",
    "Progress",
    "ResultTooLarge",
    "Stats",
    "StorageError",
    "StorageFull",
    "TooManyOpenFiles",
    "Upload",
    "UploadAborted",
    "UploadClosed",
    "UploadKeepAliveError",
    "UploadKeepAliveMiddleware",
    "Uploads",
    "WouldDeadlock",
    "__version__",
    "detach",
]
