"""Jobs for spools, and disks that fail."""

from __future__ import annotations

import errno
import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from starlette_upload_keepalive import JobState
from starlette_upload_keepalive.files.blob import Blob
from starlette_upload_keepalive.files.owner import Owner
from starlette_upload_keepalive.files.storage import Storage
from starlette_upload_keepalive.files.upload import let_go_of_all
from starlette_upload_keepalive.jobs.record import FileRecord, JobRecord, Standing
from starlette_upload_keepalive.jobs.spool import ClaimedJob, Ending, NewJob, Spool
from starlette_upload_keepalive.spool.catalog import Catalog
from starlette_upload_keepalive.spool.directory_spool import DirectorySpool
from starlette_upload_keepalive.spool.disk import Disk
from tests.pages import python_path

PATIENCE = 30  # seconds, which only a failure takes


class Maker:
    """Makes jobs, and owns their bytes meanwhile."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self._owners: list[Owner] = []

    def blob(self, data: bytes) -> Blob:
        blob = Blob(self.storage)
        self._owners.append(blob.own("the test"))
        blob.fill([data], on_disk=self.storage.memory_max_size == 0)
        return blob

    def job(self, *contents: bytes | Blob, handler: str = "work", **more: Any) -> NewJob:
        blobs = [self.blob(each) if isinstance(each, bytes) else each for each in contents]
        headers = [("content-type", "text/plain")]
        files = [
            FileRecord(blob.size, f"{number}.txt", headers, "files")
            for number, blob in enumerate(blobs)
        ]
        return NewJob(JobRecord(secrets.token_hex(16), handler, files, **more), blobs)

    def let_go(self) -> None:
        for owner in self._owners:
            owner.let_go()


def ended(state: JobState = JobState.SUCCEEDED, at: float = 100.0, **more: Any) -> Ending:
    return Ending(state, at, **more)


def released(spool: Spool, *jobs: NewJob, due: float = 0.0, attempts: int = 0) -> None:
    """Have jobs wait for whoever claims them."""
    for job in jobs:
        spool.accept([job])
        spool.release(job.record.id, Standing(due, attempts))


def claimed(spool: Spool) -> list[ClaimedJob]:
    """Claim all that waits, in the order of ids."""
    found = [spool.claim(job) for job in sorted(spool.waiting())]
    return [job for job in found if job is not None]


def contents(job: ClaimedJob) -> list[bytes]:
    """Read the files of a job, and close them."""
    read = [upload.file.read() for upload in job.uploads]
    let_go_of_all(job.uploads)
    return read


def tree(root: Path) -> list[str]:
    """Return the paths of all plain files, without what is in the trash, or being parsed."""
    return sorted(
        str(path.relative_to(root))
        for path in root.rglob("*")
        if not (path.is_dir() or _is_parsed(path) or path.relative_to(root).parts[0] == "trash")
    )


def inside(root: Path, folder: str) -> list[Path]:
    return sorted(path for path in (root / folder).iterdir() if not _is_parsed(path))


def _is_parsed(path: Path) -> bool:
    """Whether it is a file of an upload that is not accepted, where such have a name."""
    return path.name.startswith("upload-")


def die(spool: DirectorySpool) -> None:
    """Have an owner end as its process would: the kernel closes what it has open."""
    lock, spool._lock = spool._lock, None
    assert lock is not None
    os.close(lock)
    spool._disk.close()
    spool._storage.move_to(None)


def without_syncing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for no device: that everything is synced is for other tests."""

    def nothing(_fd: int) -> None:
        pass

    monkeypatch.setattr(os, "fsync", nothing)


# Disks that fail

STEPS = {name for name in vars(Disk) if not name.startswith("_")} - {
    "open",
    "close",
    "unlock",
    "status",
}
WRITES = {"store", "write_file", "sync_directory"}


class FailingDisk(Disk):
    """Notes each step, and fails at one.

    Attributes:
        steps: The steps so far, by name.
        fail_at: At the how many-th it fails.
        late: Whether it then does what it can before, as a failing fsync would.
        error: What it fails with.
    """

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.steps: list[str] = []
        self.fail_at = -1
        self.late = False
        self.error: Callable[[], BaseException] = partial(OSError, errno.EIO, "injected")

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        return partial(self._step, name, found) if name in STEPS else found

    def _step(self, name: str, step: Callable[..., Any], *args: Any, **more: Any) -> Any:
        number = len(self.steps)
        self.steps.append(name)
        if number == self.fail_at:
            if self.late and name in WRITES:
                step(*args, **more)
            raise self.error()
        return step(*args, **more)

    def fail(self, at: int, *, late: bool = False) -> None:
        """Fail at a step from now on."""
        self.fail_at, self.late = len(self.steps) + at, late


def failing_spool(root: Path, **options: Any) -> tuple[DirectorySpool, FailingDisk]:
    spool = DirectorySpool(root, **options)
    disk = FailingDisk(root)
    spool._disk, spool._catalog = disk, Catalog(disk)
    return spool, disk


# Other processes


def run_python(script: str, *args: object, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a script to its end."""
    found = subprocess.run(
        [sys.executable, "-c", script, *map(str, args)],
        env={**os.environ, "PYTHONPATH": python_path()},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert not check or found.returncode == 0, found.stderr
    return found


@contextmanager
def python(script: str, *args: object) -> Generator[subprocess.Popen[str], None, None]:
    """Start a script, wait for its first line, and kill it at the end."""
    process = subprocess.Popen(
        [sys.executable, "-c", script, *map(str, args)],
        env={**os.environ, "PYTHONPATH": python_path()},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline(), "it has ended"
            yield process
        finally:
            process.kill()
