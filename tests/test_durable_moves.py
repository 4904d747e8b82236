"""Jobs on their way from a place to the spool or back, when something else happens meanwhile."""

from __future__ import annotations

import errno
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from starlette_upload_keepalive import DirectorySpool, Job, JobState, Upload, Uploads
from starlette_upload_keepalive.events import JobEvent, JobReleased
from tests.running import at_work
from tests.sites import reading
from tests.spooled import durable, enqueue, entries, names, parking, states, until
from tests.stored import Gate

pytestmark = pytest.mark.anyio


class Held:
    """A handler with one place, whose jobs wait until they may go on."""

    def __init__(self, root: Path, **options: Any) -> None:
        self.uploads: Uploads = durable(root, handler_tasks=1, **options)
        self.opened = anyio.Event()
        self.began: list[str] = []
        self.handler: Any = self.uploads.handler(name="work")(self._work)

    async def _work(self, upload: Upload) -> str:
        self.began.append((await upload.read()).decode())
        await self.opened.wait()
        return "here"

    async def give_back_another(self) -> Job[Any]:
        job = await enqueue(self.handler, b"2")
        parking(self.uploads)._give_back_all()
        return job

    def is_closed(self) -> bool:
        return self.uploads._runner is not None and not parking(self.uploads)._is_open

    def is_stopping(self) -> bool:
        runner = self.uploads._runner
        return runner is not None and runner.executor._is_stopping

    async def one_runs_and_one_is_parked(self) -> tuple[Job[Any], Job[Any]]:
        first, second = await enqueue(self.handler, b"1"), await self.give_back_another()
        known = parking(self.uploads)._known
        await until(lambda: self.began == ["1"] and second.id in known)
        return first, second


def hold(monkeypatch: pytest.MonkeyPatch, step: str) -> Gate:
    """Hold the threads that take a step of the spool."""
    gate = Gate()
    monkeypatch.setattr(DirectorySpool, step, gate.before(getattr(DirectorySpool, step)))
    return gate


@asynccontextmanager
async def meanwhile(call: Callable[[], Coroutine[Any, Any, object]]) -> AsyncGenerator[None, None]:
    """Run a task beside the block, and wait for it."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call)
        await anyio.wait_all_tasks_blocked()
        yield


def fail(*_: object, **__: object) -> None:
    raise OSError(errno.EIO, "of the test")


# Cancelled


async def test_cancelled_while_it_is_claimed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was told to be cancelled does not run."""
    held = Held(root)
    async with at_work(held.uploads):
        first, second = await held.one_runs_and_one_is_parked()
        gate = hold(monkeypatch, "claim")
        held.opened.set()
        await gate.entered()
        assert held.uploads.jobs.cancel(second.id)
        gate.open()
        await first.wait()
        await second.wait()
        await until(lambda: states(root, "done") == "cs")
        assert not held.uploads.jobs.cancel(second.id)
    assert second.state is JobState.CANCELLED
    assert held.began == ["1"]


