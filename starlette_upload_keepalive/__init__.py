"""Hand an upload to work that outlives its request."""

from .exceptions import (
    ArgumentsTooLarge,
    Discard,
    FileTooLarge,
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
