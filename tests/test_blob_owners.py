"""A blob is closed once, by its last owner, in whatever thread that is."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from starlette_upload_keepalive import UploadClosed
from starlette_upload_keepalive.files.blob import Blob
from starlette_upload_keepalive.files.private_file import PrivateFile
from starlette_upload_keepalive.files.storage import Storage
from starlette_upload_keepalive.quantities import MIB
from tests.stored import Gate, assert_empty, count_closings, make_storage

pytestmark = pytest.mark.anyio


def test_the_last_owner_closes_it_once(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    """P2: exactly once, however often each lets go."""
    closings = count_closings(monkeypatch)
    blob = Blob(storage)
    first, second = blob.own("second"), blob.own("first")
    blob.fill([b"abc"])
    assert blob.owners == ["first", "second"]
    first.let_go()
    first.let_go()
    assert blob.owners == ["first"]
    with blob.open() as file:
        assert file.read() == b"abc"
    second.let_go()
    second.let_go()
    assert blob.closed
    assert blob.owners == []
    assert len(closings) == (storage.memory_max_size == 0)


def test_what_is_closed_can_be_neither_owned_nor_opened(storage: Storage) -> None:
    blob = Blob(storage)
    owner = blob.own("the test")
    blob.fill([b"abc"])
    owner.let_go()
    for use in (lambda: blob.own("too late"), blob.open, lambda: blob.link(Path("x"))):
        with pytest.raises(UploadClosed, match="its last owner has let go"):
            use()


def test_owners_let_go_in_many_threads_at_once(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P2: exactly once, whoever is the last."""
    closings = count_closings(monkeypatch)
    barrier = threading.Barrier(8)
    for _ in range(20):
        blob = Blob(storage)
        owners = [blob.own(str(number)) for number in range(8)]
        blob.fill([b"abc"])

        def let_go(number: int, owners: Sequence[object] = tuple(owners)) -> None:
            barrier.wait()
            owners[number].let_go()  # type: ignore[attr-defined]

        threads = [threading.Thread(target=let_go, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(closings) == (20 if storage.memory_max_size == 0 else 0)


@pytest.mark.parametrize(("size", "by_the_closer"), [(4 * MIB, False), (4 * MIB + 1, True)])
def test_a_large_file_is_closed_by_the_closer(
    on_disk: Storage, monkeypatch: pytest.MonkeyPatch, size: int, by_the_closer: bool
) -> None:
    """P7: the kernel takes long for it, and the loop does not wait."""
    closed_in: list[int] = []
    close = PrivateFile.close

    def tell_and_close(file: PrivateFile) -> None:
        closed_in.append(threading.get_ident())
        close(file)

    monkeypatch.setattr(PrivateFile, "close", tell_and_close)
    blob = Blob(on_disk)
    owner = blob.own("the test")
    blob.fill([b"x" * size])
    owner.let_go()
    assert on_disk.open_blobs == 0
    on_disk.closer.drain()
    assert len(closed_in) == 1
    assert (closed_in != [threading.get_ident()]) is by_the_closer


def test_a_file_with_a_name_loses_it_before_the_closer_comes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """P2: no file is left if the process ends first."""
    storage = make_storage("named", monkeypatch)
    gate = Gate()
    storage.closer.close(gate.enter)
    blob = Blob(storage)
    owner = blob.own("the test")
    blob.fill([b"x" * (4 * MIB + 1)])
    assert len(os.listdir(storage.directory)) == 1
    owner.let_go()
    assert os.listdir(storage.directory) == []
    gate.open()
    assert_empty(storage)


def test_a_file_is_closed_although_its_name_can_not_be_removed(
    on_disk: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P2: the error is told, the descriptor closed."""

    def fail(_: PrivateFile) -> None:
        raise PermissionError(errno.EACCES, "of the test")

    closings = count_closings(monkeypatch)
    blob = Blob(on_disk)
    owner = blob.own("the test")
    blob.fill([b"abc"])
    monkeypatch.setattr(PrivateFile, "unlink", fail)
    with pytest.raises(PermissionError):
        owner.let_go()
    assert len(closings) == 1


def test_no_reader_comes_in_while_it_closes(
    on_disk: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P2: the descriptor that it would open may be another's by then."""
    refused: list[str] = []
    blob = Blob(on_disk)
    owner = blob.own("the test")
    blob.fill([b"abc"])

    def open_meanwhile(_: int) -> None:
        with pytest.raises(UploadClosed) as caught:
            blob.open()
        refused.append(str(caught.value))

    with monkeypatch.context() as patch:
        patch.setattr(on_disk.memory, "give_back", open_meanwhile)
        owner.let_go()
    assert len(refused) == 1


def test_a_reader_that_opens_owns_it_and_holds_nobody_up(
    on_disk: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P2, P7: the last owner lets go in mid-open, at once; the reader has its bytes."""
    blob = Blob(on_disk)
    owner = blob.own("the test")
    blob.fill([b"abc"])
    reopen = PrivateFile.reopen
    closed: list[bool] = []

    def let_go_and_reopen(file: PrivateFile) -> int:
        other = threading.Thread(target=owner.let_go)
        other.start()
        other.join()
        closed.append(blob.closed)
        return reopen(file)

    monkeypatch.setattr(PrivateFile, "reopen", let_go_and_reopen)
    with blob.open() as file:
        assert file.read() == b"abc"
    assert closed == [False]
    assert blob.closed
