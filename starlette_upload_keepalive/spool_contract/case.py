"""A spool that is open, jobs for it, and what is to be said when it breaks a promise."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import TypeVar

from starlette_upload_keepalive.files.blob import Blob
from starlette_upload_keepalive.files.owner import Owner
from starlette_upload_keepalive.files.storage import Storage
from starlette_upload_keepalive.files.upload import let_go_of_all
from starlette_upload_keepalive.jobs.job_state import JobState
from starlette_upload_keepalive.jobs.record import FileRecord, JobRecord, Standing
from starlette_upload_keepalive.jobs.spool import (
    ClaimedJob,
    Ending,
    KeptJob,
    NewJob,
    Spool,
    WaitingJob,
)

T = TypeVar("T")
LONG_AGO, LATER = 1000.0, 10_000_000_000.0  # seconds since 1970
RELEASED = Standing(LONG_AGO)
HANDLER = "a händler"
THREADS = 4


class Case:
    """A spool that is open, and jobs for it."""

    def __init__(self, spool: Spool, storage: Storage) -> None:
        self._blob_owners: list[Owner] = []
        self._claimed: list[ClaimedJob] = []
        self._spools: list[Spool] = []
        self.storage: Storage = storage
        self.spool: Spool = self.open(spool)

    def open(self, spool: Spool) -> Spool:
        """Open a spool, and close it in the end."""
        spool.open(self.storage)
        if spool not in self._spools:
            self._spools.append(spool)
        return spool

    def blob(self, data: bytes = b"data") -> Blob:
        """Make a blob that is owned as a request's are."""
        blob = Blob(self.storage)
        self._blob_owners.append(blob.own("the check"))
        blob.fill([data], on_disk=self.storage.memory_max_size == 0)
        return blob

    def job(self, *given: Blob, parent: NewJob | None = None, handler: str = HANDLER) -> NewJob:
        """Make a job of blobs."""
        blobs = given or (self.blob(),)
        headers = [("content-type", "text/plain")]
        files = [FileRecord(blob.size, "ä.txt", headers, "field") for blob in blobs]
        parent_id = None if parent is None else parent.record.id
        job_id = secrets.token_hex(16)
        return NewJob(JobRecord(job_id, handler, files, '{"n":1}', parent_id, LONG_AGO), blobs)

    def unreadable_job(self) -> NewJob:
        """Make a job that can't be kept: its bytes are gone."""
        blob = Blob(self.storage)
        owner = blob.own("the check")
        blob.fill([b"data"], on_disk=self.storage.memory_max_size == 0)
        owner.let_go()
        return self.job(blob)

    def let_go_of_blobs(self) -> None:
        """As a request does when it ends."""
        owners, self._blob_owners = self._blob_owners, []
        for owner in owners:
            owner.let_go()

    def accepted(self) -> NewJob:
        """Have a job accepted."""
        job = self.job()
        self.spool.accept([job])
        return job

    def released(self, standing: Standing = RELEASED) -> NewJob:
        """Have a job wait for whoever claims it."""
        job = self.accepted()
        self.spool.release(job.record.id, standing)
        return job

    def failed(self) -> NewJob:
        """Have a job that has failed."""
        job = self.accepted()
        self.spool.start(job.record.id)
        self.spool.finish(job.record.id, Ending(JobState.FAILED, LONG_AGO, error="why"))
        return job

    def claim(self, waiting: WaitingJob, spool: Spool | None = None) -> ClaimedJob | None:
        """Claim a job, and close its files in the end."""
        claimed = (spool or self.spool).claim(waiting)
        if claimed is not None:
            self._claimed.append(claimed)
        return claimed

    def leave(self, spool: Spool) -> None:
        """Have nothing to do with a spool any more: it has ended."""
        self._spools.remove(spool)

    def end(self) -> None:
        """Close everything, so that nothing should be left."""
        self.close_files()
        for spool in self._spools:
            for job in list(spool.jobs()):
                with suppress(KeyError):  # it is not ours
                    spool.finish(job.record.id, Ending(JobState.CANCELLED, LONG_AGO))
            spool.close()

    def close_files(self) -> None:
        """Close what jobs were made of, and what was claimed."""
        claimed, self._claimed = self._claimed, []
        let_go_of_all([upload for job in claimed for upload in job.uploads])
        self.let_go_of_blobs()


