"""A job that is kept tells of itself as a job of the app does."""

from __future__ import annotations

from datetime import datetime, timezone

from starlette_upload_keepalive import Job, JobState
from starlette_upload_keepalive.jobs.record import FileRecord, JobRecord, Standing
from starlette_upload_keepalive.jobs.spool import Ending, KeptJob

ID = "0" * 32
FILES = [FileRecord(1, "a.png", (), "photo"), FileRecord(2, None, (), "photo")]
RECORD = JobRecord(ID, "work", FILES, parent_id="1" * 32, created_at=1.0)


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, timezone.utc)


def test_a_job_that_waits_for_its_time() -> None:
    job = KeptJob(RECORD, Standing(2.0, attempts=3), JobState.DELAYED)
    assert (job.id, job.handler, job.field, job.parent_id) == (ID, "work", "photo", "1" * 32)
    assert job.filenames == ["a.png", None]
    assert (job.attempt, job.created_at, job.delayed_until) == (3, at(1), at(2))
    assert (job.done, job.finished_at, job.result, job.error) == (False, None, None, None)
    assert repr(job) == f"<KeptJob {ID} of work, delayed>"


def test_a_job_that_is_done() -> None:
    ending = Ending(JobState.FAILED, 4.0, [1], "why")
    job = KeptJob(RECORD, Standing(4.0), JobState.FAILED, ending)
    assert (job.done, job.finished_at, job.delayed_until) == (True, at(4), None)
    assert (job.result, job.error) == ([1], "why")


def test_its_names_are_those_of_a_job() -> None:
    names = {name for name, value in vars(KeptJob).items() if isinstance(value, property)}
    assert names <= set(dir(Job))
