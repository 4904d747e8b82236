"""A spool in which very many jobs wait: what a start, a look and a list of them take.

Beside reading the names of its directory, which is the least that any look could do.
"""

from __future__ import annotations

import os
import secrets
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from starlette_upload_keepalive import DirectorySpool
from starlette_upload_keepalive.files.blob import Blob
from starlette_upload_keepalive.files.storage import Storage
from starlette_upload_keepalive.jobs.record import FileRecord, JobRecord, Standing
from starlette_upload_keepalive.jobs.spool import NewJob
from starlette_upload_keepalive.spool.disk import Disk

from .measure import MILLISECONDS, Bench, Contender, WrongResult

HANDLERS = 3
LOOK = 500  # jobs of each handler, as the app asks for


async def run(bench: Bench) -> None:
    """Race them over one spool."""
    jobs = bench.pick(100_000, quick=100)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        ids = fill(root, jobs)
        contenders = _contenders(root, ids)
        await bench.race(f"A spool in which {jobs:,} jobs wait", MILLISECONDS, contenders)


def fill(root: Path, jobs: int) -> list[str]:
    """Have jobs wait in a spool, and return their ids, the earliest first."""
    spool, storage = DirectorySpool(root), Storage()
    spool._disk = _HastyDisk(root)
    spool.open(storage)
    blob = Blob(storage)
    owner = blob.own("the benchmark")
    blob.fill([b"data"])
    ids = sorted(secrets.token_hex(16) for _ in range(jobs))
    try:
        for number, job_id in enumerate(ids):
            record = JobRecord(job_id, f"handler {number % HANDLERS}", [FileRecord(blob.size)])
            spool.accept([NewJob(record, [blob])])
            spool.release(job_id, Standing(number / 1000))
    finally:
        owner.let_go()
        spool.close()
    return ids


class _HastyDisk(Disk):
    """Waits for no device: that takes long, and is not what is measured."""

    def sync_directory(self, path: str) -> None:
        pass

    def write_file(self, path: str, data: bytes, *, mode: int = 0o600, sync: bool = True) -> None:
        super().write_file(path, data, mode=mode, sync=False)


def _contenders(root: Path, ids: list[str]) -> list[Contender]:
    ready, last = root / "ready", ids[-1]
    found = min(len(ids), HANDLERS * LOOK)

    def start(spool: DirectorySpool) -> int:
        spool.rescue()
        return len(spool.waiting(LOOK))

    def look(spool: DirectorySpool) -> int:
        return len(spool.waiting(LOOK))

    return [
        _contender("the names of the directory", root, lambda _: len(os.listdir(ready)), len(ids)),
        _contender("a start, until the first jobs are known", root, start, found, opens=True),
        _contender("a look for more, as once a second", root, look, found),
        _contender("find one job", root, lambda spool: int(spool.find(last) is not None), 1),
        _contender("list all", root, lambda spool: sum(1 for _ in spool.jobs()), len(ids)),
    ]


def _contender(
    name: str,
    root: Path,
    do: Callable[[DirectorySpool], int],
    expected: int,
    *,
    opens: bool = False,
) -> Contender:
    """Do something with a spool that is opened anew; whether that is timed as well."""

    async def run() -> list[float]:
        spool = DirectorySpool(root)
        began = time.perf_counter()
        spool.open(Storage())
        opened = time.perf_counter()
        try:
            if do(spool) != expected:
                raise WrongResult(f"{name}: not {expected}.")
            ended = time.perf_counter()
        finally:
            spool.close()
        return [ended - (began if opens else opened)]

    return Contender(name, run, check=run)
