"""The model of a disk does what the real one does: whatever is done to both, both tell the same."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from starlette_upload_keepalive.files.blob import Blob
from starlette_upload_keepalive.files.storage import Storage
from starlette_upload_keepalive.spool.disk import Disk
from tests.power_cut.log import Synced
from tests.power_cut.model_disk import Files, ModelDisk

# Few names, so that they meet; some lead through what may be a file.
PATHS = st.sampled_from(["a", "b", "a/a", "a/b", "b/a", "a/a/a", "a/b/a"])
DATA = st.binary(max_size=3)
STEPS = st.one_of(
    st.tuples(st.sampled_from(["make_directory", "remove_directory", "names"]), PATHS),
    st.tuples(st.sampled_from(["remove", "size", "is_directory", "sync_directory"]), PATHS),
    st.tuples(st.sampled_from(["rename", "link"]), PATHS, PATHS),
    st.tuples(st.sampled_from(["write_file", "unsynced", "store"]), PATHS, DATA),
    st.tuples(st.just("read_file"), PATHS, st.integers(0, 3)),
    st.tuples(st.just("blob"), PATHS),
)


class Both:
    """A real disk and a model, to which the same is done."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.storage = Storage()
        self.model = ModelDisk(Files())
        self.real = Disk(root)
        self.real.open()
        self.model.open()
        self.synced = list[int]()

    def do(self, step: tuple[Any, ...]) -> None:
        name, *arguments = step
        if not self.may(name, *arguments):
            return
        self.synced.clear()
        before = len(self.model.files.log)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "fsync", self.sync)
            real = outcome(lambda: self.call(self.real, name, *arguments))
        assert outcome(lambda: self.call(self.model, name, *arguments)) == real, step
        asked = [event for event in self.model.files.log[before:] if isinstance(event, Synced)]
        assert len(asked) == len(self.synced), step
        for event, inode in zip(asked, self.synced, strict=True):
            path = self.path_of(event.inode)
            assert os.stat(self.root / path).st_ino == inode, step

    def may(self, name: str, path: str, *rest: Any) -> bool:
        """Leave out what the spool never does, and the model has no answer to."""
        if name == "rename":
            target = self.root / rest[0]
            return not os.path.lexists(target) and not f"{target}/".startswith(
                f"{self.root / path}/"
            )
        return name != "blob" or not (self.root / path).is_dir()

    def call(self, disk: Disk, name: str, path: str, *rest: Any) -> object:
        if name == "names":
            return sorted(disk.names(path))
        if name == "unsynced":
            disk.write_file(path, *rest, sync=False)
            return None
        if name in ("store", "blob"):
            return getattr(self, name)(disk, path, *rest)
        return getattr(disk, name)(path, *rest)

    def store(self, disk: Disk, path: str, data: bytes) -> None:
        blob = Blob(self.storage)
        owner = blob.own("the test")
        try:
            blob.fill([data])
            disk.store(path, blob)
        finally:
            owner.let_go()

    def blob(self, disk: Disk, path: str) -> bytes:
        blob = disk.blob(path, self.storage)
        owner = blob.own("the test")
        try:
            with blob.open() as file:
                return file.read()
        finally:
            owner.let_go()

    def sync(self, fd: int) -> None:
        self.synced.append(os.fstat(fd).st_ino)

    def path_of(self, inode: int) -> str:
        """Return a path of an inode of the model; the shortest will do."""
        ahead = [("", 0)]
        for path, directory in ahead:
            if directory == inode:
                return path or "."
            entries = self.model.files.directories.get(directory, {})
            ahead += [(f"{path}/{name}".lstrip("/"), link.inode) for name, link in entries.items()]
        raise AssertionError("it has no name")


def outcome(call: Callable[[], object]) -> object:
    try:
        return call()
    except Exception as error:  # noqa: BLE001
        return type(error)


@given(st.lists(STEPS, max_size=30))
@settings(max_examples=300, deadline=None, database=None, derandomize=True)
def test_what_is_done_to_a_disk_has_the_same_outcome_on_the_model(
    steps: list[tuple[Any, ...]],
) -> None:
    with tempfile.TemporaryDirectory() as root:
        both = Both(Path(root))
        try:
            for step in steps:
                both.do(step)
        finally:
            both.real.close()


def test_a_lock_is_held_by_one_process_until_it_ends() -> None:
    files = Files()
    disk, other = ModelDisk(files), ModelDisk(files)
    lock = disk.lock("lock", create=True)

    assert lock is not None
    assert other.lock("lock") is None
    assert other.lock("missing") is None
    with pytest.raises(FileExistsError):
        other.lock("lock", create=True)
    disk.kill()
    assert other.lock("lock") is not None


def test_the_lock_that_one_has_is_taken() -> None:
    disk = ModelDisk(Files())
    disk.lock("lock", create=True)
    assert disk.lock("lock") is None


def test_a_name_that_is_taken_is_not_renamed_onto() -> None:
    disk = ModelDisk(Files())
    disk.make_directory("a")
    disk.make_directory("b")

    with pytest.raises(AssertionError, match="taken"):
        disk.rename("a", "b")
