"""Having jobs kept by a spool, all or none, whatever becomes of who waits for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

import anyio

from starlette_upload_keepalive.files.threads import WorkerThreads

from .job import Job
from .job_state import JobState
from .recording import new_job
from .spool import Ending, Spool


class Accept:
    """One accept, which may be cut off by a native cancel while its thread is at work.

    Args:
        spool: What is to keep them.
        jobs: The jobs.
    """

    def __init__(self, spool: Spool, jobs: Sequence[Job[Any]]) -> None:
        self._spool = spool
        self._ids = [job.id for job in jobs]
        self._new = [new_job(job) for job in jobs]
        self._owners = [
            blob.own("an accept in progress") for new in self._new for blob in new.blobs
        ]
        self._lock = threading.Lock()
        self._accepted = False
        self._abandoned = False

    async def run(self, threads: WorkerThreads) -> None:
        """Have them kept.

        Args:
            threads: Where the spool is called.

        Raises:
            OSError: They can't be kept.

        Cancellation: waits for the disk. A native cancel leaves the thread behind, which
            takes back what it has accepted: nobody was told.
        """
        finished = False
        try:
            with anyio.CancelScope(shield=True):
                await threads.run(self._accept, let_go=self._let_go)
                finished = True
        finally:
            if not finished:
                self._abandon()

    def _accept(self) -> None:
        self._spool.accept(self._new)
        with self._lock:
            self._accepted = True
            if not self._abandoned:
                return
        self._take_back()

    def _abandon(self) -> None:
        with self._lock:
            self._abandoned = True
            if not self._accepted:  # the thread sees to it
                return
        # Nobody has been told that they were accepted.
        threading.Thread(target=self._take_back, name="upload-keepalive-take-back").start()

    def _take_back(self) -> None:
        for job_id in self._ids:
            self._spool.finish(job_id, Ending(JobState.DISCARDED, time.time()))

    def _let_go(self) -> None:
        for owner in self._owners:
            owner.let_go()
