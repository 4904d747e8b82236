"""Take a file out of its request, for code of the user's own."""

from __future__ import annotations

import io
import os
import sys
from typing import BinaryIO

from starlette.datastructures import UploadFile

from starlette_upload_keepalive.exceptions import UploadClosed

from .blob import Blob
from .chunks import chunks_of
from .owner import CODE
from .private_file import PrivateFile
from .storage import Storage
from .upload import Upload


def detach(file: UploadFile) -> Upload:
    """Take a view of a file for code that outlives the request.

    The caller owns it and closes it: ``async with upload:`` in the task that
    works on it, or ``with upload:`` in the thread. The request keeps its own.
    A file that Starlette parsed without the middleware will do too. A small
    one is then copied in memory, and a large one is opened once more: what is
    written to the original afterwards is seen in both.

    Args:
        file: The file, still open.

    Returns:
        An upload at byte 0.

    Raises:
        TypeError: It is no ``UploadFile``.
        UploadClosed: The file is closed.
        OSError: No descriptor is left, or no space for a copy.
    """
    if isinstance(file, Upload):
        return file._share(_caller())
    if not isinstance(file, UploadFile):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"detach() takes an UploadFile, not {type(file).__name__}.")
    if file.file.closed:
        raise UploadClosed(
            f"{file!r} is closed already: detach it while its request is being answered, "
            "or add UploadKeepAliveMiddleware to the app."
        )
    blob = Blob(Storage(io_threads=None))
    upload = Upload(blob, owner=_caller(), filename=file.filename, headers=file.headers)
    try:
        _fill(blob, file)
    except BaseException:
        upload._let_go()
        raise
    upload.size = blob.size
    return upload


def _caller() -> str:
    """Name the code that called `detach`, and where it is: by that a leak is found."""
    frame = sys._getframe(2)
    return f"{CODE} called detach() in {frame.f_code.co_filename}, line {frame.f_lineno}"


def _fill(blob: Blob, upload: UploadFile) -> None:
    file = upload.file
    # Like Starlette: to ask a SpooledTemporaryFile for its fileno would move it to disk.
    if getattr(file, "_rolled", True) and _adopt(blob, file):
        return
    position = file.tell()
    file.seek(0)
    try:
        blob.fill(chunks_of(file))
    finally:
        file.seek(position)


def _adopt(blob: Blob, file: BinaryIO) -> bool:
    try:
        file.flush()
        fd = file.fileno()
        status = os.fstat(fd)
        if status.st_nlink > 0:
            return False  # a file that others find by its name is not ours to keep unchanged
        blob.adopt(PrivateFile.adopt(fd), status.st_size)
    except (io.UnsupportedOperation, NotImplementedError):
        return False
    return True
