"""One owner's sight of a blob: a file with its own position, copied on the first write."""

from __future__ import annotations

from contextlib import ExitStack
from typing import BinaryIO

from starlette_upload_keepalive.exceptions import UploadClosed

from .blob import Blob
from .chunks import chunks_of
from .owner import Owner


class View:
    """One owner's file on a blob.

    The file is opened when it is first asked for. It is read-only until
    `make_writable` puts a private copy in its place, or `put` a file of the
    owner's. Whatever is there, `sealed` gives it to others as a blob.

    Args:
        blob: The bytes.
        owner: Who owns this view, for people.
        lender: Who owns the blob only so that this owner can.
    """

    __slots__ = ("_blob", "_file", "_own_file", "_owner", "_replaced", "_writable", "owner_name")

    def __init__(self, blob: Blob, owner: str, lender: Owner | None = None) -> None:
        self._blob = blob
        self._file: BinaryIO | None = None
        self._replaced: list[BinaryIO] = []  # files that those put in their place may wrap
        self._own_file = False  # whether the file holds other bytes than a sealed blob
        self._writable = False  # whether it is the file of a blob that nobody shares
        self.owner_name: str = owner
        self._owner: Owner | None = blob.own(owner, lender)

    @property
    def closed(self) -> bool:
        """Whether the owner has let go."""
        return self._owner is None

    @property
    def own_file(self) -> bool:
        """Whether the file is a private copy, or was put here by the owner."""
        return self._own_file

    @property
    def waits(self) -> bool:
        """Whether to use the file may wait for a disk."""
        return self._own_file or not self._blob.in_memory

    @property
    def blob(self) -> Blob:
        """The blob in sight, whose threads and directory are to be used."""
        return self._blob

    def file(self) -> BinaryIO:
        """Open the file, or return it if it is open.

        Raises:
            UploadClosed: The owner has let go.
            UploadChanged: The bytes were saved without a copy, and changed.
        """
        if self._file is None:
            self.check_owned()
            self._file = self._blob.open()
        self.check_unchanged()
        return self._file

    def check_unchanged(self) -> None:
        """See whether the bytes are still those that were stored.

        Raises:
            UploadChanged: They were saved without a copy, and changed.
        """
        if not self._own_file:
            self._blob.check_unchanged()

    def put(self, file: BinaryIO) -> None:
        """Put a file of the owner's in the place of ours; it is closed with the view."""
        self.check_owned()
        if self._file is not None:
            self._replaced.append(self._file)
        self._file, self._own_file, self._writable = file, True, False

    async def make_writable(self) -> None:
        """Put a private copy in the place of the file, at the same position.

        Raises:
            OSError: There is no space for the copy.

        Cancellation: the copy is finished by its thread and dropped.
        """
        position = self.file().tell()
        blob, copy = self._blob, Blob(self._blob.storage)
        copy.field_name, copy.filename = blob.field_name, blob.filename
        owner = copy.own(self.owner_name)
        source = View(blob, "a private copy in progress")
        filler = copy.own(source.owner_name)

        def let_go() -> None:
            filler.let_go()
            source.let_go()

        try:
            await blob.storage.threads.run(
                lambda: copy.fill(chunks_of(source.file()), on_disk=True), let_go=let_go
            )
            self.check_owned()
            blob.check_unchanged()
            file = copy.open_writable()
        except BaseException:
            owner.let_go()
            raise
        if self._own_file or self._blob is not blob:  # another task's write came first
            file.close()
            owner.let_go()
            return
        file.seek(position)
        self._become(copy, owner)
        self._file, self._own_file, self._writable = file, True, True

    def sealed(self) -> Blob:
        """Return the bytes that the owner sees as a blob, never to change again.

        A file that the owner put here is copied, which blocks.

        Raises:
            UploadClosed: The owner has let go.
            OSError: There is no space for the copy.
        """
        self.check_owned()
        if not self._own_file:
            return self._blob
        file = self.file()
        position = file.tell()
        if self._writable:
            size = file.seek(0, 2)
            file.flush()
            self._blob.size = size
        else:
            self._become(*self._copied(file))
        self._close_file()
        # The blob is shared from now on: who writes next makes another copy.
        self._own_file = self._writable = False
        self.file().seek(position)
        return self._blob

    def let_go(self) -> None:
        """Close the file and own the blob no longer. Again does nothing."""
        owner, self._owner = self._owner, None
        if owner is None:
            return
        try:
            self._close_file()
        finally:
            owner.let_go()

    def _copied(self, file: BinaryIO) -> tuple[Blob, Owner]:
        blob = Blob(self._blob.storage)
        blob.field_name, blob.filename = self._blob.field_name, self._blob.filename
        owner = blob.own(self.owner_name)
        try:
            file.seek(0)
            blob.fill(chunks_of(file))
        except BaseException:
            owner.let_go()
            raise
        return blob, owner

    def _become(self, blob: Blob, owner: Owner) -> None:
        """See another blob from now on."""
        try:
            former = self.check_owned()
        except UploadClosed:  # another thread let go meanwhile
            owner.let_go()
            raise
        self._close_file()
        self._owner, self._blob = owner, blob
        former.let_go()

    def _close_file(self) -> None:
        file, self._file = self._file, None
        if file is None:
            return
        replaced, self._replaced = self._replaced, []
        with ExitStack() as closing:
            for each in (*replaced, file):
                closing.callback(each.close)

    def check_owned(self) -> Owner:
        """Return the owner.

        Raises:
            UploadClosed: The owner has let go.
        """
        if self._owner is None:
            raise UploadClosed(
                f"The upload is closed: {self.owner_name} has let go of it. Code that outlives "
                "its owner takes a view of its own first, with detach(file) or submit(file)."
            )
        return self._owner
