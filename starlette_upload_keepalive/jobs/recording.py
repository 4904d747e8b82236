"""From a job to what a spool keeps of it."""

from __future__ import annotations

from typing import Any

from .job import Job
from .record import FileRecord, JobRecord, Standing
from .spool import NewJob


def record_of(job: Job[Any]) -> JobRecord:
    """Return what a job is."""
    return JobRecord(
        id=job.id,
        handler=job.handler,
        files=[FileRecord.of(upload) for upload in job._uploads],
        arguments=job._arguments.text,
        parent_id=job.parent_id,
        created_at=job.created_at.timestamp(),
    )


def standing_of(job: Job[Any], due: float) -> Standing:
    """Return where a job stands that is due then, in seconds since 1970 (UTC)."""
    return Standing(due, job.attempt, job._failures, job._crashes)


def new_job(job: Job[Any]) -> NewJob:
    """Return what a spool is to keep of a job."""
    return NewJob(record_of(job), [upload._view.blob for upload in job._uploads])
