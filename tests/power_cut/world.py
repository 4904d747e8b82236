"""A machine on which processes have a spool in common, and what the world outside knows."""

from __future__ import annotations

import itertools
import logging
import random
import secrets
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NoReturn
from unittest.mock import patch

from starlette_upload_keepalive.files.blob import Blob
from starlette_upload_keepalive.files.owner import Owner
from starlette_upload_keepalive.files.storage import Storage
from starlette_upload_keepalive.files.upload import let_go_of_all
from starlette_upload_keepalive.jobs.job_state import JobState
from starlette_upload_keepalive.jobs.record import FileRecord, JobRecord
from starlette_upload_keepalive.jobs.spool import Ending, NewJob
from starlette_upload_keepalive.spool import directory_spool, shared_sync
from starlette_upload_keepalive.spool.catalog import Catalog
from starlette_upload_keepalive.spool.directory_spool import DirectorySpool

from .log import Noted, What
from .model_disk import Files, Killed, ModelDisk
from .promises import Expected
from .turns import Turns, TurnsThreading

NOW = 1_000_000.0


class World:
    """All that outlives a process but for the files: what is expected, and whose turn it is.

    Args:
        files: The files to begin with.
        expected: What is known of jobs that are among them.
    """

    def __init__(self, files: Files | None = None, expected: dict[str, Expected] | None = None):
        self.files = Files() if files is None else files
        self.expected = {} if expected is None else expected
        self.storage = Storage()
        self.turns = Turns()
        self._held: list[Owner] = []

    def process(self, *, keep_done: int = 1000) -> Process:
        """Start a process, which becomes an owner."""
        return Process(self, keep_done)

    def blob(self, content: bytes) -> Blob:
        """Make the bytes of an upload."""
        blob = Blob(self.storage)
        self._held.append(blob.own("the world"))
        blob.fill([content])
        return blob

    def new(self, *blobs: Blob, parent: str | None = None) -> NewJob:
        """Make a job, of handler and files."""
        contents = tuple(_content(blob) for blob in blobs)
        files = [FileRecord(len(content), "a.txt") for content in contents]
        record = JobRecord(secrets.token_hex(16), "h", files, None, parent, NOW)
        self.expected[record.id] = Expected(record.to_json(), contents)
        return NewJob(record, blobs)

    def note(self, what: What, *ids: str) -> None:
        """Note what the world outside does or is told."""
        self.files.log.append(Noted(self.files.step, what, ids))

    def run_in_turns(self, seed: int, *bodies: Callable[[], object]) -> None:
        """Run several at once, in an order that the seed decides."""
        self.turns.run(random.Random(seed).choice, *bodies)

    def close(self) -> None:
        """Let go of all bytes."""
        for owner in self._held:
            owner.let_go()


def _content(blob: Blob) -> bytes:
    with blob.open() as file:
        return file.read()


