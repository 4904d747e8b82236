"""A view is one owner's: what it does to its file, no other view sees."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Iterator
from typing import BinaryIO

import anyio
import pytest

from starlette_upload_keepalive import UploadClosed
from starlette_upload_keepalive.files.blob import Blob
from starlette_upload_keepalive.files.chunks import chunks_of
from starlette_upload_keepalive.files.storage import Storage
from starlette_upload_keepalive.files.view import View
from starlette_upload_keepalive.quantities import MIB
from tests.stored import CANCELS, Gate, cancel, content, count_closings, wait_until_idle

pytestmark = pytest.mark.anyio


def view_of(storage: Storage, data: bytes) -> View:
    blob = Blob(storage)
    parser = blob.own("the parser")
    blob.fill([data], on_disk=storage.memory_max_size == 0)
    view = View(blob, "the test")
    parser.let_go()
    return view


def test_the_file_is_opened_when_it_is_asked_for(storage: Storage) -> None:
    """P7: ten views that nobody reads take no ten descriptors."""
    view = view_of(storage, b"abc")
    assert view._file is None
    file = view.file()
    assert view.file() is file
    view.let_go()
    assert file.closed


def test_let_go_again_does_nothing(storage: Storage) -> None:
    """P2: neither to the file nor to what others own."""
    view = view_of(storage, b"abc")
    other = View(view.blob, "another")
    view.let_go()
    view.let_go()
    assert view.closed
    assert other.file().read() == b"abc"
    other.let_go()


async def test_nothing_can_be_done_after_it_let_go(storage: Storage) -> None:
    view = view_of(storage, b"abc")
    view.file()
    view.let_go()
    for use in (view.file, view.sealed, view.check_owned, lambda: view.put(io.BytesIO())):
        with pytest.raises(UploadClosed, match="the test has let go of it"):
            use()
    with pytest.raises(UploadClosed):
        await view.make_writable()


async def test_a_private_copy_is_seen_by_its_owner_alone(storage: Storage) -> None:
    """P3: and it has all bytes, at the same position."""
    data = os.urandom(2 * MIB)
    view = view_of(storage, data)
    other = View(view.blob, "another")
    view.file().seek(5)
    await view.make_writable()
    assert view.file().tell() == 5
    view.file().write(b"XYZ")
    view.file().seek(0)
    assert view.file().read() == data[:5] + b"XYZ" + data[8:]
    assert other.file().read() == data
    view.let_go()
    other.let_go()


@pytest.mark.parametrize("waits", [False, True])
def test_only_bytes_in_memory_never_wait(storage: Storage, waits: bool) -> None:
    """P7: a file that the owner put in place may be slow."""
    view = view_of(storage, b"abc")
    if waits:
        view.put(io.BytesIO())
    assert view.waits is (waits or storage.memory_max_size == 0)
    view.let_go()


# Sealed


async def test_what_is_written_is_shared_and_not_copied_again(storage: Storage) -> None:
    """P3: write then share: the other sees what was written, and no more."""
    view = view_of(storage, b"abcdef")
    await view.make_writable()
    view.file().seek(4)
    view.file().write(b"XYZ")
    private = view.blob
    view.file().seek(2)
    assert view.sealed() is private
    assert private.size == 7
    assert view.file().read() == b"cdXYZ"
    with pytest.raises(io.UnsupportedOperation):
        view.file().write(b"!")
    await view.make_writable()
    view.file().seek(0)
    view.file().write(b"!!!")
    assert view.blob is not private
    view.let_go()
    assert storage.open_blobs == 0


async def test_a_write_after_a_share_is_not_seen(storage: Storage) -> None:
    """P3: share then write."""
    view = view_of(storage, b"abc")
    other = View(view.sealed(), "another")
    await view.make_writable()
    view.file().write(b"X")
    assert content(other.blob) == b"abc"
    assert content(view.sealed()) == b"Xbc"
    assert storage.open_blobs == 2
    view.let_go()
    other.let_go()


def test_a_file_that_was_put_is_shared_as_it_is_now(storage: Storage) -> None:
    """P3: put then share: later changes to the file change nobody's bytes."""
    view = view_of(storage, b"abc")
    theirs = io.BytesIO(b"theirs")
    theirs.seek(2)
    view.put(theirs)
    blob = view.sealed()
    assert content(blob) == b"theirs"
    assert view.file().read() == b"eirs"
    assert not view.own_file
    assert theirs.closed
    view.let_go()


def test_a_copy_that_fails_leaves_nothing(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "of the test")

    view = view_of(storage, b"abc")
    theirs = io.BytesIO(b"theirs")
    view.put(theirs)
    with monkeypatch.context() as patch:
        patch.setattr(Blob, "fill", fail)
        with pytest.raises(OSError, match="of the test"):
            view.sealed()
    assert storage.open_blobs == 1
    assert content(view.sealed()) == b"theirs"
    view.let_go()


