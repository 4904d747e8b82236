"""What the answers look like."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, JsonValue

from starlette_upload_keepalive import Job, JobState


class JobProgress(BaseModel):
    """How far a handler says it has come, from 0 to 1."""

    fraction: float
    message: str


class JobStatus(BaseModel):
    """What a client may know of a job."""

    id: str
    handler: str
    state: JobState
    done: bool
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    progress: JobProgress | None
    result: JsonValue
    error: str | None

    @classmethod
    def of(cls, job: Job[Any]) -> "JobStatus":
        return cls.model_validate(job, from_attributes=True)


class Receipt(BaseModel):
    """What was received of one file, and the jobs that will work on it."""

    filename: str | None
    size: int | None
    jobs: list[JobStatus]
