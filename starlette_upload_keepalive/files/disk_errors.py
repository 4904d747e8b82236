"""What is wrong with the disk, in words for the client."""

from __future__ import annotations

import errno
from collections.abc import Generator
from contextlib import contextmanager

from starlette_upload_keepalive.exceptions import (
    StorageError,
    StorageFull,
    TooManyOpenFiles,
    UploadTooLarge,
)

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}
_NO_HANDLE = {errno.EMFILE, errno.ENFILE}


@contextmanager
def told_to_the_client() -> Generator[None, None, None]:
    """Name what is wrong with the disk, and not with the connection (divergence 3)."""
    try:
        yield
    except OSError as error:
        if error.errno in _NO_SPACE:
            raise StorageFull from error
        if error.errno in _NO_HANDLE:
            raise TooManyOpenFiles from error
        if error.errno == errno.EFBIG:
            raise UploadTooLarge from error
        raise StorageError from error
