"""A thousand jobs that fail in all ways at once: each comes to its right end, nothing is left."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from starlette_upload_keepalive import (
    Discard,
    Handler,
    Job,
    JobContext,
    JobState,
    Retry,
    RetryLater,
    Upload,
    Uploads,
)
from starlette_upload_keepalive.events import (
    JobCancelled,
    JobDiscarded,
    JobEvent,
    JobFailed,
    JobSubmitted,
    JobSucceeded,
)
from tests.clock import Clock, anyio_backend, clock
from tests.stored import make_upload
from tests.timed import events, register

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup, ExceptionGroup

__all__ = ["anyio_backend", "clock", "events"]

pytestmark = pytest.mark.anyio

COUNT = 1000
ENDS = (JobSucceeded, JobFailed, JobCancelled, JobDiscarded)

RAISED: list[tuple[Callable[[], BaseException], JobState, int]] = [
    (lambda: OSError("no"), JobState.FAILED, 3),
    (lambda: ValueError("no"), JobState.FAILED, 1),
    (lambda: SystemExit(1), JobState.FAILED, 1),
    (KeyboardInterrupt, JobState.FAILED, 1),
    (lambda: ExceptionGroup("", [OSError(), OSError()]), JobState.FAILED, 3),
    (lambda: ExceptionGroup("", [OSError(), KeyError()]), JobState.FAILED, 1),
    (lambda: BaseExceptionGroup("", [SystemExit(), OSError()]), JobState.FAILED, 1),
    (GeneratorExit, JobState.FAILED, 1),
    (lambda: Discard("no"), JobState.DISCARDED, 1),
    (lambda: ExceptionGroup("", [Discard("no")]), JobState.DISCARDED, 1),
]
"""What is raised, the state that it leads to, and the number of attempts."""


class Chaos:
    """Handlers that do each thing that can go wrong, on the event loop or in a thread."""

    def __init__(self, uploads: Uploads, run_in: str) -> None:
        self.uploads = uploads
        self.expected = dict[Job[Any], tuple[JobState, int | None]]()
        self._on_loop = run_in == "loop"
        self._victims = list[Job[Any]]()
        retry = Retry(retry_on=OSError, wait_initial=1)
        self.raises = self._handler(self._raise, self._raise_on_loop, retry=retry)
        self.overruns = self._handler(self._overrun, self._overrun_on_loop, timeout=5, retry=None)
        self.succeeds = self._handler(self._succeed, self._succeed_on_loop, retry=retry)
        self.victim = self._handler(self._overrun, self._overrun_on_loop, name="victim")
        # Else it would wait for a thread until a victim lets go of one.
        self.cancels: Handler[Any, Any, Any, Any] = uploads.handler()(self._cancel)
        self.child = self._handler(self._succeed, self._succeed_on_loop, name="child")

    def submit(self, number: int, upload: Upload) -> None:
        """Submit a job, and note what is to become of it."""
        if number % 3 == 0:
            kind = number // 3 % len(RAISED)
            _, state, attempts = RAISED[kind]
            self.expected[self.raises.submit_now(upload, kind)] = (state, attempts)
        elif number % 3 == 1:
            self.expected[self.overruns.submit_now(upload)] = (JobState.FAILED, 1)
        elif number % 5 == 0:
            victim = self.victim.submit_now(upload)
            self._victims.append(victim)
            self.expected[victim] = (JobState.CANCELLED, None)
            self.expected[self.cancels.submit_now(upload)] = (JobState.SUCCEEDED, 1)
        else:
            attempts = 2 if number % 2 else 1
            self.expected[self.succeeds.submit_now(upload, attempts)] = (
                JobState.SUCCEEDED,
                attempts,
            )

    def _handler(self, plain: Any, on_loop: Any, **options: Any) -> Handler[Any, Any, Any, Any]:
        registered = on_loop if self._on_loop else plain
        name = options.pop("name", plain.__name__)
        return register(self.uploads, registered, name=name, **options)

    def _raise(self, upload: Upload, kind: int) -> None:
        self.child.submit(upload)
        make_error, _, _ = RAISED[kind]
        raise make_error()

    async def _raise_on_loop(self, upload: Upload, kind: int) -> None:
        await upload.read()
        self._raise(upload, kind)

    def _overrun(self, upload: Upload, job: JobContext) -> None:
        while not job.cancelled:
            threading.Event().wait(0.001)
        upload.file.read()
        raise RuntimeError("asked to stop")

    async def _overrun_on_loop(self, upload: Upload) -> None:
        await anyio.sleep_forever()

    def _succeed(self, upload: Upload, job: JobContext, attempts: int = 1) -> str:
        if job.attempt == 2:
            self.child.submit(upload)
        if job.attempt < attempts:
            raise RetryLater(3) if len(upload.file.read()) % 2 else OSError
        return upload.file.read().decode()

    async def _succeed_on_loop(self, upload: Upload, job: JobContext, attempts: int = 1) -> str:
        return self._succeed(upload, job, attempts)

    async def _cancel(self, upload: Upload) -> None:
        self.uploads.jobs.cancel(self._victims.pop().id)


@pytest.mark.parametrize("run_in", ["thread", "loop"])
async def test_a_thousand_jobs(clock: Clock, events: list[JobEvent], run_in: str) -> None:
    uploads = Uploads(
        hooks=[events.append],
        memory_max_size=10,
        handler_tasks=50,
        job_history=10 * COUNT,
        grace_period=0,
    )
    chaos = Chaos(uploads, run_in)
    async with uploads.running():
        for number in range(COUNT):
            with make_upload(uploads.storage, b"x" * (number % 20)) as upload:
                chaos.submit(number, upload)
        for _ in range(20_000):
            if all(job.done for job in uploads.jobs):
                break
            await clock.advance(1)
            await anyio.to_thread.run_sync(threading.Event().wait, 0.001)

        assert len(chaos.expected) >= COUNT
        for job, (state, attempts) in chaos.expected.items():
            assert (job.handler, job.state) == (job.handler, state)
            assert attempts in (None, job.attempt)
            assert not job._has_uploads
        stats = uploads.stats()
        assert (stats.open_uploads, stats.memory_bytes, stats.disk_bytes) == (0, 0, 0)
        assert (stats.busy_threads, stats.busy_tasks) == (0, 0)
        assert stats.oldest_waiting_seconds is None
        assert {
            state: count
            for state, count in stats.jobs.items()
            if state in (JobState.STAGED, JobState.WAITING, JobState.RUNNING, JobState.DELAYED)
        } == dict.fromkeys(
            (JobState.STAGED, JobState.WAITING, JobState.RUNNING, JobState.DELAYED), 0
        )
    uploads.storage.closer.drain()
    begun = Counter(event.job_id for event in events if isinstance(event, JobSubmitted))
    ended = Counter(event.job_id for event in events if isinstance(event, ENDS))
    assert begun == ended
    assert set(ended.values()) == {1}
    # Only those attempts that succeeded have children.
    children = Counter(job.state for job in uploads.jobs.list(handler="child"))
    assert set(children) == {JobState.SUCCEEDED, JobState.DISCARDED}
    twice = [job for job, (_, attempts) in chaos.expected.items() if attempts == 2]
    assert children[JobState.SUCCEEDED] == len(twice) > 0
