"""The history knows every job that is not done, and the last that are."""

from __future__ import annotations

from typing import Any

import pytest

from starlette_upload_keepalive import Job, JobState
from starlette_upload_keepalive.history import JobHistory
from tests.works import made_of_nothing


def known(history: JobHistory) -> Job[Any]:
    job = made_of_nothing(on_done=history.mark_done)
    history.add(job)
    return job


def test_jobs_by_id_and_by_age() -> None:
    history = JobHistory(10)
    jobs = [known(history) for _ in range(3)]

    assert list(history) == jobs
    assert len(history) == 3
    assert [history.get(job.id) for job in jobs] == jobs
    assert history.get("unknown") is None


@pytest.mark.parametrize("limit", [0, 2])
def test_only_the_last_done_are_remembered(limit: int) -> None:
    """P7: the jobs that are done take no more memory than was allowed."""
    history = JobHistory(limit)
    at_work, *done = [known(history) for _ in range(5)]

    for job in reversed(done):
        job.succeed(None)

    remembered = done[:limit]
    assert list(history) == [at_work, *remembered]
    assert history.get(done[-1].id) is None


def test_counts() -> None:
    history = JobHistory(1)
    jobs = [known(history) for _ in range(5)]
    jobs[0].state = JobState.WAITING
    jobs[1].begin()
    jobs[2].succeed(None)
    jobs[3].succeed(None)
    jobs[4].fail(ValueError())

    assert history.counts() == {
        JobState.STAGED: 0,
        JobState.WAITING: 1,
        JobState.RUNNING: 1,
        JobState.DELAYED: 0,
        JobState.SUCCEEDED: 2,  # one of them is forgotten, but was
        JobState.FAILED: 1,
        JobState.CANCELLED: 0,
        JobState.DISCARDED: 0,
    }


def test_forgotten_job() -> None:
    history = JobHistory(1)
    job = known(history)

    history.forget(job)
    history.forget(job)

    assert history.get(job.id) is None
    assert sum(history.counts().values()) == 0
