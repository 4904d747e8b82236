"""P9: what becomes of jobs when processes end, on one spool that several share."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from starlette_upload_keepalive.files.storage import Storage
from starlette_upload_keepalive.jobs.record import Standing
from starlette_upload_keepalive.spool.directory_spool import DirectorySpool
from starlette_upload_keepalive.spool.disk import Disk
from tests.crash_worker import EXIT_CODE, log_of
from tests.owners import PATIENCE, line_of, new_job, owning
from tests.servers import ROOT, eventually
from tests.spooled import entries, make_root, names


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = make_root(tmp_path)
    log_of(root).touch()
    return root


@contextmanager
def worker(root: Path) -> Generator[subprocess.Popen[str]]:
    """Run what waits in a spool, in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.crash_worker", str(root)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def exit_code(root: Path) -> int:
    """Run a worker to its end."""
    with worker(root) as process:
        return process.wait(PATIENCE)


def wait_in(root: Path, *handlers: str) -> list[str]:
    """Have a job of each handler wait, the first the longest; return their ids."""
    with owning(root) as spool:
        storage = storage_of(spool)
        jobs = [new_job(storage, b"data", handler=handler) for handler in handlers]
        for number, job in enumerate(jobs):
            spool.accept([job])
            spool.release(job.record.id, Standing(number))
    return [job.record.id for job in jobs]


class HastyDisk(Disk):
    """Makes many jobs in little time: no power cut is to be survived."""

    def sync_directory(self, path: str) -> None:
        pass

    def write_file(self, path: str, data: bytes, *, mode: int = 0o600, sync: bool = True) -> None:
        super().write_file(path, data, mode=mode, sync=False)


def storage_of(spool: DirectorySpool) -> Storage:
    assert spool._storage is not None
    return spool._storage


def ran(root: Path) -> list[str]:
    """The jobs that handlers have run, as often as they did."""
    return log_of(root).read_text().split()


def test_job_that_ends_its_process_each_time_is_given_up(root: Path) -> None:
    """And others go on."""
    bad, *good = wait_in(root, "ends_its_process", "work", "work", "work")
    assert [exit_code(root) for _ in range(4)] == [EXIT_CODE, EXIT_CODE, EXIT_CODE, 0]
    (dead,) = entries(root, "dead")
    assert (dead.id, dead.state) == (bad, "f")
    assert (dead.standing.attempts, dead.standing.crashes, dead.standing.failures) == (3, 3, 0)
    assert sorted(ran(root)) == sorted(good)
    with owning(root) as spool:
        found = spool.find(bad)
    assert found is not None
    assert found.ending is not None
    assert found.ending.error == (
        "ProcessDied: The process has ended while the handler ran, 3 times."
    )
    assert (root / "dead" / dead.name / "0").read_bytes() == b"data"


def test_handler_may_have_it_given_up_at_once(root: Path) -> None:
    """``on_crash="fail"``."""
    bad, good = wait_in(root, "ends_its_process_once", "work")
    assert [exit_code(root) for _ in range(2)] == [EXIT_CODE, 0]
    (dead,) = entries(root, "dead")
    assert (dead.id, dead.standing.crashes) == (bad, 1)
    assert ran(root) == [good]


def test_child_of_an_owner_that_was_killed_keeps_nobody_from_its_jobs(root: Path) -> None:
    (job,) = wait_in(root, "forks")
    with worker(root) as owner:
        child = int(line_of(owner))
        os.kill(owner.pid, 9)
        owner.wait(PATIENCE)
        assert exit_code(root) == 0
        assert ran(root) == [job]
        os.kill(child, 0)  # it lives still
    (done,) = entries(root, "done")
    assert (done.standing.attempts, done.standing.crashes) == (2, 1)


def test_retry_keeps_its_time_when_its_process_is_killed(root: Path) -> None:
    (job,) = wait_in(root, "fails")
    with worker(root):
        eventually(lambda: [each for each in entries(root, "ready") if each.standing.failures])
    (before,) = entries(root, "ready")
    assert before.standing.due > 1000
    with owning(root) as spool:
        assert spool.rescue() == 0
        assert [waiting.id for waiting in spool.waiting()] == [job]
    assert entries(root, "ready") == [before]


@pytest.mark.parametrize("count", [1000, pytest.param(20_000, marks=pytest.mark.soak)])
def test_eight_processes_run_each_job_once(root: Path, count: int) -> None:
    with owning(root) as spool:
        spool._disk.close()
        spool._disk = HastyDisk(root)
        spool._disk.open()
        first = new_job(storage_of(spool), b"data")
        jobs = [
            first._replace(record=replace(first.record, id=f"{number:032x}"))
            for number in range(count)
        ]
        spool.accept(jobs)
        for job in jobs:
            spool.release(job.record.id, Standing(0))
    with ExitStack() as stack:
        workers = [stack.enter_context(worker(root)) for _ in range(8)]
        assert [process.wait(10 * PATIENCE) for process in workers] == [0] * 8
    assert sorted(ran(root)) == sorted(job.record.id for job in jobs)
    assert {entry.standing.attempts for entry in entries(root, "done")} == {1}
    for folder in ("ready", "claimed", "owners", "dead", "corrupt"):
        assert names(root, folder) == []
