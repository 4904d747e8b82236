"""An upload: one owner's view of a stored file, as Starlette's ``UploadFile``."""

from __future__ import annotations

import mimetypes
import os
import warnings
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO, NoReturn, Protocol, SupportsIndex, TypeVar

from starlette.datastructures import Headers, UploadFile

from starlette_upload_keepalive.quantities import MIB

from .annotation import FileAnnotation
from .blob import Blob
from .chunks import chunks_of
from .owner import CODE, Owner
from .storage import Storage
from .view import View
from .whole_file import WholeFile
from .write_behind import WriteBehind

if TYPE_CHECKING:
    from typing_extensions import Self

T = TypeVar("T")
_MAKER = f"{CODE} made it"


class Origin(Protocol):
    """Where an upload came in, and may yet be vetoed: a request, or a job."""

    def discard(self, upload: Upload) -> None:
        """Run none of the jobs that are staged for the upload."""


class Upload(FileAnnotation, WholeFile, UploadFile):
    """An uploaded file that stays open until its owner lets go of it.

    It is Starlette's ``UploadFile`` with a read position of its own: two
    uploads on the same bytes never move each other. ``file`` is read-only, and
    `write` works on a private copy (divergence 8). Uploads come out of a form,
    out of `detach`, to a handler, and from `from_bytes`, `from_path` and
    `from_stream`.

    Its owner closes it: ``async with upload:``, ``with upload:`` or
    ``await upload.close()``. The request does so for its form, a job for its
    handler. One that is forgotten is a ``ResourceWarning``.

    Attributes:
        filename: The name that the client gave. Never use it as a path.
        size: The number of bytes.
        headers: The headers of the part.
        field_name: The form field it came in, if it did.
    """

    # Not in `vars`: FastAPI puts those into a validation error's answer (divergence 9).
    __slots__ = ("_origin", "_view")

    def __init__(
        self,
        blob: Blob,
        *,
        owner: str,
        filename: str | None = None,
        headers: Headers | None = None,
        field_name: str | None = None,
        origin: Origin | None = None,
        lender: Owner | None = None,
    ) -> None:
        # Starlette's __init__ wants an open file; ours is opened when it is asked for.
        self._view = View(blob, owner, lender)
        blob.field_name = field_name
        blob.filename = filename
        self._origin = origin
        self.filename = filename
        self.headers: Headers = Headers() if headers is None else headers
        self.size: int | None = blob.size
        self.field_name = field_name

    # Where uploads come from

    @classmethod
    def from_bytes(
        cls,
        data: bytes,
        *,
        filename: str | None = None,
        content_type: str | None = None,
        storage: Storage | None = None,
    ) -> Self:
        """Make an upload of bytes, which stay in memory.

        Args:
            data: The bytes.
            filename: The name that it shall bear.
            content_type: Its media type; guessed from the filename if None.
            storage: What counts them in its memory budget, so that others get less of
                that; nothing does if None.
        """
        upload = cls._made(Blob(storage or Storage(io_threads=None)), filename, content_type)
        upload._view.blob.hold(bytes(data))
        upload.size = len(data)
        return upload

    @classmethod
    async def from_path(
        cls,
        path: str | os.PathLike[str],
        *,
        filename: str | None = None,
        content_type: str | None = None,
        storage: Storage | None = None,
    ) -> Self:
        """Make an upload of a file's bytes as they are now.

        Args:
            path: The file. It is copied, and stays as it is.
            filename: The name that it shall bear; the path's own if None.
            content_type: Its media type; guessed from the filename if None.
            storage: Where the copy is to live; one for it alone if None.

        Raises:
            OSError: The file can't be read, or there is no space for the copy.

        Cancellation: the thread finishes the copy, which is then dropped.
        """
        source = Path(path)

        def read() -> Iterator[bytes]:
            with source.open("rb") as file:
                yield from chunks_of(file)

        storage = storage or Storage(io_threads=None)
        await _load_media_types(storage)
        blob = Blob(storage)
        upload = cls._made(blob, source.name if filename is None else filename, content_type)
        try:
            await blob.fill_in_thread(read)
        except BaseException:
            upload._let_go()
            raise
        upload.size = blob.size
        return upload

    @classmethod
    async def from_stream(
        cls,
        stream: AsyncIterable[bytes],
        *,
        filename: str | None = None,
        content_type: str | None = None,
        storage: Storage | None = None,
    ) -> Self:
        """Make an upload of all bytes of a stream.

        Args:
            stream: The bytes, in pieces of any size.
            filename: The name that it shall bear.
            content_type: Its media type; guessed from the filename if None.
            storage: Where the bytes are to live; one for them alone if None.

        Raises:
            OSError: There is no space for the bytes.

        Cancellation: what was read so far is dropped.
        """
        storage = storage or Storage(io_threads=None)
        await _load_media_types(storage)
        blob = Blob(storage)
        upload = cls._made(blob, filename, content_type)
        try:
            async with WriteBehind(storage.threads) as behind:
                async for chunk in stream:
                    blob.append(chunk)
                    if behind.is_due(blob):
                        await behind.write(blob)
                if blob.unwritten:
                    await behind.write(blob)
                await behind.flush()
        except BaseException:
            upload._let_go()
            raise
        upload.size = blob.size
        return upload

    @classmethod
    def _made(cls, blob: Blob, filename: str | None, content_type: str | None) -> Self:
        if content_type is None and filename is not None:
            content_type = mimetypes.guess_type(filename)[0]
        headers = Headers({"content-type": content_type} if content_type else {})
        return cls(blob, owner=_MAKER, filename=filename, headers=headers)

    # What every UploadFile can do

    @property
    def file(self) -> BinaryIO:
        """The file, for libraries that want one: PIL, pandas, zipfile, shutil.

        It is read-only, and blocks where `read` does not. Another file may be
        put in its place, which is then this owner's alone.

        Raises:
            UploadClosed: The owner has let go.
            UploadChanged: The bytes were saved without a copy, and changed.
        """
        return self._view.file()

    @file.setter
    def file(self, file: BinaryIO) -> None:
        self._view.put(file)

    async def read(self, size: int = -1) -> bytes:
        """Read that many bytes from the position on, or all of them if negative.

        Raises:
            UploadClosed: The owner has let go.
            UploadChanged: The bytes were saved without a copy, and changed.

        Cancellation: the position is undefined afterwards.
        """
        data = await self._run(partial(self.file.read, size))
        self._view.check_unchanged()  # while they were read, too
        return data

    async def seek(self, offset: int) -> None:
        """Move the position to that many bytes from the start.

        Raises:
            UploadClosed: The owner has let go.
            UploadChanged: The bytes were saved without a copy, and changed.

        Cancellation: the position is undefined afterwards.
        """
        await self._run(partial(self.file.seek, offset))

    async def write(self, data: bytes) -> None:
        """Write bytes at the position, in a copy that no other owner sees.

        Raises:
            UploadClosed: The owner has let go.
            UploadChanged: The bytes were saved without a copy, and changed.
            OSError: There is no space for the copy.

        Cancellation: the bytes may or may not be written.
        """
        while not self._view.own_file:
            await self._view.make_writable()
        file = self.file

        def write() -> int:
            file.write(data)
            return file.tell()

        self.size = max(self.size or 0, await self._run(write))

    async def close(self) -> None:
        """Let go of the file. Others who own it keep it; again does nothing.

        Cancellation: nothing is awaited, so nothing can be left half closed.
        """
        self._let_go()

    async def _run(self, call: Callable[[], T]) -> T:
        if self._view.waits:
            return await self._view.blob.storage.threads.run(call)
        return call()

    # What an upload can do besides

    async def chunks(self, size: int = MIB) -> AsyncIterator[bytes]:
        """Go over all bytes from the start, in pieces of at most that many bytes.

        Raises:
            UploadClosed: The owner has let go.
            UploadChanged: The bytes were saved without a copy, and changed.
            ValueError: The size is not positive.
        """
        if size < 1:
            raise ValueError(f"size must be 1 byte or more, not {size}.")
        await self.seek(0)
        while chunk := await self.read(size):
            yield chunk

    def discard(self) -> None:
        """Veto: run none of the jobs that are staged for this upload.

        Raises:
            RuntimeError: It came in with no request, so there is nothing to veto.
        """
        if self._origin is None:
            raise RuntimeError("Only an upload that came in with a request can be discarded.")
        self._origin.discard(self)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._let_go()

    def __enter__(self) -> Self:
        self._view.check_owned()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._let_go()

    def __repr__(self) -> str:
        closed = ", closed" if self._view.closed else ""
        return f"<{type(self).__name__} {self.filename!r}, {self.size} bytes{closed}>"

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        # Two objects on one view would each close it; copy and pickle both ask here.
        raise TypeError(
            "An upload can't be copied or pickled. detach(file) gives another view of it; for "
            "another process, save() it and hand over the path."
        )

    def __del__(self) -> None:
        view: View | None = getattr(self, "_view", None)
        if view is None or view.closed:
            return
        field = "" if self.field_name is None else f" of field {self.field_name!r}"
        forgotten = f"{self!r}{field} was not closed by {view.owner_name}."
        try:
            view.let_go()
        finally:
            warnings.warn(forgotten, ResourceWarning, stacklevel=2, source=self)

    # Between this package's modules

    def _share(self, owner: str, *, origin: Origin | None = None, lend: bool = False) -> Upload:
        """Give another owner a view of the same bytes, at their start.

        If they are lent, this one owns them only so that the other can.
        """
        blob = self._view.sealed()
        return Upload(
            blob,
            owner=owner,
            filename=self.filename,
            headers=self.headers,
            field_name=self.field_name,
            origin=origin,
            lender=self._view.check_owned() if lend else None,
        )

    def _let_go(self) -> None:
        self._view.let_go()


async def _load_media_types(storage: Storage) -> None:
    """Read what the system knows of media types, which the first guess would do in the loop."""
    if not mimetypes.inited:
        await storage.threads.run(mimetypes.init)


def let_go_of_all(uploads: Iterable[Upload]) -> None:
    """Close uploads, each of them, even if closing another one raises."""
    remaining = iter(uploads)
    for upload in remaining:
        try:
            upload._let_go()
        except BaseException:  # noqa: PERF203
            let_go_of_all(remaining)
            raise
