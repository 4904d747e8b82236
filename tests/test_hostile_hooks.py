"""Whatever a hook does, it harms neither the job that it is told of nor another."""

from __future__ import annotations

import pytest

from starlette_upload_keepalive import JobContext, JobState, RetryLater, Upload, Uploads
from starlette_upload_keepalive.events import JobDelayed, JobEvent, JobSubmitted
from starlette_upload_keepalive.files.upload import let_go_of_all
from starlette_upload_keepalive.jobs import job
from tests.clock import Clock, anyio_backend, clock
from tests.timed import at_work, register, submitting

__all__ = ["anyio_backend", "clock"]

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("error", [SystemExit(), GeneratorExit(), RuntimeError()], ids=repr)
@pytest.mark.parametrize("kind", ["JobSubmitted", "JobStarted", "JobDelayed", "JobSucceeded"])
async def test_hook_that_raises_any_error(clock: Clock, error: BaseException, kind: str) -> None:
    """P6: neither the job nor its siblings notice."""

    def hook(event: JobEvent) -> None:
        if type(event).__name__ == kind:
            raise error

    uploads = Uploads(hooks=[hook])

    async def handler(upload: Upload, job: JobContext) -> int:
        if job.attempt == 1:
            raise RetryLater(1)
        return job.attempt

    async with submitting(uploads) as submit:
        made = submit(handler)
        await clock.advance(1)
        assert (made.state, made.result) == (JobState.SUCCEEDED, 2)


@pytest.mark.parametrize("kind", [JobSubmitted, JobDelayed])
async def test_job_that_a_hook_cancels_does_not_run(clock: Clock, kind: type[JobEvent]) -> None:
    told = list[str]()

    def hook(event: JobEvent) -> None:
        told.append(type(event).__name__)
        if isinstance(event, kind):
            assert site.jobs.cancel(event.job_id)

    site = Uploads(hooks=[hook])

    async def handler(upload: Upload) -> None:
        raise RetryLater(1)

    async with submitting(site) as submit:
        made = submit(handler)
        await clock.advance(1)
        assert made.state is JobState.CANCELLED
    assert told.count("JobCancelled") == 1
    assert told[-1] == "JobCancelled"
    assert sum(site.stats().jobs.values()) == 1
    assert site.stats().open_uploads == 0


async def test_job_that_a_hook_hurries_has_its_attempt_at_once(clock: Clock) -> None:
    def hook(event: JobEvent) -> None:
        if isinstance(event, JobDelayed):
            assert site.jobs.retry(event.job_id)

    site = Uploads(hooks=[hook])

    async def handler(upload: Upload, job: JobContext) -> int:
        if job.attempt < 3:
            raise RetryLater(1000)
        return job.attempt

    async with submitting(site) as submit:
        made = submit(handler)
        await clock.settle()
        assert (made.state, made.result) == (JobState.SUCCEEDED, 3)
    assert site.stats().open_uploads == 0


async def test_file_that_can_not_be_closed_fails_no_job(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P6: the job is done, and others go on."""
    failed = list[str]()

    def let_go_and_fail(uploads: list[Upload]) -> None:
        let_go_of_all(uploads)
        if not failed:
            failed.append("once")
            raise OSError("of the test")

    monkeypatch.setattr(job, "let_go_of_all", let_go_and_fail)
    uploads = Uploads(hooks=[])

    async def handler(upload: Upload) -> str:
        return "fine"

    async with at_work(uploads) as upload:
        submitted = register(uploads, handler)
        jobs = [submitted.submit_now(upload) for _ in range(2)]
        await clock.settle()
        assert [each.state for each in jobs] == [JobState.SUCCEEDED] * 2
        assert [each.result for each in jobs] == ["fine"] * 2
    assert failed
