"""The spool in memory: what it keeps ends with the process."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from starlette_upload_keepalive.files.blob import Blob
from starlette_upload_keepalive.files.owner import JOB, Owner
from starlette_upload_keepalive.files.storage import Storage
from starlette_upload_keepalive.files.upload import Upload
from starlette_upload_keepalive.quantities import check_least

from .job_state import JobState
from .record import JobRecord, Standing, handler_key
from .spool import ClaimedJob, Ending, KeptJob, NewJob, WaitingJob, upload_of


class MemorySpool:
    """Keeps accepted jobs and their bytes in this process.

    It has one owner, so that nobody is to be rescued. What waits when it is
    closed is lost.

    Args:
        keep_done: How many jobs that are done are kept, with the files of those that
            have failed.

    Raises:
        ValueError: The number is out of its range.
    """

    durable: bool = False

    def __init__(self, *, keep_done: int = 1000) -> None:
        check_least("keep_done", keep_done, 0, " jobs")
        self._keep_done = keep_done
        self._jobs: dict[str, _Job] = {}
        self._lock = threading.Lock()

    def open(self, storage: Storage) -> None:
        """Become an owner. The files stay in the storage that they came in."""

    def close(self) -> None:
        """Forget all jobs, unless some are left that run."""
        with self._lock:
            if any(job.is_ours for job in self._jobs.values()):
                return
            self._forget(self._jobs)

    def accept(self, jobs: Sequence[NewJob]) -> None:
        """Keep jobs, all or none of them."""
        new: list[_Job] = []
        try:
            for record, blobs in jobs:
                job = _Job(record, Standing(record.created_at))
                new.append(job)
                job.own(blobs)
        except BaseException:
            for job in new:
                job.let_go()
            raise
        with self._lock:
            self._jobs.update((job.record.id, job) for job in new)

    def start(self, job_id: str) -> None:
        """Note that the handler of a job of ours starts."""
        with self._lock:
            job = self._ours(job_id)
            job.state = JobState.RUNNING
            job.standing = replace(job.standing, attempts=job.standing.attempts + 1)

    def interrupt(self, job_id: str) -> None:
        """Note that a job of ours is cut off by the end of its app, and may run on meanwhile."""
        with self._lock:
            self._ours(job_id).state = JobState.WAITING

    def release(self, job_id: str, standing: Standing) -> None:
        """Let anybody claim a job of ours, once it is due."""
        with self._lock:
            self._ours(job_id).wait(standing)

    def finish(self, job_id: str, ending: Ending, children: Sequence[NewJob] = ()) -> None:
        """Note what came of a job of ours, and keep what its handler has submitted."""
        if children and ending.state is not JobState.SUCCEEDED:
            raise ValueError(f"A job that is {ending.state.value} has no children.")
        with self._lock:
            self._ours(job_id)
        self.accept(children)
        with self._lock:
            self._ours(job_id).finish(ending)

    def waiting(self, most: int | None = None) -> list[WaitingJob]:
        """Return the jobs that may be claimed, the earliest of each handler."""
        with self._lock:
            waiting = [job.waiting for job in self._jobs.values() if job.is_waiting]
        wanted: list[WaitingJob] = []
        found = Counter[str]()
        for job in sorted(waiting, key=lambda job: job.standing.due):
            if found[job.key] != most:
                found[job.key] += 1
                wanted.append(job)
        return wanted

    @property
    def backlog(self) -> int:
        """How many jobs wait."""
        with self._lock:
            return sum(job.is_waiting for job in self._jobs.values())

    def claim(self, job: WaitingJob) -> ClaimedJob | None:
        """Make a job ours; None if another was faster."""
        with self._lock:
            found = self._jobs.get(job.id)
            if found is None or not found.is_waiting or found.standing != job.standing:
                return None
            uploads = found.uploads()
            found.is_ours = True
            return ClaimedJob(found.record, found.standing, uploads)

    def rescue(self) -> int:
        """Do nothing: there is no other owner."""
        return 0

    def sweep(self) -> None:
        """Forget the oldest jobs that are done, beyond those that are kept."""
        with self._lock:
            done = {job_id: job for job_id, job in self._jobs.items() if job.ending is not None}
            newest = sorted(done, key=lambda job_id: done[job_id].standing.due, reverse=True)
            self._forget(newest[self._keep_done :])

    def jobs(self, wanted: Container[str] | None = None) -> Iterator[KeptJob]:
        """Go over the jobs that are kept, or those of these ids."""
        with self._lock:
            return iter(
                [
                    job.kept
                    for job_id, job in self._jobs.items()
                    if wanted is None or job_id in wanted
                ]
            )

    def find(self, job_id: str) -> KeptJob | None:
        """Look for a job."""
        with self._lock:
            job = self._jobs.get(job_id)
            return None if job is None else job.kept

    def cancel(self, job_id: str) -> bool:
        """End a job that waits; False if there is none."""
        with self._lock:
            job = self._jobs.get(job_id)
            if job is None or not job.is_waiting:
                return False
            job.finish(Ending(JobState.CANCELLED, time.time()))
            return True

    def retry(self, job_id: str) -> bool:
        """Let a job that has failed be claimed once more; False if it is not kept."""
        with self._lock:
            job = self._jobs.get(job_id)
            if job is None or job.state is not JobState.FAILED:
                return False
            job.wait(Standing(time.time(), job.standing.attempts))
            return True

    def purge(self, *, state: JobState | None = None, before: float | None = None) -> int:
        """Forget jobs that are done."""
        with self._lock:
            purged = [
                job_id
                for job_id, job in self._jobs.items()
                if job.ending is not None
                and state in (None, job.state)
                and (before is None or job.standing.due < before)
            ]
            self._forget(purged)
            return len(purged)

    def _ours(self, job_id: str) -> _Job:
        job = self._jobs[job_id]
        if not job.is_ours:
            raise KeyError(job_id)
        return job

    def _forget(self, job_ids: Iterable[str]) -> None:
        for job_id in list(job_ids):
            self._jobs.pop(job_id).let_go()


@dataclass(eq=False)
class _Job:
    """A job that is kept."""

    record: JobRecord
    standing: Standing
    state: JobState = JobState.WAITING
    is_ours: bool = True
    ending: Ending | None = None
    blobs: Sequence[Blob] = ()
    owners: Sequence[Owner] = ()

    def own(self, blobs: Sequence[Blob]) -> None:
        for blob in blobs:
            self.owners = [*self.owners, blob.own(f"the spool, for {JOB} {self.record.id}")]
        self.blobs = blobs

    def let_go(self) -> None:
        owners, self.owners, self.blobs = self.owners, (), ()
        for owner in owners:
            owner.let_go()

    def wait(self, standing: Standing) -> None:
        self.standing, self.state, self.is_ours, self.ending = (
            standing, JobState.WAITING, False, None,
        )  # fmt: skip

    def finish(self, ending: Ending) -> None:
        self.state, self.is_ours, self.ending = ending.state, False, ending
        self.standing = replace(self.standing, due=ending.at)
        if ending.state is not JobState.FAILED:
            self.let_go()

    def uploads(self) -> list[Upload]:
        files = zip(self.blobs, self.record.files, strict=True)
        return [upload_of(self.record.id, file, blob) for blob, file in files]

    @property
    def is_waiting(self) -> bool:
        return not self.is_ours and self.ending is None

    @property
    def waiting(self) -> WaitingJob:
        return WaitingJob(self.record.id, handler_key(self.record.handler), self.standing)

    @property
    def kept(self) -> KeptJob:
        delayed = self.state is JobState.WAITING and self.standing.due > time.time()
        state = JobState.DELAYED if delayed else self.state
        return KeptJob(self.record, self.standing, state, self.ending)
