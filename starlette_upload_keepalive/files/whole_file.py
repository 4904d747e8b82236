"""What an upload can do with all of its bytes at once."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from .blob import Blob
from .exposed_path import ExposedPath
from .owner import Owner
from .safe_filename import safe_filename, unique_filename
from .saving import save
from .view import View

T = TypeVar("T")


class WholeFile:
    """A file that can be saved, given a path, and hashed.

    Attributes:
        filename: The name that the client gave.
    """

    __slots__ = ()

    filename: str | None
    _view: View

    @property
    def safe_filename(self) -> str:
        """The client's name, made safe for use as a file's name on any system.

        It is one component of a path, of at most 255 bytes, never empty or
        hidden, without characters that can't be seen. Letters of all scripts
        stay. Others may bear the same: `save_to` makes it unique.
        """
        return safe_filename(self.filename)

    async def save(
        self,
        destination: str | os.PathLike[str],
        *,
        overwrite: bool = False,
        durable: bool = False,
    ) -> Path:
        """Store the bytes under a name: a reader sees the whole file or none.

        For the last owner this costs no copy on Linux, if the upload is on the
        filesystem of the destination: its own file gets the name. Change that
        file only when the upload need not be read again.

        Args:
            destination: The name, never the client's; its directory must exist.
            overwrite: Replace a file of that name. A link to a file is replaced
                itself; a directory, a device or a pipe never is.
            durable: Return only when a power cut can't take the file away: the
                file and its directory are synced, which waits for the disk.

        Returns:
            The destination.

        Raises:
            UploadClosed: The owner has let go.
            UploadChanged: It was saved without a copy before, and changed there.
            ValueError: The destination names no file, as "files/" does not.
            FileExistsError: The name is taken, and it may not be overwritten, or
                is that of something else than a file.
            OSError: The directory is missing, can't be written, or is full.

        Cancellation: the thread finishes the save unless it had not begun.
        """
        return await self._in_thread(
            lambda blob, saver: save(
                blob, saver, destination, overwrite=overwrite, durable=durable
            ),
            "a save in progress",
        )

    async def save_to(self, directory: str | os.PathLike[str], *, durable: bool = False) -> Path:
        """Store the bytes in a directory, under a safe name that no other file has.

        As `save` does. The name is `safe_filename` with 16 random hex digits
        before its suffix: "holiday-0123456789abcdef.jpg".

        Args:
            directory: Where; it must exist.
            durable: Return only when a power cut can't take the file away.

        Returns:
            The path of the file.

        Raises:
            UploadClosed: The owner has let go.
            UploadChanged: It was saved without a copy before, and changed there.
            OSError: The directory is missing, can't be written, or is full.

        Cancellation: the thread finishes the save unless it had not begun.
        """
        return await self.save(Path(directory) / unique_filename(self.filename), durable=durable)

    def as_path(self, *, suffix: str = "", writable: bool = False) -> ExposedPath:
        """Make a path on the bytes, for programs that want one.

        ``async with upload.as_path(suffix=".mp4") as path:``, or a plain
        ``with`` in a thread. The path is gone when the block ends. It is
        read-only, and the bytes are not copied where the system can link them.

        Args:
            suffix: How the name ends.
            writable: Make it a private copy, which may be changed. The upload's
                bytes stay as they are.

        Raises:
            UploadClosed: The owner has let go.
            ValueError: The suffix is not the end of a file's name.
        """
        return ExposedPath(self._view.sealed(), suffix, writable=writable)

    async def sha256(self) -> str:
        """Return the SHA-256 of the bytes, in hex.

        It is computed once for all owners, in a worker thread; with
        ``Uploads(sha256=True)``, while the file arrives.

        Raises:
            UploadClosed: The owner has let go.
            UploadChanged: The bytes were saved without a copy, and changed.
            OSError: No descriptor is left.

        Cancellation: the thread computes it to the end unless it had not begun.
        """
        return await self._in_thread(lambda blob, _: blob.sha256(), "a checksum in progress")

    async def _in_thread(self, call: Callable[[Blob, Owner], T], owner: str) -> T:
        """Work on the bytes in a thread, which owns them meanwhile."""
        blob = self._view.sealed()
        worker = blob.own(owner, lender=self._view.check_owned())
        return await blob.storage.threads.run(lambda: call(blob, worker), let_go=worker.let_go)
