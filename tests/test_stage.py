"""A stage holds jobs back until what they came in with is accepted and has ended."""

from __future__ import annotations

from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import anyio
import pytest
from anyio.abc import TaskStatus

from starlette_upload_keepalive import (
    Job,
    JobState,
    NotAccepted,
    NotRunning,
    Upload,
    WouldDeadlock,
)
from starlette_upload_keepalive.jobs.options import Start
from starlette_upload_keepalive.jobs.stage import Stage, StagedJob
from tests.works import made

pytestmark = pytest.mark.anyio


class Jobs:
    """Makes jobs, and stands for the runner that takes them."""

    def __init__(self) -> None:
        self.published: list[Job[Any]] = []
        self.finished: list[Job[Any]] = []
        self.running = True
        self.closing = ExitStack()

    def publish(self, job: Job[Any]) -> bool:
        if self.running:
            self.published.append(job)
        return self.running

    def staged(
        self,
        *sources: Upload,
        accepts: Callable[[int], bool] = lambda status: status < 400,
        start: Start = "end",
    ) -> StagedJob:
        sources = sources or (self.upload(),)
        job = made(sources, on_done=self.finished.append)
        self.closing.callback(job._let_go)
        return StagedJob(job, sources, accepts, start, self.publish)

    def upload(self) -> Upload:
        return self.closing.enter_context(Upload.from_bytes(b"data"))


@pytest.fixture
def jobs() -> Generator[Jobs, None, None]:
    jobs = Jobs()
    with jobs.closing:
        yield jobs


# Accept


async def test_accepted_job_starts_with_the_end(jobs: Jobs) -> None:
    stage, staged = Stage(), jobs.staged()

    stage.add(staged)
    stage.decide(201)
    stage.answered()
    assert not jobs.published

    assert stage.end() == []
    assert jobs.published == [staged.job]
    assert staged.job._has_uploads


async def test_accepted_job_starts_with_the_answer(jobs: Jobs) -> None:
    stage, staged = Stage(), jobs.staged(start="response")

    stage.add(staged)
    stage.decide(201)
    assert not jobs.published

    stage.answered()
    assert jobs.published == [staged.job]
    assert stage.end() == []
    assert jobs.published == [staged.job]


async def test_rejected_job_is_dropped_with_the_answer(jobs: Jobs) -> None:
    """P4: a job runs by its own rule, and the file of a rejected one is let go of."""
    stage = Stage()
    strict, lenient = jobs.staged(accepts=lambda status: status == 200), jobs.staged()

    stage.add(strict)
    stage.add(lenient)
    stage.decide(303)

    assert strict.job.state is JobState.DISCARDED
    assert not strict.job._has_uploads
    assert lenient.job.state is JobState.STAGED
    stage.end()
    assert jobs.published == [lenient.job]
    assert jobs.finished == [strict.job]


async def test_only_the_first_answer_counts(jobs: Jobs) -> None:
    stage, staged = Stage(), jobs.staged()

    stage.add(staged)
    stage.decide(200)
    stage.decide(500)
    stage.end()

    assert jobs.published == [staged.job]


@pytest.mark.parametrize("start", ["end", "response"])
async def test_no_answer_drops_all_jobs(jobs: Jobs, start: Start) -> None:
    stage, staged = Stage(), jobs.staged(start=start)

    stage.add(staged)

    assert stage.end() == []
    assert not jobs.published
    assert staged.job.state is JobState.DISCARDED
    assert jobs.finished == [staged.job]


# Submit late


async def test_submit_after_an_answer_that_accepts(jobs: Jobs) -> None:
    stage, at_end, at_once = Stage(), jobs.staged(), jobs.staged(start="response")

    stage.decide(200)
    stage.answered()
    stage.add(at_end)
    stage.add(at_once)
    assert jobs.published == [at_once.job]

    stage.end()
    assert jobs.published == [at_once.job, at_end.job]


async def test_submit_after_an_answer_that_rejects(jobs: Jobs) -> None:
    stage = Stage()
    stage.decide(404)

    with pytest.raises(NotAccepted, match=r"^The request was answered with 404, .* submit_now\(\)"):
        stage.add(jobs.staged())

    assert stage.end() == []
    assert not jobs.published


async def test_submit_after_the_end(jobs: Jobs) -> None:
    stage, staged = Stage(), jobs.staged()
    stage.decide(200)
    stage.end()

    stage.add(staged)
    assert jobs.published == [staged.job]

    jobs.running = False
    with pytest.raises(NotRunning, match=r"^No runner is there to start"):
        stage.add(jobs.staged())


async def test_submit_after_an_end_without_an_answer(jobs: Jobs) -> None:
    """P4: what a thread submits for a request that has failed meanwhile is not run."""
    stage = Stage()
    stage.end()

    with pytest.raises(NotAccepted, match="has failed, so no job can be submitted for it"):
        stage.add(jobs.staged())

    assert not jobs.published


# Veto


@pytest.mark.parametrize("start", ["end", "response"])
async def test_veto(jobs: Jobs, start: Start) -> None:
    stage, upload = Stage(), jobs.upload()
    vetoed, spared = jobs.staged(jobs.upload(), upload, start=start), jobs.staged(start=start)

    stage.add(vetoed)
    stage.add(spared)
    stage.discard(upload)
    stage.decide(200)
    stage.answered()
    assert vetoed.job.state is JobState.DISCARDED
    stage.end()

    assert jobs.published == [spared.job]
    assert not vetoed.job._has_uploads


