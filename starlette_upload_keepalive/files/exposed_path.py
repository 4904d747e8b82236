"""A path on the bytes of a blob, for as long as a block lasts."""

from __future__ import annotations

import errno
import os
import secrets
from pathlib import Path
from types import TracebackType

import anyio

from .blob import Blob
from .copying import copy
from .owner import Owner


class ExposedPath:
    """A path for programs that want one: ffmpeg, libvips, pandas.

    Enter it with ``async with``, or with ``with`` in a thread. The file is
    linked where the system can, else copied, and gone when the block ends.

    Args:
        blob: The bytes; the block owns them.
        suffix: How the path ends.
        writable: Copy them, for a program that changes the file.

    Raises:
        ValueError: The suffix is not the end of a file's name.
    """

    def __init__(self, blob: Blob, suffix: str, *, writable: bool = False) -> None:
        if {"/", os.sep, "\0"} & set(suffix):
            raise ValueError(f"suffix must be the end of a name, such as '.mp4', not {suffix!r}.")
        self._blob = blob
        self._path = Path(blob.storage.directory) / f"upload-{secrets.token_hex(8)}{suffix}"
        self._writable = writable
        self._owner: Owner | None = None
        self._left = False

    def __enter__(self) -> Path:
        self._begin()
        try:
            self._make()
        except BaseException:
            self._leave()
            raise
        return self._path

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._leave()

    async def __aenter__(self) -> Path:
        self._begin()
        maker = self._blob.own("a path in the making")

        def made() -> None:
            maker.let_go()
            if self._left:  # cancelled meanwhile: nobody else will remove what we made
                self._remove()

        try:
            await self._blob.storage.threads.run(self._make, let_go=made)
        except BaseException:
            await self._leave_in_thread()
            raise
        return self._path

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._leave_in_thread()

    def _begin(self) -> None:
        if self._owner is not None or self._left:
            raise RuntimeError("A path is for one block: call as_path() once more.")
        self._owner = self._blob.own("the block of a path")

    def _make(self) -> None:
        try:
            self._link_or_copy()
        except FileNotFoundError as error:
            directory = self._blob.storage.directory
            if os.path.isdir(directory):
                raise
            what = "The directory of the uploads is gone: create it, or set Uploads(directory=...)"
            raise FileNotFoundError(errno.ENOENT, what, directory) from error

    def _link_or_copy(self) -> None:
        if self._writable or self._blob.in_memory:
            copy(self._blob, self._path, mode=0o600 if self._writable else 0o400)
            return
        try:
            self._blob.link(self._path)
        except (OSError, NotImplementedError):
            # Saved before, or no links there at all. What else is wrong, copying will say.
            copy(self._blob, self._path, mode=0o400)
        else:
            self._path.chmod(0o400)

    def _leave(self) -> None:
        self._left = True
        owner, self._owner = self._owner, None
        try:
            self._remove()
        finally:
            if owner is not None:
                owner.let_go()

    async def _leave_in_thread(self) -> None:
        """Remove the path, without waiting for the disk in the event loop."""
        self._left = True  # at once: who makes it still may look before the thread begins
        with anyio.CancelScope(shield=True):  # the path is to be gone when the block has ended
            await self._blob.storage.threads.run(lambda: None, let_go=self._leave)

    def _remove(self) -> None:
        # Windows does not delete what is read-only.
        if os.name != "posix" and self._path.exists():  # pragma: no cover - other systems
            self._path.chmod(0o600)
        self._path.unlink(missing_ok=True)
