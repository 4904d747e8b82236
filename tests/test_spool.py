"""Jobs leave the spool in the order in which they came."""

from __future__ import annotations

from contextvars import copy_context
from typing import Any

from starlette_upload_keepalive import Job, Upload
from starlette_upload_keepalive.job import Arguments, RunIn
from starlette_upload_keepalive.spool import MemorySpool


def made(run_in: RunIn) -> Job[Any]:
    with Upload.from_bytes(b"") as upload:
        job: Job[Any] = Job(
            "h",
            [upload],
            Arguments(),
            context=copy_context(),
            run_in=run_in,
            invoke=repr,
            on_done=lambda _: None,
        )
    job.close_uploads()
    return job


def test_first_in_first_out_for_threads_and_loop_apart() -> None:
    spool = MemorySpool()
    jobs = [made("thread" if number % 2 else "loop") for number in range(6)]
    for job in jobs:
        spool.publish(job)

    assert len(spool) == 6
    assert [spool.claim("loop") for _ in range(4)] == [jobs[0], jobs[2], jobs[4], None]
    assert len(spool) == 3
    assert [spool.claim("thread") for _ in range(4)] == [jobs[1], jobs[3], jobs[5], None]
    assert len(spool) == 0