@contextmanager
def open_case(make: Callable[[], Spool], *, in_memory: bool) -> Generator[Case, None, None]:
    """Have a spool, whose jobs are in memory or on disk, and see that it leaves no file open."""
    storage = Storage(memory_max_size=1000 if in_memory else 0)
    case = Case(make(), storage)
    try:
        yield case
    except Exception as error:
        with suppress(Exception):  # a promise is broken: others may be, too
            case.end()
        if isinstance(error, AssertionError):
            raise
        raise AssertionError(f"The spool breaks a promise: it raises {error!r}.") from error
    else:
        case.end()
    finally:
        storage.closer.drain()
    expect(storage.open_blobs == 0, "close() lets go of all files")


def expect(kept: object, promise: str) -> None:
    """Say that a promise is broken, unless it is kept."""
    if not kept:
        raise AssertionError(f"The spool breaks a promise: {promise}.")


def there(found: T | None, promise: str) -> T:
    """Return what was promised to be there."""
    expect(found is not None, promise)
    return found  # type: ignore[return-value]


def ids(jobs: Sequence[NewJob | KeptJob]) -> list[str]:
    """Return the ids of jobs, in order."""
    return sorted(job.record.id for job in jobs)


def waiting_job(spool: Spool, job: NewJob) -> WaitingJob:
    """Find a job among those that wait."""
    found = [each for each in spool.waiting() if each.id == job.record.id]
    expect(len(found) == 1, "waiting() names each job once that may be claimed")
    return found[0]


def kept_job(spool: Spool, job: NewJob) -> KeptJob:
    """Find a job."""
    return there(spool.find(job.record.id), "find() finds a job that is kept")


def state_of(spool: Spool, job: NewJob) -> JobState:
    """Find a job's state."""
    return kept_job(spool, job).state


def is_ours(spool: Spool, job: NewJob) -> bool:
    """Tell whether a job is this owner's, by starting it."""
    try:
        spool.start(job.record.id)
    except KeyError:
        return False
    return True


def same(one: Standing, other: Standing) -> bool:
    """Whether they are the same; times to the millisecond."""
    counts = [(each.attempts, each.failures, each.crashes) for each in (one, other)]
    return counts[0] == counts[1] and abs(one.due - other.due) <= 0.001


def check_bytes(claimed: ClaimedJob, job: NewJob, *contents: bytes) -> None:
    """Check that a claimed job is what was accepted."""
    expect(
        [upload.file.read() for upload in claimed.uploads] == list(contents),
        "the files of a claimed job have the bytes that were accepted, from byte 0",
    )
    expect(claimed.record.to_json() == job.record.to_json(), "a claimed job has its record")
    told = [(each.filename, each.content_type, each.field_name) for each in claimed.uploads]
    expect(
        told == [("ä.txt", "text/plain", "field")] * len(contents),
        "the files of a claimed job have their filename, headers and field",
    )


def race(case: Case, spools: Sequence[Spool], jobs: Sequence[NewJob]) -> None:
    """Claim all jobs in several threads at once."""
    claimed: list[str] = []

    def claim(spool: Spool, waiting: list[WaitingJob]) -> None:
        found = [case.claim(each, spool) for each in waiting]
        claimed.extend(job.record.id for job in found if job is not None)

    in_threads(*(partial(claim, spool, spool.waiting()) for spool in spools))
    expect(sorted(claimed) == ids(jobs), "each job is claimed once, however many try")


def in_threads(*calls: Callable[[], None]) -> None:
    """Make calls in a thread each."""
    threads = [threading.Thread(target=call) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
