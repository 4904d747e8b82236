"""The history knows every job that is not done, and the last that are."""

from __future__ import annotations

from contextvars import copy_context
from typing import Any

import pytest

from starlette_upload_keepalive import Job, JobState, Upload
from starlette_upload_keepalive.jobs.arguments import Arguments
from starlette_upload_keepalive.jobs.history import JobHistory
from tests.works import FakeWork, made_of_nothing


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
        job._succeed(None)

    remembered = done[:limit]
    assert list(history) == [at_work, *remembered]
    assert history.get(done[-1].id) is None


def test_counts() -> None:
    history = JobHistory(1)
    jobs = [known(history) for _ in range(5)]
    jobs[0].state = JobState.WAITING
    jobs[1]._begin()
    jobs[2]._succeed(None)
    jobs[3]._succeed(None)
    jobs[4]._fail(ValueError())

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


# Those that failed keep their files


def failed(history: JobHistory) -> Job[Any]:
    with Upload.from_bytes(b"data") as upload:
        job = Job[Any](
            FakeWork(), [upload], Arguments(), context=copy_context(), on_done=history.mark_done
        )
    history.add(job)
    job._fail(OSError())
    return job


def test_one_that_is_run_again_is_no_longer_counted_among_them() -> None:
    """Nor among those that are done: others that fail do not take away its files."""
    history = JobHistory(limit=1, keep_failed=1)
    again = failed(history)
    history.revive(again)
    again._run_again()

    others = [failed(history), failed(history)]

    assert again._has_uploads
    assert list(history) == [again, others[1]]
    assert [job._has_uploads for job in others] == [False, True]
    history.let_go()
    assert not others[1]._has_uploads
    again._let_go()


def test_none_that_is_not_remembered_keeps_its_files() -> None:
    history = JobHistory(limit=0, keep_failed=1)
    assert not failed(history)._has_uploads


def test_one_that_is_run_again_is_known_again() -> None:
    """Others may have pushed it out between the question and the answer."""
    history = JobHistory(limit=1, keep_failed=1)
    again = failed(history)
    history.forget(again)
    history.revive(again)
    assert history.get(again.id) is again
    again._let_go()
