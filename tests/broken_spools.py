"""Spools that break a promise: one each."""

from __future__ import annotations

import itertools
from collections.abc import Container, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from starlette_upload_keepalive import JobState, Upload
from starlette_upload_keepalive.jobs.memory_spool import MemorySpool
from starlette_upload_keepalive.jobs.record import Standing
from starlette_upload_keepalive.jobs.spool import (
    ClaimedJob,
    Ending,
    KeptJob,
    NewJob,
    WaitingJob,
)
from starlette_upload_keepalive.spool.directory_spool import DirectorySpool
from starlette_upload_keepalive.spool.entry import Entry
from starlette_upload_keepalive.spool.rescue import Rescue


class AcceptsSome(MemorySpool):
    def accept(self, jobs: Sequence[NewJob]) -> None:
        for job in jobs:
            super().accept([job])


class AcceptsAnything(MemorySpool):
    def accept(self, jobs: Sequence[NewJob]) -> None:
        super().accept([job for job in jobs if not job.blobs[0].closed])


class AcceptsForAnybody(MemorySpool):
    def accept(self, jobs: Sequence[NewJob]) -> None:
        super().accept(jobs)
        for job in jobs:
            self.release(job.record.id, Standing(job.record.created_at))


class OwnsNoBytes(MemorySpool):
    def accept(self, jobs: Sequence[NewJob]) -> None:
        super().accept(jobs)
        for job in jobs:
            for owner in self._jobs[job.record.id].owners:
                owner.let_go()


class KeepsBytes(MemorySpool):
    def _forget(self, job_ids: Any) -> None:
        for job_id in list(job_ids):
            del self._jobs[job_id]


class ForgetsNumbers(MemorySpool):
    def release(self, job_id: str, standing: Standing) -> None:
        super().release(job_id, Standing(standing.due))


class ClaimsTwice(MemorySpool):
    def claim(self, job: WaitingJob) -> ClaimedJob | None:
        claimed = super().claim(job)
        if claimed is None and job.id in self._jobs:
            kept = self._jobs[job.id]
            return ClaimedJob(kept.record, kept.standing, kept.uploads())
        return claimed


def _uploads(claimed: ClaimedJob | None) -> Sequence[Upload]:
    return () if claimed is None else claimed.uploads


class ClaimsFromTheEnd(MemorySpool):
    def claim(self, job: WaitingJob) -> ClaimedJob | None:
        claimed = super().claim(job)
        for upload in _uploads(claimed):
            upload.file.read()
        return claimed


class ClaimsWithoutNames(MemorySpool):
    def claim(self, job: WaitingJob) -> ClaimedJob | None:
        claimed = super().claim(job)
        for upload in _uploads(claimed):
            upload.filename = None
        return claimed


class StartsAnything(MemorySpool):
    def _ours(self, job_id: str) -> Any:
        return self._jobs[job_id]


class CountsNoAttempt(MemorySpool):
    def start(self, job_id: str) -> None:
        super().start(job_id)
        job = self._jobs[job_id]
        job.standing = replace(job.standing, attempts=0)


class InterruptsNothing(MemorySpool):
    def interrupt(self, job_id: str) -> None:
        self._ours(job_id)


class InterruptsForAnybody(MemorySpool):
    def interrupt(self, job_id: str) -> None:
        self.release(job_id, self._jobs[job_id].standing)


class InterruptsAnything(MemorySpool):
    def interrupt(self, job_id: str) -> None:
        with suppress(KeyError):
            super().interrupt(job_id)


class ForgetsErrors(MemorySpool):
    def finish(self, job_id: str, ending: Ending, children: Sequence[NewJob] = ()) -> None:
        super().finish(job_id, replace(ending, error=None), children)


class FinishesFirst(MemorySpool):
    def finish(self, job_id: str, ending: Ending, children: Sequence[NewJob] = ()) -> None:
        if children and ending.state is not JobState.SUCCEEDED:
            raise ValueError
        super().finish(job_id, ending)
        self.accept(children)


class LosesChildren(MemorySpool):
    def finish(self, job_id: str, ending: Ending, children: Sequence[NewJob] = ()) -> None:
        if any(blob.closed for child in children for blob in child.blobs):
            raise OSError
        super().finish(job_id, ending, children if ending.state is not JobState.SUCCEEDED else ())


class TakesChildrenOfFailures(MemorySpool):
    def finish(self, job_id: str, ending: Ending, children: Sequence[NewJob] = ()) -> None:
        super().finish(job_id, ending)
        self.accept(children)


class CancelsNothing(MemorySpool):
    def cancel(self, job_id: str) -> bool:
        return False


class CancelsAnything(MemorySpool):
    def cancel(self, job_id: str) -> bool:
        if job_id in self._jobs and self._jobs[job_id].is_ours:
            self._jobs[job_id].wait(Standing(0))
        return super().cancel(job_id)


class TellsOfAll(MemorySpool):
    def jobs(self, wanted: Container[str] | None = None) -> Iterator[KeptJob]:
        return super().jobs()


class RetriesAnything(MemorySpool):
    def retry(self, job_id: str) -> bool:
        return super().retry(job_id) or job_id in self._jobs


class RetriesAsNew(MemorySpool):
    def retry(self, job_id: str) -> bool:
        again = super().retry(job_id)
        if again:
            self._jobs[job_id].standing = Standing(0)
        return again


class SweepsBytesOfFailures(MemorySpool):
    def sweep(self) -> None:
        for job in self._jobs.values():
            if job.ending is not None:
                job.let_go()


