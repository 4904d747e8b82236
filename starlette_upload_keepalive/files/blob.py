"""The stored bytes of one file part, and who owns them."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple, NoReturn, cast

from starlette_upload_keepalive.exceptions import UploadClosed
from starlette_upload_keepalive.quantities import KIB, MIB

from .checksum import Checksum
from .memory_file import MemoryFile
from .owner import Owner
from .private_file import PrivateFile
from .storage import Storage

# Closing takes the kernel about 0.1 ms per MB; above this the loop would feel it.
_CLOSE_INLINE = 4 * MIB
# Slices smaller than this are gathered in one buffer: each bytes object costs 33 bytes by itself.
_SMALL = 4 * KIB
# What is on its way to the disk takes the memory budget in steps: each message by itself would
# feel it.
_STEP = 256 * KIB
# Without a budget this is worth a write: a message or two of most servers. A thread for each of
# them would be slower than Starlette is.
_LEAST_WITHOUT_BUDGET = 128 * KIB


class Batch(NamedTuple):
    """Bytes that belong on disk, in pieces of any size; and what the memory budget counts."""

    pieces: list[bytes | bytearray | memoryview]
    counted: int


class Blob:
    """The stored bytes of one file part.

    A blob is filled once (`append`, `take_batch` and `write_batch`, or `fill`)
    and never changes after it was first read. It is in memory while it is small
    and the budget allows it, else in one private file. It counts its owners;
    when the last lets go it is closed, exactly once and without waiting for
    anything.

    Args:
        storage: Where the bytes are to live.
    """

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.field_name: str | None = None  # of its upload, by which people know it
        self.filename: str | None = None
        self.size: int = 0
        self._lock = threading.RLock()
        self._owners: set[Owner] = set()
        self._closed = False
        self._pending: list[bytes | bytearray | memoryview] = []
        self._pending_size = 0
        # Taken of the memory budget: for what is collected, and for batches that are not written.
        self._counted = 0
        self._counted_in_batches = 0
        self._stored = 0  # of the budget of bytes on disk
        self._on_disk = False
        self._data: bytes | None = None
        self._file: PrivateFile | None = None
        self._offered = False
        self._checksum: Checksum | None = None
        storage.add(self)

    # Owners

    def own(self, name: str, lender: Owner | None = None) -> Owner:
        """Add an owner.

        Args:
            name: Who it is, for people.
            lender: Who owns it only so that this one can.

        Raises:
            UploadClosed: The last owner has let go before.
        """
        owner = Owner(self._release, name, lender)
        with self._lock:
            if self._closed:
                self._raise_closed()
            self._owners.add(owner)
        return owner

    @property
    def owners(self) -> list[str]:
        """The names of those who own it."""
        return sorted(owner.name for owner in self.held_by)

    @property
    def held_by(self) -> list[Owner]:
        """Those who own it."""
        with self._lock:
            return list(self._owners)

    @property
    def closed(self) -> bool:
        """Whether the last owner has let go."""
        return self._closed

    def _release(self, owner: Owner) -> None:
        with self._lock:
            if owner not in self._owners:
                return
            self._owners.remove(owner)
            if self._owners:
                return
            self._closed = True
        self._close()

    def _close(self) -> None:
        self._data = None
        self._pending = []
        # Also of batches that nobody will write: with the first that can't be, the blob goes.
        self.storage.memory.give_back(self._counted + self._counted_in_batches)
        self.storage.remove(self)
        file, self._file = self._file, None
        if file is None:
            return
        self.storage.disk.give_back(self._stored)
        try:
            file.unlink()
        finally:
            self.storage.close_file(file, later=self.size > _CLOSE_INLINE)

    # Filling

    def append(self, data: bytes | bytearray | memoryview) -> None:
        """Collect bytes; `unwritten` tells how many of them belong on disk."""
        if type(data) is bytearray:
            data = bytes(data)  # the caller's, who may change it
        size = len(data)
        self.size += size
        self._pending_size += size
        if not self._on_disk:
            if self.size <= self.storage.memory_max_size and self.storage.memory.take(size):
                self._counted += size
                data = bytes(data)  # of a view, so that it does not keep all that it looks at
            else:
                self._on_disk = True
        if self._pending_size > self._counted:
            self._count_more()
        if size >= _SMALL or not self._pending:
            self._pending.append(data)
        elif isinstance(last := self._pending[-1], bytearray):
            last += data
        else:
            self._pending.append(bytearray(data))

    @property
    def unwritten(self) -> int:
        """The bytes that are collected and belong on disk."""
        return self._pending_size if self._on_disk else 0

    @property
    def lacks_memory(self) -> bool:
        """Whether the budget had too little left for what is collected."""
        return self._pending_size > self._counted

    def is_due(self, enough: int) -> bool:
        """Whether it has collected enough to be worth a write; less is, if memory lacks."""
        size = self._pending_size
        worth_it = size >= enough or (size > self._counted and size >= _LEAST_WITHOUT_BUDGET)
        return self._on_disk and worth_it

    def take_batch(self) -> Batch:
        """Take what is collected, for `write_batch`."""
        batch = Batch(self._pending, self._counted)
        self._pending, self._pending_size, self._counted = [], 0, 0
        with self._lock:  # others are being written
            self._counted_in_batches += batch.counted
        return batch

    def write_batch(self, batch: Batch) -> None:
        """Write the next batch. Blocks: for worker threads, one after the other.

        Raises:
            OSError: The device is full or failed, or no descriptor is left. The
                blob can then only be let go of.
        """
        if self._file is None:
            self._file = self.storage.create_file()
        size = sum(map(len, batch.pieces))
        self.storage.take_space(self._file, size)
        self._stored += size
        self._file.write(batch.pieces)
        if self.storage.sha256:
            self._own_checksum().update(batch.pieces)
        with self._lock:
            self._counted_in_batches -= batch.counted
        self.storage.memory.give_back(batch.counted)

    def write_out(self) -> None:
        """Write what is collected, as by `write_batch`. Blocks: for worker threads."""
        self.write_batch(self.take_batch())

    def fill(self, chunks: Iterable[bytes], *, on_disk: bool = False) -> None:
        """Take all bytes from chunks. Blocks: for worker threads.

        Args:
            chunks: The bytes, in pieces of any size.
            on_disk: Use a file, however few bytes there are.

        Raises:
            OSError: The device is full or failed, or no descriptor is left.
        """
        if on_disk:
            self._on_disk = True
            self.write_out()
        for chunk in chunks:
            self.append(chunk)
            if self.is_due(MIB):
                self.write_out()
        if self.unwritten:
            self.write_out()

    async def fill_in_thread(
        self, chunks: Callable[[], Iterable[bytes]], *, on_disk: bool = False
    ) -> None:
        """Take all bytes from chunks, in a worker thread.

        Args:
            chunks: Makes the chunks; it is called in the thread.
            on_disk: Use a file, however few bytes there are.

        Raises:
            OSError: The device is full or failed, or no descriptor is left.

        Cancellation: the thread fills it to the end; it owns the blob meanwhile.
        """
        filler = self.own("a copy in progress")
        await self.storage.threads.run(
            lambda: self.fill(chunks(), on_disk=on_disk), let_go=filler.let_go
        )

    def adopt(self, file: PrivateFile, size: int) -> None:
        """Take over a file that holds all the bytes."""
        self.storage.open_files.add(1)
        self.storage.disk.add(size)
        self._stored = size
        self._on_disk = True
        self._file = file
        self.size = size

    def hold(self, data: bytes) -> None:
        """Take all the bytes as they are: they are in memory already, and stay there."""
        self.storage.memory.add(len(data))
        self.size = self._pending_size = self._counted = len(data)
        self._pending = [data]

    def _count_more(self) -> None:
        size = max(_STEP, self._pending_size - self._counted)
        if self.storage.memory.take(size):
            self._counted += size

    # Reading

    @property
    def in_memory(self) -> bool:
        """Whether reading it never waits for a disk."""
        return not self._on_disk

    def open(self) -> BinaryIO:
        """Open a read-only file on the bytes, with a position of its own.

        Raises:
            UploadClosed: The last owner has let go before.
            UploadChanged: The bytes were given to the user, and changed.
            OSError: No descriptor is left.
        """
        if not self._on_disk:
            return MemoryFile(self._joined())
        with self._in_use() as file:
            return open(file.reopen(), "rb")

    def open_writable(self) -> BinaryIO:
        """Open the one file for reading and writing; only for a blob on disk with one owner."""
        with self._in_use() as file:
            self._checksum = None  # of the bytes as they were
            return cast("BinaryIO", open(file.duplicate(), "r+b"))

    def link(self, path: Path) -> None:
        """Give the file one more name, without a copy; only for a blob on disk.

        Raises:
            OSError: The path exists, or lies on another filesystem.
            NotImplementedError: The file is the user's, or the system has no links.
        """
        with self._in_use() as file:
            if self._offered:
                raise NotImplementedError("The file was saved: its permissions are the user's.")
            file.link(path)

    def keep(self, path: Path) -> None:
        """Give the file a name that outlives the blob, and have its bytes on the disk. Blocks.

        It is given to nobody else any more: what bears that name never changes.

        Raises:
            OSError: The path exists, or lies on another filesystem, or the disk failed.
            NotImplementedError: The file is in memory or the user's, or the system has no links.
        """
        with self._in_use() as file:
            with self._lock:
                if self._offered or not (file.ours or file.kept):
                    raise NotImplementedError("The file may be changed by others.")
                kept, file.kept = file.kept, True
            try:
                file.link(path)
            except BaseException:
                file.kept = kept
                raise
            os.fchmod(file.fileno(), 0o400)
            os.fsync(file.fileno())

    @contextmanager
    def offered(self, owner: Owner) -> Generator[PrivateFile | None, None, None]:
        """Offer the file itself to its last owner, who may `give` it to the user.

        It is given once: two names of one file would not be two files.

        Args:
            owner: Who asks. Those in its line may own the blob, too.

        Yields:
            The file; None if it is in memory, not ours alone, or given or offered already.
        """
        with self._lock:
            file = self._file
            free = file is not None and file.ours and not (file.kept or self._offered)
            last = free and self._owners <= owner.line
            self._offered = self._offered or last
        if file is None or not last:
            yield None
            return
        try:
            yield file
        finally:
            self._offered = file.given

    def check_unchanged(self) -> None:
        """See whether the bytes are still those that were stored.

        Raises:
            UploadChanged: They were given to the user, and changed.
        """
        if self._offered:
            with self._in_use() as file:
                file.check_unchanged()

    def sha256(self) -> str:
        """Return the SHA-256 of the bytes, in hex; blocks unless it is known.

        Raises:
            UploadClosed: The last owner has let go before.
            UploadChanged: They were given to the user, and changed before it was known.
            OSError: No descriptor is left.
        """
        return self._own_checksum().of(self.open, self.size, self.check_unchanged)

    def _joined(self) -> bytes:
        """Join what is in memory, when it is read first: many a file never is."""
        with self._lock:
            if self._closed:
                self._raise_closed()
            if self._data is None:
                pending, self._pending = self._pending, []
                whole = pending[0] if len(pending) == 1 else b"".join(pending)
                self._data = bytes(whole)
            return self._data

    @contextmanager
    def _in_use(self) -> Generator[PrivateFile, None, None]:
        # Owned rather than locked: who lets go meanwhile must not wait for the disk.
        user = self.own("a use in progress")
        try:
            yield cast("PrivateFile", self._file)
        finally:
            user.let_go()

    def _own_checksum(self) -> Checksum:
        with self._lock:
            if self._checksum is None:
                self._checksum = Checksum()
            return self._checksum

    def _raise_closed(self) -> NoReturn:
        raise UploadClosed(
            "The upload is closed: its last owner has let go. Code that outlives the request "
            "takes its own view first, with detach(file) or handler.submit(file)."
        )
