"""A job tells where it stands, and takes and gives nothing but JSON."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextvars import copy_context
from datetime import timezone
from typing import Any

import anyio
import pytest

from starlette_upload_keepalive import (
    Job,
    JobContext,
    JobState,
    Progress,
    ResultTooLarge,
    Upload,
    UploadClosed,
)
from starlette_upload_keepalive.job import DONE, MAX_RESULT_SIZE, Arguments, through_json


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
    job: Job[Any] = Job(
        "thumbnail",
        [upload],
        Arguments(),
        context=copy_context(),
        run_in="loop",
        invoke=repr,
        on_done=told.append,
    )
    yield job
    job.close_uploads()


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
    job.begin()

    assert job.state is JobState.RUNNING
    assert job.started_at is not None
    assert (job.finished_at, told) == (None, [])

    job.finish(JobState.SUCCEEDED)

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


@pytest.mark.parametrize(
    ("error", "told_as"),
    [
        (ValueError("no picture"), "ValueError: no picture"),
        (ValueError(), "ValueError"),
        (SystemExit(3), "SystemExit: 3"),
    ],
)
def test_failure(job: Job[Any], error: BaseException, told_as: str) -> None:
    job.fail(error)

    assert job.state is JobState.FAILED
    assert job.error == told_as


# Its files


def test_job_has_a_view_of_its_own(job: Job[Any], upload: Upload) -> None:
    """P3: a job starts at byte 0, wherever others stand, and lets go for itself alone."""
    upload.file.read()

    (own,) = job.uploads
    assert own.file.read() == b"data"

    job.close_uploads()
    job.close_uploads()
    with pytest.raises(UploadClosed, match=f"the job {job.id} has let go"):
        _ = own.file
    assert upload.file.tell() == 4


def test_job_of_a_closed_upload_keeps_no_other_open(upload: Upload) -> None:
    """P2: the views that were made before the error are closed."""
    with Upload.from_bytes(b"") as closed:
        pass

    with pytest.raises(UploadClosed):
        Job(
            "h",
            [upload, closed],
            Arguments(),
            context=copy_context(),
            run_in="loop",
            invoke=repr,
            on_done=lambda _: None,
        )

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
        job.finish(JobState.SUCCEEDED)

    assert returned == [job] * 3


@pytest.mark.anyio
async def test_wait_for_a_job_that_is_done(job: Job[Any]) -> None:
    job.finish(JobState.DISCARDED)

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
    assert not job.cancel_requested


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
    assert not context.cancelled

    job.cancel_requested = True
    assert context.cancelled


# JSON


def test_arguments_are_copied() -> None:
    """The handler sees what was submitted, whatever the caller does to it afterwards."""
    sizes = [1, 2]
    arguments = Arguments.checked([sizes], {"crop": (3, 4)})
    sizes.append(5)

    assert arguments == Arguments([[1, 2]], {"crop": [3, 4]})


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"bytes", "Object of type bytes is not JSON serializable"),
        ({1, 2}, "Object of type set is not JSON serializable"),
        (math.nan, "Out of range float values are not JSON compliant"),
    ],
)
def test_arguments_that_are_not_json(value: object, reason: str) -> None:
    for positional, named in [([value], {}), ([], {"deep": [{"in": value}]})]:
        with pytest.raises(TypeError, match=r"^The arguments of a job must be JSON") as caught:
            Arguments.checked(positional, named)
        assert reason in str(caught.value)


def test_circular_value_is_not_json() -> None:
    value: list[Any] = []
    value.append(value)

    with pytest.raises(TypeError, match=r"must be JSON .* Circular reference"):
        through_json(value, "It")


def test_largest_result() -> None:
    largest = "x" * (MAX_RESULT_SIZE - len('""'))

    assert MAX_RESULT_SIZE == 65536
    assert through_json(largest, "It", MAX_RESULT_SIZE) == largest
    with pytest.raises(ResultTooLarge, match=r"^It is 65537 bytes of JSON, more than 65536: store"):
        through_json(largest + "x", "It", MAX_RESULT_SIZE)


def test_size_of_a_result_is_in_bytes() -> None:
    with pytest.raises(ResultTooLarge):
        through_json("\N{SNOWMAN}" * (MAX_RESULT_SIZE // 2), "It", MAX_RESULT_SIZE)