async def test_cancelled_twice_while_it_is_claimed_for_that(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(root)
    async with at_work(held.uploads):
        first, second = await held.one_runs_and_one_is_parked()
        gate = hold(monkeypatch, "claim")
        for _ in range(2):
            assert held.uploads.jobs.cancel(second.id)
            await gate.entered()
        gate.open()
        await second.wait()
        held.opened.set()
        await first.wait()
    assert (second.state, states(root, "done")) == (JobState.CANCELLED, "cs")
    assert held.began == ["1"]


async def test_what_another_process_claims_first_is_not_cancelled(root: Path) -> None:
    """Who waits for it is told what came of it there."""
    held = Held(root)
    other = durable(root)

    @other.handler(name="work")
    async def elsewhere(upload: Upload) -> str:
        return "there"

    async with at_work(held.uploads):
        _, second = await held.one_runs_and_one_is_parked()
        async with meanwhile(second.wait):
            async with at_work(other):
                await until(lambda: states(root, "done") == "s")
            assert held.uploads.jobs.cancel(second.id)
            await until(lambda: not parking(held.uploads)._claims)
            assert not second.done
            parking(held.uploads).look_soon()
        held.opened.set()
    assert (second.state, second.result) == (JobState.SUCCEEDED, "there")
    assert states(root, "done") == "ss"


# The app ends


async def test_app_is_cancelled_while_a_job_waits_on_the_disk(root: Path) -> None:
    """P8: neither is lost."""
    held = Held(root)
    with anyio.CancelScope() as scope:
        async with at_work(held.uploads):
            await held.one_runs_and_one_is_parked()
            scope.cancel()
    assert [entry.standing.attempts for entry in entries(root, "ready")] in ([0, 1], [1, 0])
    assert names(root, "claimed") == names(root, "owners") == []


async def test_app_ends_while_a_job_is_claimed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """P8: the job does not start any more, and waits for the next process."""
    held = Held(root, grace_period=0)
    gate = Gate()

    async def open_at_the_end() -> None:
        await until(held.is_stopping)
        gate.open()

    async with meanwhile(open_at_the_end), at_work(held.uploads):
        first, second = await held.one_runs_and_one_is_parked()
        monkeypatch.setattr(DirectorySpool, "claim", gate.before(DirectorySpool.claim))
        held.opened.set()
        await first.wait()
        await gate.entered()
    assert (held.began, second.done) == (["1"], False)
    (entry,) = entries(root, "ready")
    assert (entry.id, entry.standing.attempts) == (second.id, 0)
    assert names(root, "claimed") == names(root, "owners") == []
    assert held.uploads.stats().open_uploads == 0


async def test_job_that_is_not_taken_back_is_run_at_the_end(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """P8: nobody else can, and there is a grace period."""
    held = Held(root)

    async def open_at_the_end() -> None:
        await until(held.is_closed)
        held.opened.set()

    monkeypatch.setattr(DirectorySpool, "release", fail)
    async with meanwhile(open_at_the_end), at_work(held.uploads):
        first, second = await enqueue(held.handler, b"1"), await held.give_back_another()
        await until(lambda: "its spool did not take it back" in caplog.text)
    assert (first.result, second.result) == ("here", "here")
    assert states(root, "done") == "ss"


async def test_after_a_drain_what_waits_on_the_disk_is_run(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was cut off is to be found first."""
    events: list[JobEvent] = []
    held = Held(root, grace_period=0, hooks=[events.append])
    async with at_work(held.uploads):
        first, _ = await held.one_runs_and_one_is_parked()
        with monkeypatch.context() as patch:
            patch.setattr(DirectorySpool, "waiting", fail)
            await held.uploads.drain()
            await until(lambda: held.began == ["1", "2"])
        held.opened.set()
        parking(held.uploads).look_soon()
        await until(lambda: states(root, "done") == "ss")
    assert held.began == ["1", "2", "1"]
    assert [event.job_id for event in events if isinstance(event, JobReleased)] == [first.id]


# The spool fails


async def test_what_is_not_taken_back_gets_the_place_that_is_free_meanwhile(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(root)
    gate = Gate()
    async with at_work(held.uploads):
        first = await enqueue(held.handler, b"1")
        monkeypatch.setattr(DirectorySpool, "release", gate.before(fail))
        second = await held.give_back_another()
        await gate.entered()
        held.opened.set()
        await first.wait()
        await until(lambda: not held.uploads.stats().busy_tasks)
        gate.open()
        assert (await second.wait()).result == "here"
    assert states(root, "done") == "ss"


async def test_drain_ends_although_a_job_is_not_taken_back(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """P8: that is tried once more, and the job does not start any more."""
    held = Held(root, grace_period=0)
    gate, release = Gate(), DirectorySpool.release

    async def open_at_the_end() -> None:
        await until(held.is_stopping)
        monkeypatch.setattr(DirectorySpool, "release", release)
        gate.open()

    async with meanwhile(open_at_the_end), at_work(held.uploads):
        await enqueue(held.handler, b"1")
        await until(lambda: held.began)
        monkeypatch.setattr(DirectorySpool, "release", gate.before(fail))
        await held.give_back_another()
        await gate.entered()
    assert "its spool did not take it back" in caplog.text
    assert held.began == ["1"]
    await until(lambda: states(root, "ready") == "ww")
    assert names(root, "owners") == []


async def test_claim_that_fails_of_a_job_from_an_earlier_start(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The next look finds it again."""
    held = Held(root, grace_period=0)
    async with at_work(held.uploads):
        await held.one_runs_and_one_is_parked()
    later = durable(root)
    later.handler(name="work")(reading)
    with monkeypatch.context() as patch:
        patch.setattr(DirectorySpool, "claim", fail)
        async with at_work(later):
            await until(lambda: "could not be claimed" in caplog.text)
            assert list(later.jobs) == []
            patch.undo()
            parking(later).look_soon()
            await until(lambda: {job.result for job in later.jobs} == {"1", "2"})
    assert states(root, "done") == "ss"


# Who waits for it here


async def test_looked_for_elsewhere_while_it_is_done_here(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told once."""
    held = Held(root)
    async with at_work(held.uploads):
        _, second = await held.one_runs_and_one_is_parked()
        async with meanwhile(second.wait):
            gate = hold(monkeypatch, "jobs")
            parking(held.uploads).look_soon()
            await gate.entered()
            held.opened.set()
        await until(lambda: states(root, "done") == "ss")
        told = second.finished_at
        gate.open()
        assert (await (await enqueue(held.handler, b"3")).wait()).result == "here"
        parking(held.uploads).look_soon()
        await anyio.wait_all_tasks_blocked()
        assert (second.result, second.finished_at) == ("here", told)
