"""What this package raises fits into the code that catches it already."""

from __future__ import annotations

import pytest
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

import starlette_upload_keepalive as package
from starlette_upload_keepalive import exceptions

PARENTS: dict[type[Exception], type[Exception]] = {
    exceptions.UploadClosed: ValueError,
    exceptions.UploadChanged: Exception,
    exceptions.UploadAborted: ClientDisconnect,
    exceptions.UploadRefused: HTTPException,
    exceptions.FileTooLarge: HTTPException,
    exceptions.RequestTooLarge: HTTPException,
    exceptions.UnsupportedFileType: HTTPException,
    exceptions.UploadTooSlow: HTTPException,
    exceptions.TooManyUploads: HTTPException,
    exceptions.TooManyJobs: HTTPException,
    exceptions.StorageError: HTTPException,
    exceptions.StorageFull: HTTPException,
    exceptions.TooManyOpenFiles: HTTPException,
    exceptions.UploadTooLarge: HTTPException,
    exceptions.NotRunning: RuntimeError,
    exceptions.NotDurable: RuntimeError,
    exceptions.NotAccepted: RuntimeError,
    exceptions.WouldDeadlock: RuntimeError,
    exceptions.ArgumentsTooLarge: ValueError,
    exceptions.ResultTooLarge: ValueError,
    exceptions.HandlerTimeout: TimeoutError,
    exceptions.ProcessDied: Exception,
    exceptions.HandlerRaised: Exception,
    exceptions.HandlerCrashed: RuntimeError,
    exceptions.JobNotFound: LookupError,
    exceptions.SpoolUnusable: RuntimeError,
    exceptions.RetryLater: Exception,
    exceptions.Discard: Exception,
}


def test_the_tree_names_every_error() -> None:
    own = {error for error in vars(exceptions).values() if _is_own(error)}
    assert own == {exceptions.UploadKeepAliveError, *PARENTS}
    assert exceptions.__doc__ is not None
    for error in own:
        assert error.__name__ in exceptions.__doc__
        assert getattr(package, error.__name__) is error


@pytest.mark.parametrize("error", PARENTS, ids=lambda error: error.__name__)
def test_an_error_is_caught_as_ours_and_as_what_python_calls_it(error: type[Exception]) -> None:
    assert issubclass(error, exceptions.UploadKeepAliveError)
    assert issubclass(error, PARENTS[error])


@pytest.mark.parametrize(
    ("error", "status", "headers"),
    [
        (exceptions.FileTooLarge(None, 10), 413, None),
        (exceptions.RequestTooLarge(10), 413, None),
        (exceptions.UnsupportedFileType("photo", ["image/*"]), 415, None),
        (exceptions.UploadTooSlow("It is."), 408, None),
        (exceptions.TooManyUploads(), 503, {"Retry-After": "1"}),
        (exceptions.TooManyJobs(), 503, {"Retry-After": "10"}),
        (exceptions.StorageError(), 500, None),
        (exceptions.StorageFull(), 507, None),
        (exceptions.TooManyOpenFiles(), 503, {"Retry-After": "1"}),
        (exceptions.UploadTooLarge(), 413, None),
        (exceptions.UploadAborted(), 499, None),
    ],
    ids=lambda value: type(value).__name__,
)
def test_limits_have_a_status_of_their_own(
    error: HTTPException, status: int, headers: dict[str, str] | None
) -> None:
    """P7: at a limit the client gets a clear answer."""
    assert error.status_code == status
    assert error.headers == headers
    assert error.detail.endswith(".")


def _is_own(value: object) -> bool:
    return isinstance(value, type) and value.__module__ == exceptions.__name__