def test_a_view_that_is_closed_while_it_is_copied_stays_closed(storage: Storage) -> None:
    """P2: another thread lets go in mid-share."""

    class LettingGo(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            view.let_go()
            return b""

    view = view_of(storage, b"abc")
    view.put(LettingGo(b"theirs"))
    with pytest.raises(UploadClosed):
        view.sealed()
    assert view.closed
    assert storage.open_blobs == 0


# Put


def test_a_file_that_was_put_is_closed_with_the_view(storage: Storage) -> None:
    view = view_of(storage, b"abc")
    ours, first, second = view.file(), io.BytesIO(), io.BytesIO()
    view.put(first)
    view.put(second)
    assert view.file() is second
    view.let_go()
    assert [ours.closed, first.closed, second.closed] == [True, True, True]


def test_a_file_that_was_put_may_wrap_the_one_it_replaces(storage: Storage) -> None:
    """As with Starlette, where a wrapper around ``.file`` goes on reading it."""
    view = view_of(storage, b"abc")
    view.put(Shouting(view.file()))
    assert view.file().read() == b"ABC"
    assert content(view.sealed()) == b"ABC"
    view.let_go()


def test_a_file_that_fails_to_close_keeps_no_other_open(storage: Storage) -> None:
    """P2: the error is told, all else closed."""
    view = view_of(storage, b"abc")
    ours = view.file()
    view.put(Failing())
    with pytest.raises(OSError, match="of the test"):
        view.let_go()
    assert ours.closed
    assert view.closed


class Shouting(io.BytesIO):
    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self._wrapped = file

    def read(self, size: int | None = -1, /) -> bytes:
        return self._wrapped.read(-1 if size is None else size).upper()

    def seek(self, offset: int, whence: int = 0, /) -> int:
        return self._wrapped.seek(offset, whence)

    def tell(self) -> int:
        return self._wrapped.tell()


class Failing(io.BytesIO):
    def close(self) -> None:
        super().close()
        raise OSError(errno.EIO, "of the test")


# Cancelled and concurrent copies


@pytest.mark.parametrize(("anyio_backend", "how"), CANCELS)
async def test_a_cancelled_copy_is_finished_and_dropped(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """P2: the thread reads from a file of its own, whatever happens to the view."""
    gate, filled = Gate(), list[int]()
    closings = count_closings(monkeypatch)
    view = view_of(storage, b"x" * (2 * MIB))
    fill = Blob.fill

    def gated_fill(blob: Blob, chunks: Iterator[bytes], *, on_disk: bool = False) -> None:
        gate.enter()
        fill(blob, chunks, on_disk=on_disk)
        filled.append(blob.size)

    async def make_writable() -> None:
        try:
            await view.make_writable()
        finally:
            view.let_go()

    monkeypatch.setattr(Blob, "fill", gated_fill)
    await cancel(how, gate, make_writable)
    wait_until_idle(storage)
    assert filled == [2 * MIB]
    assert storage.open_blobs == 0
    assert len(closings) == (1 if storage.memory_max_size else 2)


async def test_a_copy_cancelled_before_it_began(storage: Storage) -> None:
    view = view_of(storage, b"abc")
    with anyio.CancelScope() as scope:
        scope.cancel()
        await view.make_writable()
    assert not view.own_file
    assert view.blob.owners == ["the test"]
    assert storage.open_blobs == 1
    view.let_go()


async def test_closed_while_it_is_copied(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    """P2: the copy has no owner, so it goes."""
    gate = Gate()
    view = view_of(storage, b"abc")
    monkeypatch.setattr(Blob, "fill", gate.before(Blob.fill))
    raised: list[BaseException] = []

    async def make_writable() -> None:
        try:
            await view.make_writable()
        except UploadClosed as error:
            raised.append(error)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(make_writable)
        await gate.entered()
        view.let_go()
        gate.open()
    assert len(raised) == 1
    assert storage.open_blobs == 0


@pytest.mark.parametrize("meanwhile", ["written", "put", "written and shared"])
async def test_of_two_copies_at_once_the_first_is_kept(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, meanwhile: str
) -> None:
    """P3: what one task has written, the other's copy does not take away."""
    gate = Gate()
    view = view_of(storage, b"abc")
    async with anyio.create_task_group() as tasks:
        with monkeypatch.context() as patch:
            patch.setattr(Blob, "fill", gate.before(Blob.fill))
            tasks.start_soon(view.make_writable)
            await gate.entered()
        if meanwhile == "put":
            view.put(io.BytesIO(b"Xbc"))
        else:
            await view.make_writable()
            view.file().write(b"X")
        if meanwhile == "written and shared":
            view.sealed()
        gate.open()
    assert content(view.sealed()) == b"Xbc"
    assert storage.open_blobs == 1
    view.let_go()


def test_a_file_is_read_in_pieces() -> None:
    """P7: a large file is never in memory as a whole."""
    sizes = [len(chunk) for chunk in chunks_of(io.BytesIO(b"x" * (2 * MIB + 1)))]
    assert sizes == [MIB, MIB, 1]
