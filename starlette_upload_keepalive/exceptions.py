"""Everything this package raises on its own account.

::

    UploadKeepAliveError
    ├── UploadClosed          (ValueError)       the upload's owner has let go of it
    ├── UploadChanged                            its bytes were changed where it was saved to
    ├── UploadAborted         (ClientDisconnect) the client left before its body was complete
    ├── UploadRefused         (HTTPException)    a limit of the app refuses an upload
    │   ├── FileTooLarge                         413: a file is larger than it may be
    │   ├── RequestTooLarge                      413: the body is
    │   ├── UnsupportedFileType                  415: the field takes no such files
    │   ├── UploadTooSlow                        408: the client sends nothing, or too little
    │   ├── TooManyUploads                       503: as many as may be are being received
    │   └── TooManyJobs                          503: as many as may be wait to be done
    ├── StorageError          (HTTPException)    500: the bytes of an upload can't be stored
    │   ├── StorageFull                          507: no space is left for them
    │   ├── TooManyOpenFiles                     503: no file handle is left for them
    │   └── UploadTooLarge                       413: the system or the spool takes none so large
    ├── NotRunning            (RuntimeError)     no runner is there to take the job
    ├── NotDurable            (RuntimeError)     submit() can't wait until the job is on the disk
    ├── NotAccepted           (RuntimeError)     the request was answered with an error
    ├── WouldDeadlock         (RuntimeError)     a request waits for what starts after it
    ├── ArgumentsTooLarge     (ValueError)       a job's arguments are more than 1 MiB of JSON
    ├── ResultTooLarge        (ValueError)       a job's result is more than 64 KiB of JSON
    ├── HandlerTimeout        (TimeoutError)     a handler took longer than its timeout
    ├── ProcessDied                              the app's process has ended while a job ran
    ├── HandlerRaised                            what a handler raised in a process of its own
    ├── HandlerCrashed        (RuntimeError)     the process of a handler ended without a result
    ├── JobNotFound           (LookupError)      no job of that id is known
    ├── SpoolUnusable         (RuntimeError)     a directory can't keep what a spool promises
    ├── RetryLater                               a handler wants to be called once more
    └── Discard                                  a handler gives up on its upload

A malformed body raises Starlette's own ``MultiPartException`` (an
``HTTPException`` with status 400 inside an app), as it does without us.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from .quantities import LONGEST_WAIT

# A client may choose it.
_LONGEST_FIELD = 100


class UploadKeepAliveError(Exception):
    """Base of every error that this package raises on its own account."""


class UploadClosed(UploadKeepAliveError, ValueError):
    """Raised when an upload is used after its owner has let go of it.

    It is a ``ValueError``, as Python's own "I/O operation on closed file" is.
    """


class UploadChanged(UploadKeepAliveError):
    """Raised when an upload is read whose bytes have been changed.

    A save by the last owner makes a file of the upload's own bytes, without a
    copy. What is done to that file is done to them.

    Args:
        path: Where it was saved to.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(
            f"The upload was saved to {os.fspath(path)!r} without a copy, and that file has been "
            "changed since, or touched, so its bytes can't be trusted. Read an upload before you "
            "change what was saved; or change a copy, as_path(writable=True), and keep that."
        )
        self.path: str = os.fspath(path)


class UploadAborted(UploadKeepAliveError, ClientDisconnect, HTTPException):
    """Raised when the client disconnects before its body is complete.

    It is a ``ClientDisconnect``, as in Starlette. It is an ``HTTPException``
    too, so that FastAPI does not turn it into "400 There was an error parsing
    the body". The status is 499, nginx's "client closed request": nobody is
    there to read it, but logs and metrics are.
    """

    def __init__(self) -> None:
        HTTPException.__init__(self, 499, "The client disconnected during the upload.")


class UploadRefused(UploadKeepAliveError, HTTPException):
    """Base of what is raised when a limit of the app refuses an upload.

    Handle it with ``@app.exception_handler(UploadRefused)`` to answer in a form of your own.
    """

    def __init__(self, status_code: int, detail: str, retry_after: int | None = None) -> None:
        headers = None if retry_after is None else {"Retry-After": str(retry_after)}
        HTTPException.__init__(self, status_code, detail, headers)


class FileTooLarge(UploadRefused):
    """Raised when a file is larger than it may be (413).

    Args:
        field: The form field it came in.
        max_size: The bytes that it may have.
    """

    def __init__(self, field: str | None, max_size: int) -> None:
        super().__init__(
            413, f"The file{_of(field)} is too large: it may have {max_size:,} bytes at most."
        )
        self.field: str | None = field
        self.max_size: int = max_size


class RequestTooLarge(UploadRefused):
    """Raised when a body is larger than it may be (413).

    Args:
        max_size: The bytes that it may have.
    """

    def __init__(self, max_size: int) -> None:
        super().__init__(413, f"The request is too large: it may have {max_size:,} bytes at most.")
        self.max_size: int = max_size


class UnsupportedFileType(UploadRefused):
    """Raised when a form field takes no files of a media type (415).

    Args:
        field: The form field.
        taken: Patterns of the media types that it takes; any if empty.
        why: What is wrong with the file, if it is not the type that it is declared as.
    """

    def __init__(
        self, field: str | None, taken: Sequence[str] = (), why: str | None = None
    ) -> None:
        why = why or f"is of a type that is not taken. It may be {' or '.join(taken)}"
        super().__init__(415, f"The file{_of(field)} {why}.")
        self.field: str | None = field
        self.taken: Sequence[str] = taken


