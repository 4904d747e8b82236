"""A process that runs what waits in a spool, until nothing does; some handlers end it.

``python -m tests.crash_worker ROOT``: the handlers write to ROOT.log the jobs that they have run.
"""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress
from pathlib import Path

import anyio

from starlette_upload_keepalive import DirectorySpool, JobContext, Retry, Upload, Uploads

EXIT_CODE = 9


def make_uploads(root: Path) -> Uploads:
    uploads = Uploads(spool=DirectorySpool(root), handler_threads=1)
    log = os.open(log_of(root), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    @uploads.handler()
    def work(upload: Upload, job: JobContext) -> None:
        os.write(log, f"{job.id}\n".encode())

    @uploads.handler()
    def ends_its_process(upload: Upload) -> None:
        os._exit(EXIT_CODE)

    @uploads.handler(on_crash="fail")
    def ends_its_process_once(upload: Upload) -> None:
        os._exit(EXIT_CODE)

    @uploads.handler()
    def forks(upload: Upload, job: JobContext) -> None:
        if job.attempt > 1:
            os.write(log, f"{job.id}\n".encode())
            return
        child = os.fork()
        if child == 0:
            os.read(0, 1)  # until the test lets it go
            os._exit(0)
        print(child, flush=True)
        threading.Event().wait()

    @uploads.handler(retry=Retry(attempts=2, wait_initial=1000, wait_jitter=0))
    async def fails(upload: Upload) -> None:
        raise RuntimeError("as the test wants it")

    return uploads


def log_of(root: Path) -> Path:
    """Where the handlers write the ids of the jobs that they have run."""
    return root.with_suffix(".log")


def is_idle(root: Path) -> bool:
    """Whether no job waits or runs."""
    for folder in [root / "ready", *(root / "claimed").iterdir()]:
        with suppress(FileNotFoundError), os.scandir(folder) as names:
            if next(names, None) is not None:
                return False
    return True


async def run(root: Path) -> None:
    async with make_uploads(root).running():
        while not await anyio.to_thread.run_sync(is_idle, root):  # noqa: ASYNC110 - others work
            await anyio.sleep(0.05)


if __name__ == "__main__":
    anyio.run(run, Path(sys.argv[1]))
