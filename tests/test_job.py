"""A job tells where it stands, and owns its files until it is done."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from datetime import timezone
from typing import Any

import anyio
import pytest

from starlette_upload_keepalive import (
    Job,
    JobContext,
    JobState,
    Progress,
    Upload,
    UploadClosed,
)
from starlette_upload_keepalive.events import Hooks, JobDelayed, JobEvent, JobStarted, JobSucceeded
from starlette_upload_keepalive.jobs.job import StopReason
from starlette_upload_keepalive.jobs.job_state import DONE
from tests.works import FakeWork, made


@pytest.fixture
def upload() -> Iterator[Upload]:
    with Upload.from_bytes(b"data", filename="a.txt") as upload:
        yield upload


@pytest.fixture
def told() -> list[Job[Any]]:
    """Return the jobs that told that they are done."""
    return []


@pytest.fixture
def job(upload: Upload, told: list[Job[Any]]) -> Iterator[Job[Any]]:
    job = made([upload], on_done=told.append)
    yield job
    job._let_go()


# States and times


def test_new_job(job: Job[Any]) -> None:
    assert job.state is JobState.STAGED
    assert not job.done
    assert len(job.id) == 32
    assert int(job.id, 16)
    assert job.handler == "thumbnail"
    assert job.filenames == ["a.txt"]
    assert job.field is None
    assert job.created_at.tzinfo is timezone.utc
    assert (job.started_at, job.finished_at, job.progress) == (None, None, None)
    assert (job.result, job.error) == (None, None)
    assert repr(job) == f"<Job {job.id} of thumbnail, staged>"


def test_begin_and_finish(job: Job[Any], told: list[Job[Any]]) -> None:
    job._begin()

    assert job.state is JobState.RUNNING
    assert job.started_at is not None
    assert (job.finished_at, told) == (None, [])

    job._succeed(None)

    assert repr(job) == f"<Job {job.id} of thumbnail, succeeded>"
    assert job.finished_at is not None
    assert job.created_at <= job.started_at <= job.finished_at
    assert job.finished_at.tzinfo is timezone.utc
    assert told == [job]


@pytest.mark.parametrize("state", JobState)
def test_done(job: Job[Any], state: JobState) -> None:
    job.state = state

    assert job.done is (state.value in {"succeeded", "failed", "cancelled", "discarded"})
    assert job.done is (state in DONE)


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("error", "told_as"),
    [
        (ValueError("no picture"), "ValueError: no picture"),
        (ValueError(), "ValueError"),
        (SystemExit(3), "SystemExit: 3"),
        (Unspeakable(), "Unspeakable"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_failure(job: Job[Any], error: BaseException, told_as: str) -> None:
    job._fail(error)

    assert job.state is JobState.FAILED
    assert job.error == told_as


# Its files


def test_job_has_a_view_of_its_own(job: Job[Any], upload: Upload) -> None:
    """P3: a job starts at byte 0, wherever others stand, and lets go for itself alone."""
    upload.file.read()

    stage_of_nothing: Any = None
    for _ in range(2):
        job._begin()
        (own,) = job._open_uploads(stage_of_nothing)
        with own:
            assert own.file.read() == b"data"
        with pytest.raises(UploadClosed, match=f"attempt {job.attempt} of the job {job.id} has"):
            _ = own.file

    job._let_go()
    job._let_go()
    assert not job._has_uploads
    assert upload.file.tell() == 4
    assert upload._view.blob.owners == ["the code that made it"]


def test_job_of_a_closed_upload_keeps_no_other_open(upload: Upload) -> None:
    """P2: the views that were made before the error are closed."""
    with Upload.from_bytes(b"") as closed:
        pass

    with pytest.raises(UploadClosed):
        made([upload, closed])

    assert upload._view.blob.owners == ["the code that made it"]


# Waiting


@pytest.mark.anyio
async def test_all_who_wait_are_told(job: Job[Any]) -> None:
    returned: list[Job[Any]] = []

    async def wait() -> None:
        returned.append(await job.wait())

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        assert not returned
        job._succeed(None)

    assert returned == [job] * 3


@pytest.mark.anyio
async def test_wait_for_a_job_that_is_done(job: Job[Any]) -> None:
    job._discard("why")

    with anyio.CancelScope() as scope:
        assert await job.wait() is job
        scope.cancel()
        await job.wait()  # a checkpoint
        pytest.fail("not reached")  # pragma: no cover


@pytest.mark.anyio
async def test_cancelled_wait_leaves_the_job_alone(job: Job[Any]) -> None:
    with anyio.move_on_after(0):
        await job.wait()

    assert job.state is JobState.STAGED
    assert job._stop_reason is None


# What a handler sees of it


@pytest.mark.parametrize("fraction", [0, 0.5, 1])
def test_progress_from_a_thread(job: Job[Any], fraction: float) -> None:
    JobContext(job).progress(fraction, "half way")

    assert job.progress == Progress(fraction, "half way")


@pytest.mark.anyio
async def test_awaited_progress_gives_others_a_turn(job: Job[Any]) -> None:
    with anyio.CancelScope() as scope:
        scope.cancel()
        await JobContext(job).progress(0.25)
        pytest.fail("not reached")  # pragma: no cover

    assert job.progress == Progress(0.25, "")


@pytest.mark.parametrize("fraction", [-0.01, 1.01, math.nan, math.inf])
def test_progress_out_of_range(job: Job[Any], fraction: float) -> None:
    with pytest.raises(ValueError, match=f"^fraction must be from 0 to 1, not {fraction}.$"):
        JobContext(job).progress(fraction)

    assert job.progress is None


def test_context(job: Job[Any]) -> None:
    context = JobContext(job)

    assert context.id == job.id
    assert context.attempt == 0
    assert not context.cancelled

    job._stop("asked")
    assert not job._stop_seen
    assert JobContext(job).cancelled
    assert job._stop_seen


# What is asked of it, and what it tells


def test_the_weightiest_reason_to_stop_counts(job: Job[Any]) -> None:
    """A timeout is tried again, a shutdown is a loss, and what was asked for is the end."""
    context = JobContext(job)
    assert not context.cancelled
    reasons = list[object]()
    stops: list[StopReason] = ["timeout", "shutdown", "timeout", "asked", "shutdown", "timeout"]
    for reason in stops:
        job._stop(reason)
        reasons.append(job._stop_reason)
    assert reasons == ["timeout", "shutdown", "shutdown", "asked", "asked", "asked"]
    assert context.cancelled


def test_thread_of_a_cancelled_job_is_asked_to_stop(job: Job[Any]) -> None:
    job._begin()
    context = JobContext(job)
    job._cancel("shutdown", thread_goes_on=True)
    assert context.cancelled


def test_each_attempt_waits_and_runs_for_itself(
    upload: Upload, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, events = 100.0, list[JobEvent]()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with upload:
        job = made([upload], FakeWork(hooks=Hooks([events.append])))
    for _ in range(2):
        now += 1000
        job._wait_for_turn()
        now += 2
        with job._begin():
            now += 3
        job._delay(1000, OSError())
    job._succeed(None)
    begins = [event for event in events if isinstance(event, JobStarted)]
    ends = [event for event in events if isinstance(event, (JobDelayed, JobSucceeded))]
    assert [event.waited_seconds for event in begins] == [2, 2]
    assert [event.ran_seconds for event in ends] == [3, 3, 3]
    assert isinstance(ends[-1], JobSucceeded)


def test_upload_that_can_not_be_opened_leaves_no_other_open(upload: Upload) -> None:
    with Upload.from_bytes(b"more") as other:
        job = made([upload, other])
    stage_of_nothing: Any = None
    job._uploads[1]._let_go()
    with pytest.raises(UploadClosed):
        job._open_uploads(stage_of_nothing)
    assert upload._view.blob.owners == ["the code that made it", f"the job {job.id}"]
    job._let_go()
