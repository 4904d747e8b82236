"""Storages of each kind, and gates that hold a worker thread, for tests of the files."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import anyio
import anyio.to_thread
import pytest

from starlette_upload_keepalive import Upload
from starlette_upload_keepalive.files.blob import Blob
from starlette_upload_keepalive.files.private_file import PrivateFile
from starlette_upload_keepalive.files.storage import Storage
from starlette_upload_keepalive.files.threads import WorkerThreads
from starlette_upload_keepalive.quantities import MIB

T = TypeVar("T")

KINDS = ["memory", "anonymous", "named"]
"""In memory; in a file without a name; in a file with one."""

CANCELS = [("asyncio", "native"), ("asyncio", "anyio"), ("trio", "anyio")]
"""Event loops, and the ways in which each can cancel."""

# Only a test that fails waits that long, in seconds.
PATIENCE = 10


class WatchedThreads(WorkerThreads):
    """Worker threads that tell when none is at work, and that each lets go once."""

    def __init__(self, limit: int = 8) -> None:
        super().__init__(limit)
        self._busy = 0
        self._changed = threading.Condition()

    async def run(
        self,
        call: Callable[[], T],
        *,
        let_go: Callable[[], None] = lambda: None,
        abandon_on_cancel: bool = False,
    ) -> T:
        ended = threading.Lock()
        with self._changed:
            self._busy += 1

        def end() -> None:
            assert ended.acquire(blocking=False), "let go twice"
            try:
                let_go()
            finally:
                with self._changed:
                    self._busy -= 1
                    self._changed.notify_all()

        return await super().run(call, let_go=end, abandon_on_cancel=abandon_on_cancel)

    def wait_until_idle(self) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self._busy == 0, PATIENCE)


class Gate:
    """Holds a thread until it is opened."""

    def __init__(self) -> None:
        self._entered = threading.Event()
        self._open = threading.Event()

    def enter(self) -> None:
        self._entered.set()
        assert self._open.wait(PATIENCE)

    def open(self) -> None:
        self._open.set()

    async def entered(self) -> None:
        assert await anyio.to_thread.run_sync(self._entered.wait, PATIENCE)

    def before(self, call: Callable[..., T]) -> Callable[..., T]:
        """Make the call pass through the gate first."""

        def gated(*args: object, **kwargs: object) -> T:
            self.enter()
            return call(*args, **kwargs)

        return gated


def gate_of_writes(monkeypatch: pytest.MonkeyPatch) -> Gate:
    """Make a gate that each write of a private file passes first."""
    gate = Gate()
    monkeypatch.setattr(PrivateFile, "write", gate.before(PrivateFile.write))
    return gate


async def cancel(
    how: str, gate: Gate, operation: Callable[[], Coroutine[Any, Any, object]]
) -> None:
    """Cancel an operation while its thread is held; the gate is open afterwards.

    A native cancel ends the task while the thread is still at the gate.
    """
    if how == "native":
        task = asyncio.ensure_future(operation())
        await gate.entered()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    else:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(operation)
            await gate.entered()
            tasks.cancel_scope.cancel()
            gate.open()
    gate.open()


def make_storage(kind: str, monkeypatch: pytest.MonkeyPatch) -> Storage:
    """Make a storage that keeps all bytes in one kind of place."""
    if kind == "named":
        monkeypatch.setattr(PrivateFile, "anonymous", _no_anonymous_file)
    storage = Storage(memory_max_size=16 * MIB if kind == "memory" else 0)
    storage.threads = WatchedThreads()
    return storage


def make_upload(storage: Storage, data: bytes, owner: str = "the test") -> Upload:
    """Store bytes and give them to an owner."""
    blob = Blob(storage)
    parser = blob.own("the parser")
    blob.fill([data], on_disk=storage.memory_max_size == 0)
    upload = Upload(blob, owner=owner, filename="a.bin", field_name="files")
    parser.let_go()
    return upload


@asynccontextmanager
async def filling(storage: Storage) -> AsyncGenerator[Blob, None]:
    """A blob that is owned for as long as the block lasts."""
    blob = Blob(storage)
    owner = blob.own("the test")
    try:
        yield blob
    finally:
        owner.let_go()


def content(blob: Blob) -> bytes:
    """Read all bytes of a blob."""
    with blob.open() as file:
        return file.read()


def wait_until_idle(storage: Storage) -> None:
    """Wait for the threads that a cancelled task left behind."""
    assert isinstance(storage.threads, WatchedThreads)
    storage.threads.wait_until_idle()


def assert_empty(storage: Storage) -> None:
    """Fail if anything of a storage is still open. Descriptors are counted after each test."""
    wait_until_idle(storage)
    storage.closer.drain()
    assert storage.open_blobs == 0
    assert storage.memory.used == 0


def count_closings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that gets the descriptor of each private file as it is closed."""
    closings: list[int] = []
    close = PrivateFile.close

    def counted(file: PrivateFile) -> None:
        closings.append(file._fd)
        close(file)

    monkeypatch.setattr(PrivateFile, "close", counted)
    return closings


def _no_anonymous_file(directory: str) -> PrivateFile:
    raise NotImplementedError(directory)
