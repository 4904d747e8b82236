"""Any sequence of what owners can do gives each the bytes and the position that a model says."""

from __future__ import annotations

import asyncio
import io
import os
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import anyio
import anyio.lowlevel
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from starlette_upload_keepalive import Upload, UploadClosed, detach
from starlette_upload_keepalive.files.blob import Blob
from starlette_upload_keepalive.files.storage import Storage
from tests.leak_checks import open_descriptors
from tests.stored import KINDS, assert_empty, make_storage, wait_until_idle

DATA = st.binary(max_size=40) | st.integers(4096, 9000).map(lambda size: b"\xa5" * size)
POSITION = st.integers(0, 60) | st.just(5000)
SIZE = st.integers(-1, 60)


@dataclass
class Owner:
    """What the model knows of one owner: the bytes it sees, where it stands, and whose blob."""

    upload: Upload
    content: bytes
    blob: object
    position: int = 0
    private: bool = False
    """Whether it writes to a copy that nobody shares, or to a file of its own."""
    put: bool = False
    closed: bool = False
    files: list[BinaryIO] = field(default_factory=list[BinaryIO])
    """The files it was seen with: the garbage collector must not close them."""


class Ownership(RuleBasedStateMachine):
    """Uploads of one storage, and what the model says of them."""

    kind: ClassVar[str]
    backend: ClassVar[str]
    owners = Bundle("owners")

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.descriptors = open_descriptors()
        self.storage: Storage = make_storage(self.kind, self.patch)
        if self.kind == "memory":  # some find no memory left
            self.storage.memory.limit = 10_000
        self.all: list[Owner] = []
        self._portal_context = start_blocking_portal(self.backend)
        self.portal: BlockingPortal = self._portal_context.__enter__()

    def teardown(self) -> None:
        try:
            for owner in self.all:
                self.portal.call(owner.upload.close)
            assert_empty(self.storage)
            for owner in self.all:
                assert all(file.closed for file in owner.files)
        finally:
            self._portal_context.__exit__(None, None, None)
            self.patch.undo()
        assert open_descriptors() == self.descriptors
        assert os.listdir(self.storage.directory) == []

    @property
    def open(self) -> list[Owner]:
        return [owner for owner in self.all if not owner.closed]

    # Where owners come from

    @rule(target=owners, slices=st.lists(DATA, max_size=4))
    def parse(self, slices: list[bytes]) -> Owner:
        blob = Blob(self.storage)
        parser = blob.own("the parser")
        for data in slices:
            blob.append(data)
            if blob.unwritten >= 64:
                blob.write_out()
        if blob.unwritten:
            blob.write_out()
        upload = Upload(blob, owner="the request")
        parser.let_go()
        return self.added(Owner(upload, b"".join(slices), blob=object()))

    @rule(target=owners, owner=owners, share=st.sampled_from(["detach", "submit"]))
    @precondition(lambda self: self.all)
    def share(self, owner: Owner, share: str) -> Owner:
        take: Callable[[], Upload] = (
            partial(detach, owner.upload)
            if share == "detach"
            else partial(owner.upload._share, "a job")
        )
        if owner.closed:
            with pytest.raises(UploadClosed):
                take()
            return owner
        upload = take()
        if owner.put:
            owner.blob = object()
        owner.put = owner.private = False
        assert upload.size == len(owner.content)
        return self.added(Owner(upload, owner.content, blob=owner.blob))

    def added(self, owner: Owner) -> Owner:
        self.all.append(owner)
        return owner

    # What an owner does

    @rule(owner=owners, size=SIZE, plainly=st.booleans())
    def read(self, owner: Owner, size: int, plainly: bool) -> None:
        if owner.closed:
            self.refused(owner, partial(owner.upload.read, size))
            return
        expected = owner.content[owner.position :]
        if size >= 0:
            expected = expected[:size]
        if plainly:
            owner.files.append(owner.upload.file)
            assert owner.upload.file.read(size) == expected
        else:
            assert self.portal.call(owner.upload.read, size) == expected
        owner.position += len(expected)
        assert owner.upload.file.tell() == owner.position

    @rule(owner=owners, position=POSITION)
    def seek(self, owner: Owner, position: int) -> None:
        if owner.closed:
            self.refused(owner, partial(owner.upload.seek, position))
            return
        self.portal.call(owner.upload.seek, position)
        owner.position = position

    @rule(owner=owners, data=DATA)
    def write(self, owner: Owner, data: bytes) -> None:
        if owner.closed:
            self.refused(owner, partial(owner.upload.write, data))
            return
        self.portal.call(owner.upload.write, data)
        owner.content = written(owner, data)
        owner.position += len(data)
        self.made_private(owner)

    @rule(owner=owners, data=DATA, position=POSITION)
    def replace_file(self, owner: Owner, data: bytes, position: int) -> None:
        file = io.BytesIO(data)
        file.seek(position)
        if owner.closed:
            with pytest.raises(UploadClosed):
                owner.upload.file = file
            return
        owner.files.append(file)
        owner.upload.file = file
        owner.content, owner.position = data, position
        owner.put, owner.private = True, False

    @rule(owner=owners)
    def expose(self, owner: Owner) -> None:
        if owner.closed:
            with pytest.raises(UploadClosed):
                owner.upload.as_path()
            return
        with owner.upload.as_path() as path:
            assert path.read_bytes() == owner.content
        self.was_sealed(owner)

    @rule(owner=owners)
    def save(self, owner: Owner) -> None:
        path = Path(self.storage.directory) / "saved"
        if owner.closed:
            self.refused(owner, partial(owner.upload.save, path))
            return
        self.portal.call(owner.upload.save, path)
        assert path.read_bytes() == owner.content
        path.unlink()
        self.was_sealed(owner)

    @rule(owner=owners, again=st.booleans())
    def close(self, owner: Owner, again: bool) -> None:
        self.portal.call(owner.upload.close)
        if again:
            owner.upload._let_go()
        owner.closed = True

    @rule(owner=consumes(owners))
    def close_for_good(self, owner: Owner) -> None:
        self.close(owner, again=False)

    # Cancelled half-way: then the position is undefined

    @rule(owner=owners, how=st.sampled_from(["anyio", "native"]), after=st.integers(0, 3))
    def cancel_a_read(self, owner: Owner, how: str, after: int) -> None:
        if not owner.closed:
            self.cancel(how, after, owner.upload.read)
            self.seek(owner, 0)

    @rule(
        owner=owners, data=DATA, how=st.sampled_from(["anyio", "native"]), after=st.integers(0, 5)
    )
    def cancel_a_write(self, owner: Owner, data: bytes, how: str, after: int) -> None:
        if owner.closed:
            return
        self.cancel(how, after, partial(owner.upload.write, data))
        if owner.upload._view.own_file:
            self.made_private(owner)
        self.portal.call(owner.upload.seek, 0)
        seen = self.portal.call(owner.upload.read)
        assert seen in {owner.content, written(owner, data)}
        owner.content, owner.position = seen, len(seen)

    @rule(
        owner=owners, data=DATA, how=st.sampled_from(["anyio", "native"]), after=st.integers(0, 5)
    )
    def cancel_a_write_and_close(self, owner: Owner, data: bytes, how: str, after: int) -> None:
        if owner.closed:
            return

        async def write_and_close() -> None:
            try:
                await owner.upload.write(data)
            finally:
                owner.upload._let_go()

        owner.closed = True
        self.cancel(how, after, write_and_close)

    def cancel(
        self, how: str, after: int, operation: Callable[[], Coroutine[Any, Any, object]]
    ) -> None:
        """Cancel an operation at one of its first checkpoints, and wait for its thread."""
        natively = how == "native" and self.backend == "asyncio"
        self.portal.call(cancel_natively if natively else cancel_in_scope, after, operation)
        wait_until_idle(self.storage)

    # What holds at any time

    @invariant()
    def as_many_blobs_are_open_as_are_owned(self) -> None:
        assert self.storage.open_blobs == len({owner.blob for owner in self.open})
        if not self.open:
            assert self.storage.memory.used == 0

    @invariant()
    def memory_is_within_its_budget(self) -> None:
        assert 0 <= self.storage.memory.used <= self.storage.memory.limit

    def was_sealed(self, owner: Owner) -> None:
        if owner.put:
            owner.blob = object()
        owner.put = owner.private = False

    def made_private(self, owner: Owner) -> None:
        if not (owner.put or owner.private):
            owner.blob, owner.private = object(), True

    def refused(self, owner: Owner, call: Callable[[], Coroutine[Any, Any, object]]) -> None:
        assert owner.upload._view.closed
        with pytest.raises(UploadClosed):
            self.portal.call(call)


def written(owner: Owner, data: bytes) -> bytes:
    """What an owner sees after it wrote; a gap before it is filled with zeros."""
    if not data:
        return owner.content
    start = owner.content[: owner.position].ljust(owner.position, b"\0")
    return start + data + owner.content[owner.position + len(data) :]


async def cancel_in_scope(after: int, operation: Callable[[], Coroutine[Any, Any, object]]) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(operation)
        for _ in range(after):
            await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()


async def cancel_natively(after: int, operation: Callable[[], Coroutine[Any, Any, object]]) -> None:
    task = asyncio.ensure_future(operation())
    for _ in range(
        1 + after
    ):  # asyncio does not even begin what is cancelled before its first step
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("kind", KINDS)
def test_owners_see_what_the_model_says(kind: str, backend: str) -> None:
    """P1, P2, P3: whatever owners do, in whatever order, and wherever the bytes are."""
    machine = type("Machine", (Ownership,), {"kind": kind, "backend": backend})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=60,
            stateful_step_count=25,
            deadline=None,
            database=None,
            derandomize=True,
        ),
    )