class UploadTooSlow(UploadRefused):
    """Raised when a client sends nothing for too long, or too little (408).

    Args:
        why: Which of them, as a sentence.
    """

    def __init__(self, why: str) -> None:
        super().__init__(408, f"The upload is too slow. {why}")


class TooManyUploads(UploadRefused):
    """Raised when as many forms are being received as may be (503)."""

    def __init__(self) -> None:
        super().__init__(503, "Too many uploads at once. Try again in a moment.", 1)


class TooManyJobs(UploadRefused):
    """Raised when as many jobs as may be are not done yet (503)."""

    def __init__(self) -> None:
        super().__init__(503, "Too many uploads wait to be worked on. Try again later.", 10)


class StorageError(UploadKeepAliveError, HTTPException):
    """Raised when the bytes of an upload can't be stored (500). The log has the cause."""

    def __init__(
        self,
        status_code: int = 500,
        detail: str = "The upload could not be stored.",
        headers: dict[str, str] | None = None,
    ) -> None:
        HTTPException.__init__(self, status_code, detail, headers)


class StorageFull(StorageError):
    """Raised when no space is left for the bytes of an upload (507)."""

    def __init__(self) -> None:
        super().__init__(507, "There is no space left to store the upload.")


class TooManyOpenFiles(StorageError):
    """Raised when no file handle is left for an upload (503)."""

    def __init__(self) -> None:
        super().__init__(
            503, "Too many uploads are open. Try again in a moment.", {"Retry-After": "1"}
        )


class UploadTooLarge(StorageError):
    """Raised when an upload is larger than what can be stored at all (413).

    Its bytes, for the filesystem or a limit of the process; or its names and
    headers, for a spool. The log says which.
    """

    def __init__(self) -> None:
        super().__init__(413, "The upload is too large to be stored.")


class NotRunning(UploadKeepAliveError, RuntimeError):
    """Raised when a job is to start now and no runner is there to take it."""


class NotDurable(UploadKeepAliveError, RuntimeError):
    """Raised when a job is submitted where nothing waits until it is on the disk.

    With a durable spool, ``await handler.enqueue(...)`` does.
    """


class NotAccepted(UploadKeepAliveError, RuntimeError):
    """Raised when a job is submitted for a request that was answered with an error."""


class WouldDeadlock(UploadKeepAliveError, RuntimeError):
    """Raised when a request waits for a job that starts only after the request."""


class ArgumentsTooLarge(UploadKeepAliveError, ValueError):
    """Raised when a job is submitted with more than 1 MiB of JSON as arguments."""


class ResultTooLarge(UploadKeepAliveError, ValueError):
    """Raised when a handler returns more than 64 KiB of JSON."""


class HandlerTimeout(UploadKeepAliveError, TimeoutError):
    """Raised in place of a handler's result when it took longer than its timeout."""


class ProcessDied(UploadKeepAliveError):
    """Given to ``on_error`` for a job that is given up because of its crashes.

    Args:
        times: How often its process has ended while its handler ran.
    """

    def __init__(self, times: int) -> None:
        super().__init__(f"The process has ended while the handler ran, {times} times.")
        self.times: int = times


class HandlerRaised(UploadKeepAliveError):
    """Raised in place of what a handler has raised in a process of its own.

    Its text is the type and the message of that; its cause shows the traceback.

    Args:
        message: The type and the message.
        kinds: For each error that was raised, of a group each that it holds: the names of
            its class and of the classes that this is made of, with their modules.
    """

    def __init__(self, message: str, kinds: Sequence[Collection[str]] = ()) -> None:
        super().__init__(message)
        self.kinds: Sequence[Collection[str]] = kinds


class HandlerCrashed(UploadKeepAliveError, RuntimeError):
    """Raised when the process of a handler has ended without a result. The error says how."""


class JobNotFound(UploadKeepAliveError, LookupError):
    """Raised when no job of an id is known: it is wrong, or the job is forgotten."""


class SpoolUnusable(UploadKeepAliveError, RuntimeError):
    """Raised when the app starts and its spool can't be used. The error says what to do."""


class RetryLater(UploadKeepAliveError):
    """Raised by a handler to be called once more, after some time.

    It uses up no attempt and needs no ``retry=``; a handler that wants an end
    to it looks at ``job.attempt``.

    Args:
        seconds: After how many seconds.

    Raises:
        ValueError: They are negative, or more than a billion.
    """

    def __init__(self, seconds: float) -> None:
        if not 0 <= seconds <= LONGEST_WAIT:
            most = f"and at most {LONGEST_WAIT:,}"
            raise ValueError(f"seconds must be 0 or more, {most}, not {seconds!r}.")
        super().__init__(f"Try again in {seconds:g} s.")
        self.seconds = seconds


class Discard(UploadKeepAliveError):
    """Raised by a handler to give up on its upload. It is no failure, and not tried again.

    Args:
        reason: Why, for people. The job tells it as its ``error``.
    """

    def __init__(self, reason: str) -> None:
        self.reason: str = str(reason)  # what was caught is often given as it is
        super().__init__(self.reason)


def _of(field: str | None) -> str:
    return "" if field is None else f" of the field {field[:_LONGEST_FIELD]!r}"