async def test_veto_after_the_answer(jobs: Jobs) -> None:
    """A background task may still think better of it, unless the job was to start before."""
    stage, upload = Stage(), jobs.upload()
    at_end, at_once = jobs.staged(upload), jobs.staged(upload, start="response")

    stage.add(at_end)
    stage.add(at_once)
    stage.decide(200)
    stage.answered()
    stage.discard(upload)
    stage.end()

    assert jobs.published == [at_once.job]
    assert at_end.job.state is JobState.DISCARDED


async def test_submit_after_a_veto(jobs: Jobs) -> None:
    stage, upload = Stage(), jobs.upload()
    stage.discard(upload)

    with pytest.raises(NotAccepted, match=r"^The upload was discarded"):
        stage.add(jobs.staged(upload))


# Without a runner


async def test_jobs_that_no_runner_took_are_handed_back(jobs: Jobs) -> None:
    jobs.running = False
    stage = Stage()
    early, late = jobs.staged(start="response"), jobs.staged(start="response")

    stage.add(early)
    stage.decide(200)
    stage.answered()
    stage.add(late)

    for staged in (early, late):
        with pytest.raises(WouldDeadlock):  # it is not to run before the end now
            await staged.job.wait()
    assert stage.end() == [early.job, late.job]
    assert early.job._held_by is None


# Waiting


async def test_own_task_can_not_wait(jobs: Jobs) -> None:
    stage, staged = Stage(), jobs.staged()
    stage.add(staged)

    with pytest.raises(WouldDeadlock, match=r"^The job starts after the request .* submit_now\(\)"):
        await staged.job.wait()


async def test_child_task_can_not_wait(jobs: Jobs) -> None:
    stage, staged = Stage(), jobs.staged()
    stage.add(staged)
    raised: list[WouldDeadlock] = []

    async def grandchild() -> None:
        try:
            await staged.job.wait()
        except WouldDeadlock as error:
            raised.append(error)

    async def child() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(grandchild)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(child)

    assert len(raised) == 1


async def test_others_can_wait(jobs: Jobs) -> None:
    staged = jobs.staged()

    async def request(*, task_status: TaskStatus[None]) -> None:
        stage = Stage()
        stage.add(staged)
        stage.decide(200)
        task_status.started()
        await anyio.wait_all_tasks_blocked()
        stage.end()
        staged.job._succeed(None)

    async with anyio.create_task_group() as tasks:
        await tasks.start(request)
        assert await staged.job.wait() is staged.job


async def test_released_job_can_be_waited_for_by_anyone(jobs: Jobs) -> None:
    stage, staged = Stage(), jobs.staged(start="response")
    stage.add(staged)
    stage.decide(200)
    stage.answered()

    with anyio.move_on_after(0) as scope:
        await staged.job.wait()
    assert scope.cancelled_caught


# What is done, and what is left


async def test_one_that_was_cancelled_meanwhile_is_neither_published_nor_dropped(
    jobs: Jobs,
) -> None:
    stage, rejected = Stage(), Stage()
    for each in (stage, rejected):
        staged = jobs.staged()
        each.add(staged)
        staged.job._cancel("asked")
    stage.decide(200)
    rejected.decide(500)
    assert stage.end() == rejected.end() == []
    assert not jobs.published
    assert [job.state for job in jobs.finished] == [JobState.CANCELLED] * 2


async def test_it_tells_whether_it_holds_what_was_accepted(jobs: Jobs) -> None:
    stage = Stage()
    holds = [stage.holds_accepted]
    stage.add(jobs.staged())
    holds.append(stage.holds_accepted)
    stage.decide(200)
    holds.append(stage.holds_accepted)
    stage.end()
    holds.append(stage.holds_accepted)
    assert holds == [False, False, True, False]


# Other threads


def is_locked(stage: Stage) -> bool:
    """Tell whether another thread would have to wait for it."""

    def is_locked() -> bool:
        if stage._lock.acquire(blocking=False):
            stage._lock.release()
            return False
        return True

    with ThreadPoolExecutor(1) as other:
        return other.submit(is_locked).result()


def test_no_thread_submits_while_it_takes_a_step(jobs: Jobs) -> None:
    """P4: a job that came between two lines would neither run nor be dropped."""
    locked: dict[str, bool] = {}

    class Watched(Stage):
        def __setattr__(self, name: str, value: object) -> None:
            if hasattr(self, "_lock"):
                locked[name] = is_locked(self)
            super().__setattr__(name, value)

    stage = Watched(submits=False)
    stage.add(jobs.staged())
    stage.decide(200)
    stage.answered()
    stage.end()
    steps = ["_task_id", "_status", "_staged", "_answered", "_ended"]
    assert locked == dict.fromkeys(steps, True)


def test_while_it_tells_of_a_job_other_threads_may_use_it(jobs: Jobs) -> None:
    """A hook or a runner may wait for a thread that submits."""
    stage = Stage(submits=False)
    locked = list[bool]()

    def told(_: Job[Any]) -> bool:
        locked.append(is_locked(stage))
        return True

    def staged(start: Start, *, accepted: bool = True) -> StagedJob:
        upload = jobs.upload()
        job = made([upload], on_done=told)
        jobs.closing.callback(job._let_go)
        return StagedJob(job, [upload], lambda _: accepted, start, told)

    vetoed = staged("end")
    for each in (staged("end", accepted=False), vetoed, staged("response"), staged("end")):
        stage.add(each)
    stage.discard(vetoed.sources[0])
    stage.decide(200)
    stage.answered()
    stage.end()
    assert locked == [False] * 4