class SweepsAll(MemorySpool):
    def sweep(self) -> None:
        self._forget([job_id for job_id, job in self._jobs.items() if job.ending is None])


class PurgesNothing(MemorySpool):
    def purge(self, *, state: JobState | None = None, before: float | None = None) -> int:
        return 0


class PurgesAnyTime(MemorySpool):
    def purge(self, *, state: JobState | None = None, before: float | None = None) -> int:
        return super().purge(state=state)


class ListsTwice(MemorySpool):
    def jobs(self, wanted: Container[str] | None = None) -> Iterator[KeptJob]:
        return itertools.chain(super().jobs(wanted), super().jobs(wanted))


class FindsNothing(MemorySpool):
    def find(self, job_id: str) -> KeptJob | None:
        return None


class ClosesOnWhatRuns(MemorySpool):
    def close(self) -> None:
        self._forget(self._jobs)


class KnowsNoDelay(MemorySpool):
    def find(self, job_id: str) -> KeptJob | None:
        kept = super().find(job_id)
        if kept is not None and kept.state is JobState.DELAYED:
            return replace(kept, state=JobState.WAITING)
        return kept


class WaitsInAnyOrder(MemorySpool):
    def waiting(self, most: int | None = None) -> list[WaitingJob]:
        return super().waiting(most)[::-1]


class TellsAllThatWaits(MemorySpool):
    def waiting(self, most: int | None = None) -> list[WaitingJob]:
        return super().waiting()


class CountsAllHandlers(MemorySpool):
    def waiting(self, most: int | None = None) -> list[WaitingJob]:
        return super().waiting()[:most]


BROKEN: dict[type[MemorySpool], str] = {
    WaitsInAnyOrder: "waiting() begins with what is due first",
    TellsAllThatWaits: "waiting(most=) tells of so many jobs of each handler",
    CountsAllHandlers: "waiting(most=) tells of so many jobs of each handler",
    AcceptsSome: "accept() keeps all jobs or none",
    AcceptsAnything: "accept() raises if the bytes of a job can't be read",
    AcceptsForAnybody: "an accepted job belongs to its owner, and is not in waiting()",
    KeepsBytes: "close() lets go of all files",
    ForgetsNumbers: "waiting() tells where a job stands, as released",
    ClaimsTwice: "claim() returns None if the job was claimed",
    ClaimsFromTheEnd: ("the files of a claimed job have the bytes that were accepted, from byte 0"),
    ClaimsWithoutNames: "the files of a claimed job have their filename, headers and field",
    StartsAnything: "a released job belongs to nobody: start() is a KeyError",
    CountsNoAttempt: "start() counts an attempt",
    InterruptsNothing: "a job that is interrupted is waiting",
    InterruptsForAnybody: "a job that is interrupted stays ours, and is not in waiting()",
    InterruptsAnything: "start(), interrupt(), release() and finish() of another's: KeyError",
    ForgetsErrors: "find() tells what came of a job",
    FinishesFirst: "finish() keeps all children and the end of their parent, or none of it",
    LosesChildren: "children belong to the owner of their parent",
    TakesChildrenOfFailures: "finish() of a cancelled job with children: ValueError",
    CancelsNothing: "cancel() ends a job that waits",
    CancelsAnything: "cancel() is False for a job that somebody has",
    TellsOfAll: "jobs(wanted) goes over those, wherever they are",
    RetriesAnything: "retry() is False for a job that waits",
    RetriesAsNew: "retry() keeps the attempts, and forgets failures and crashes",
    SweepsAll: "sweep() keeps what is not done",
    PurgesNothing: "purge(state=) forgets jobs in that state, and counts",
    PurgesAnyTime: "purge(before=) forgets older jobs, and counts",
    ListsTwice: "jobs() goes over all that is accepted, each once",
    FindsNothing: "find() finds a job that is kept",
    ClosesOnWhatRuns: "after close(), a job that runs can be finished",
    KnowsNoDelay: "a job that is not due yet is delayed",
}


class RescuesNothing(DirectorySpool):
    def rescue(self) -> int:
        return 0


class RescuesTheLiving(DirectorySpool):
    def rescue(self) -> int:
        rescue = Rescue(self._disk, self._obstacles)
        for owner in self._disk.names("claimed"):
            if owner != self._name:
                for name in self._disk.names(f"claimed/{owner}"):
                    rescue._rescue(f"claimed/{owner}", name)
        return rescue.rescued


class RescuesAsNew(DirectorySpool):
    def waiting(self, most: int | None = None) -> list[WaitingJob]:
        return [
            job._replace(standing=replace(job.standing, crashes=0))
            if job.standing.attempts == 1
            else job
            for job in super().waiting(most)
        ]


class SeesItsOwn(DirectorySpool):
    def jobs(self, wanted: Container[str] | None = None) -> Iterator[KeptJob]:
        return (job for job in super().jobs(wanted) if wanted or self._knows(job.record.id))

    def _knows(self, job_id: str) -> bool:
        return job_id in self._owned._jobs or job_id in {job.id for job in self.waiting()}


class ClosesForGood(DirectorySpool):
    def close(self) -> None:
        if self._lock is not None:
            for job in self.waiting():
                self._set_aside(f"ready/{_name(job)}", "closed")
        super().close()


def _name(job: WaitingJob) -> str:
    return Entry(job.id, job.key, job.standing, "w").name
