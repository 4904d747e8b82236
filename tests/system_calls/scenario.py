"""What an owner does whose system calls fail, and what must have come of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from starlette_upload_keepalive import JobState
from starlette_upload_keepalive.files.storage import Storage
from starlette_upload_keepalive.files.upload import let_go_of_all
from starlette_upload_keepalive.jobs.record import JobRecord, Standing
from starlette_upload_keepalive.jobs.spool import Ending, NewJob
from starlette_upload_keepalive.quantities import MIB
from starlette_upload_keepalive.spool.directory_spool import DirectorySpool
from tests.owners import claim_all, new_blobs, new_record, owning
from tests.spooled import entries, names

from .steps import Steps

STEPS = ("accept one", "accept six", "finish", "claim")


class Scenario(Steps):
    """What an owner does with its jobs.

    Args:
        root: That of the spool.
        on_disk: Whether the bytes that it accepts are on the disk already.
    """

    def __init__(self, root: Path, *, on_disk: bool) -> None:
        super().__init__(root, STEPS)
        self._storage = Storage(memory_max_size=0 if on_disk else MIB)
        self._contents: dict[str, bytes] = {}
        self._one = self._record(b"one")
        self._six = [self._record(data, name) for data in [b"first", b"second"] for name in "abc"]
        self._parent = self._record(b"parent")
        self._children = [self._record(b"child"), self._record(b"")]
        self._claimed = self._record(b"claimed")
        self._spool = DirectorySpool(root)
        self._jobs: dict[str, NewJob] = {}

    def _record(self, data: bytes, handler: str = "work") -> JobRecord:
        record = new_record(data, handler=handler)
        self._contents[record.id] = data
        return record

    def prepare(self) -> None:
        """Do what comes before anything may fail."""
        super().prepare()
        self._spool.open(self._storage)
        # From now on what is on the disk lies where it can be linked.
        for record in [self._one, *self._six, self._parent, *self._children, self._claimed]:
            blobs = new_blobs(self._storage, self._contents[record.id])
            self._jobs[record.id] = NewJob(record, blobs)
        self._accept(self._parent)
        self._accept(self._claimed)

    def _accept(self, *records: JobRecord) -> None:
        self._spool.accept([self._jobs[record.id] for record in records])

    def steps(self) -> Sequence[Callable[[], object]]:
        """Return what is done at each step."""
        return [
            lambda: self._accept(self._one),
            lambda: self._accept(*self._six),
            self._finish,
            self._claim,
        ]

    def _finish(self) -> None:
        job_id = self._parent.id
        children = [self._jobs[child.id] for child in self._children]
        self._spool.start(job_id)
        self._spool.finish(job_id, Ending(JobState.SUCCEEDED, 1e9), children)

    def _claim(self) -> None:
        job_id = self._claimed.id
        self._spool.release(job_id, Standing(0))
        for waiting in self._spool.waiting():
            claimed = self._spool.claim(waiting)
            if claimed is not None:
                let_go_of_all(claimed.uploads)
                self._spool.start(job_id)
                self._spool.finish(job_id, Ending(JobState.FAILED, 1e9, error="it has failed"))

    # Once the process has ended

    def violations(self) -> Iterator[str]:
        """Find what broke a promise, as the next owner sees it."""
        yield from super().violations()
        with owning(self._root) as spool:
            spool.rescue()
            waiting = claim_all(spool)
            for job_id, contents in waiting.items():
                if contents != [self._contents[job_id]]:
                    yield f"{job_id} has other bytes: {contents}"
            yield from self._not_all_or_none("accept one", [self._one], waiting)
            yield from self._not_all_or_none("accept six", self._six, waiting)
            yield from self._wrongly_finished(waiting)
            yield from self._wrongly_claimed(waiting)
            for job_id in waiting:
                spool.release(job_id, Standing(0))
            spool.sweep()
        for folder in ("claimed", "owners", "corrupt", "trash"):
            if names(self._root, folder):
                yield f"{folder}/ holds {names(self._root, folder)}"

    def _not_all_or_none(
        self, step: str, jobs: list[JobRecord], waiting: dict[str, list[bytes]]
    ) -> Iterator[str]:
        there = [job.id for job in jobs if job.id in waiting]
        allowed = {"done": [len(jobs)], "cut short": [0, len(jobs)]}.get(self.outcomes[step], [0])
        if len(there) not in allowed:
            yield f"{step}: {len(there)} jobs are there, though it was {self.outcomes[step]}"

    def _wrongly_finished(self, waiting: dict[str, list[bytes]]) -> Iterator[str]:
        done = self._parent.id in {entry.id for entry in entries(self._root, "done")}
        again = self._parent.id in waiting
        children = [child for child in self._children if child.id in waiting]
        if done == again:
            yield f"finish: the job is done: {done}, and it waits: {again}"
        if len(children) != (len(self._children) if done else 0):
            yield f"finish: {len(children)} children are there, and the job is done: {done}"
        if self.outcomes["finish"] == "done" and not done:
            yield "finish: the job is not done, though nothing has failed"

    def _wrongly_claimed(self, waiting: dict[str, list[bytes]]) -> Iterator[str]:
        dead = self._claimed.id in {entry.id for entry in entries(self._root, "dead")}
        again = self._claimed.id in waiting
        if dead == again:
            yield f"claim: the job has failed: {dead}, and it waits: {again}"
        if self.outcomes["claim"] == "done" and not dead:
            yield "claim: the job has not failed, though nothing else has"