class Process:
    """A process that is an owner of the spool."""

    def __init__(self, world: World, keep_done: int) -> None:
        self.world = world
        self.disk = ModelDisk(world.files, self._pause)
        self._left: int | None = None
        self.spool = DirectorySpool("/nowhere", keep_done=keep_done)
        self.spool._disk = self.disk
        self.spool._catalog = Catalog(self.disk)
        self._begin()
        self.spool.open(world.storage)

    def accept(self, *jobs: NewJob) -> list[str]:
        """Accept the jobs of a request."""
        ids = [job.record.id for job in jobs]
        self._begin()
        self.world.note("accepting", *ids)
        self.spool.accept(jobs)
        self.world.note("accepted", *ids)
        return ids

    def start(self, *jobs: str) -> None:
        """Start the handlers of jobs."""
        for job in jobs:
            self._begin()
            self.world.note("starting", job)
            self.spool.start(job)

    def interrupt(self, job: str) -> None:
        """Have the app end before a handler of it."""
        self._begin()
        self.spool.interrupt(job)

    def spare(self, job: str) -> None:
        """See that no crash of a job was counted, nor ever is."""
        crashes = {kept.id: kept.standing.crashes for kept in self.spool.jobs()}
        assert not crashes[job], f"{job} was only interrupted, but crashes are counted"
        self.world.note("spared", job)

    def finish(
        self, job: str, *children: NewJob, state: JobState = JobState.SUCCEEDED
    ) -> list[str]:
        """End a job, whose handler has submitted others."""
        self._begin()
        ids = [child.record.id for child in children]
        self.world.note("ending", job, *ids)
        self.spool.finish(job, Ending(state, NOW, result={"a": 1}), children)
        return ids

    def fail(self, job: str) -> None:
        """Have a job fail for good."""
        self.finish(job, state=JobState.FAILED)

    def release(self, job: str, *, delay: float = 0) -> None:
        """Let others have a job, once the seconds have passed."""
        self._begin()
        _, entry = self.spool._owned.get(job)
        standing = replace(entry.standing, due=NOW + delay, failures=entry.standing.failures + 1)
        self.spool.release(job, standing)

    def claim(self, *wanted: str) -> list[str]:
        """Claim all jobs that wait, or those that are wanted."""
        claimed = list[str]()
        for waiting in self.spool.waiting():
            if not wanted or waiting.id in wanted:
                self._begin()
                job = self.spool.claim(waiting)
                if job is not None:
                    self.check(job.record, [upload.file.read() for upload in job.uploads])
                    let_go_of_all(job.uploads)
                    claimed.append(waiting.id)
        return claimed

    def check(self, record: JobRecord, contents: Sequence[bytes] | None = None) -> None:
        """See whether a job is what it was."""
        expected = self.world.expected[record.id]
        assert record.to_json() == expected.record, f"another record of {record.id}"
        if contents is not None:
            assert tuple(contents) == expected.contents, f"other bytes of {record.id}"

    def rescue(self) -> int:
        """Take over what dead owners had."""
        self._begin()
        return self.spool.rescue()

    def sweep(self, *, forgets: bool = False) -> None:
        """Remove what is needed no more."""
        self._begin()
        if forgets:
            self.world.note("forgetting")
        self.spool.sweep()

    def purge(self) -> None:
        """Forget all that is done."""
        self._begin()
        self.world.note("forgetting")
        self.spool.purge()

    def retry(self, job: str) -> None:
        """Let a job be claimed that has failed."""
        self._begin()
        assert self.spool.retry(job)

    @property
    def owned(self) -> list[str]:
        """The jobs it has."""
        return list(self.spool._owned._jobs)

    def is_started(self, job: str) -> bool:
        """Tell whether it has started the handler of a job."""
        return self.spool._owned.get(job).entry.state == "r"

    def kill(self) -> None:
        """End the process at once."""
        self.disk.kill()

    def die(self, *_: object) -> NoReturn:
        """End here."""
        self.kill()
        raise Killed

    def dies_after(self, steps: int) -> None:
        """End the process when it has taken some more steps."""
        self._left = steps

    def _begin(self) -> None:
        self.world.note("call")

    def _pause(self) -> None:
        self.world.turns.pause()
        if self._left is not None:
            self._left -= 1
            if self._left < 0:
                self.kill()


@contextmanager
def by_the_model(first: int = 1) -> Generator[None, None, None]:
    """Have spools use what is deterministic, and no directory that is there.

    Args:
        first: The first of the numbers that stand for chance.
    """
    numbers = itertools.count(first)

    def token_hex(size: int) -> str:
        return f"{next(numbers):0{2 * size}x}"

    def check_nothing(root: Path, *, allow_network: bool) -> None:
        pass

    with (
        patch.object(secrets, "token_hex", token_hex),
        patch.object(time, "time", lambda: NOW),
        patch.object(directory_spool, "check_root", check_nothing),
        patch.object(logging.getLogger("starlette_upload_keepalive"), "disabled", True),
    ):
        yield


@contextmanager
def in_turns(turns: Turns) -> Generator[None, None, None]:
    """Have threads of one process take turns, too, where they wait for each other."""
    with patch.object(shared_sync, "threading", TurnsThreading(turns)):
        yield


Scenario = Callable[[World], None]
