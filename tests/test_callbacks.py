"""`on_success` and `on_error` are called once, for what became of the job in the end."""

from __future__ import annotations

import functools
import threading
from collections.abc import Generator
from typing import Any

import anyio
import pytest

from starlette_upload_keepalive import Discard, Job, JobState, Retry, Upload, Uploads
from starlette_upload_keepalive.events import CallbackFailed, JobEvent
from tests.clock import Clock, anyio_backend, clock
from tests.timed import events, submitting, until, uploads

__all__ = ["anyio_backend", "clock", "events", "uploads"]

pytestmark = pytest.mark.anyio


class Called:
    """Notes how it was called, and in which thread; an error makes it fail."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.calls = list[tuple[Any, ...]]()
        self.states = list[JobState]()
        self.threads = list[int]()
        self.error = error

    def plain(self, job: Job[Any], *more: Any) -> None:
        self.calls.append((job, *more))
        self.states.append(job.state)
        self.threads.append(threading.get_ident())
        if self.error is not None:
            raise self.error

    async def on_loop(self, job: Job[Any], *more: Any) -> None:
        self.plain(job, *more)


kinds = pytest.mark.parametrize("kind", ["plain", "on_loop"])


@kinds
async def test_success(uploads: Uploads, clock: Clock, kind: str) -> None:
    success, error = Called(), Called()

    async def handler(upload: Upload) -> str:
        return "fine"

    async with submitting(
        uploads, on_success=getattr(success, kind), on_error=getattr(error, kind)
    ) as submit:
        job = submit(handler)
        await until(clock, lambda: bool(success.calls))
        assert success.calls == [(job,)]
        assert success.states == [JobState.SUCCEEDED]
        assert job.result == "fine"
    assert not error.calls
    assert (success.threads == [threading.get_ident()]) is (kind == "on_loop")


@kinds
async def test_error_after_the_last_attempt(uploads: Uploads, clock: Clock, kind: str) -> None:
    success, error = Called(), Called()
    raised = OSError("the disk")

    async def handler(upload: Upload) -> None:
        raise raised

    async with submitting(
        uploads,
        retry=Retry(attempts=2, wait_initial=1),
        on_success=getattr(success, kind),
        on_error=getattr(error, kind),
    ) as submit:
        job = submit(handler)
        await clock.settle()
        assert not error.calls
        await clock.advance(1)
        await until(clock, lambda: bool(error.calls))
        assert error.calls == [(job, raised)]
        assert error.states == [JobState.FAILED]
    assert not success.calls


@pytest.mark.parametrize("how", ["discarded", "cancelled", "lost"])
async def test_neither(uploads: Uploads, clock: Clock, how: str) -> None:
    called = Called()

    async def handler(upload: Upload) -> None:
        if how == "discarded":
            raise Discard("no")
        await anyio.sleep_forever()

    with anyio.CancelScope() as scope:
        async with submitting(uploads, on_success=called.plain, on_error=called.plain) as submit:
            job = submit(handler)
            await clock.settle()
            if how == "cancelled":
                uploads.jobs.cancel(job.id)
                await clock.settle()
            if how == "lost":
                scope.cancel()
    (job,) = uploads.jobs
    assert job.state.value == how.replace("lost", "cancelled")
    assert not called.calls


@kinds
@pytest.mark.parametrize("error", [OSError("no"), SystemExit(1), KeyboardInterrupt()], ids=repr)
async def test_one_that_raises_changes_nothing(
    uploads: Uploads, clock: Clock, events: list[JobEvent], kind: str, error: BaseException
) -> None:
    called = Called(error)

    async def handler(upload: Upload) -> str:
        return "fine"

    async with submitting(uploads, on_success=getattr(called, kind)) as submit:
        job = submit(handler)
        await until(clock, lambda: isinstance(events[-1], CallbackFailed))
        told = events[-1]
        assert isinstance(told, CallbackFailed)
        assert (told.job_id, told.callback, told.error) == (job.id, "on_success", error)
        assert (job.state, job.result, job.error) == (JobState.SUCCEEDED, "fine", None)


async def test_one_that_hangs_is_cancelled_at_shutdown(
    clock: Clock, events: list[JobEvent]
) -> None:
    uploads = Uploads(grace_period=0, hooks=[events.append])

    async def handler(upload: Upload) -> str:
        return "fine"

    async def hang(job: Job[Any]) -> None:
        await anyio.sleep_forever()

    async with submitting(uploads, on_success=hang) as submit:
        job = submit(handler)
        await clock.settle()
        assert job.state is JobState.SUCCEEDED
    assert isinstance(events[-1], CallbackFailed)
    assert str(events[-1].error) == "The app was shut down before on_success had ended."
    assert uploads.stats().open_uploads == 0


async def test_callback_may_run_the_job_again(clock: Clock, events: list[JobEvent]) -> None:
    """Which waits until the callback has ended."""
    uploads = Uploads(keep_failed=1, hooks=[events.append])
    ran = list[str]()

    async def handler(upload: Upload) -> None:
        ran.append("handler")
        if ran.count("handler") == 1:
            raise OSError

    async def again(job: Job[Any], error: BaseException) -> None:
        uploads.jobs.retry(job.id)
        await anyio.sleep(10)
        ran.append("callback ends")

    async with submitting(uploads, on_error=again) as submit:
        job = submit(handler)
        await clock.advance(9)
        assert ran == ["handler"]
        await clock.advance(1)
        assert ran == ["handler", "callback ends", "handler"]
        assert job.state is JobState.SUCCEEDED


def generator(job: Job[Any]) -> Generator[None, None, None]:
    yield


@pytest.mark.parametrize("callback", [generator, functools.partial(generator)])
def test_generator_is_no_callback(callback: Any) -> None:
    with pytest.raises(TypeError, match="is a generator, which does nothing when called"):

        @Uploads().handler(on_success=callback)
        def handler(upload: Upload) -> None: ...


@pytest.mark.parametrize("name", ["on_success", "on_error"])
def test_what_is_no_function(name: str) -> None:
    options: Any = {name: "a name"}
    with pytest.raises(TypeError, match=f"^{name} must be a function, not 'a name'.$"):
        Uploads().handler(**options)


@kinds
async def test_on_error_that_raises_is_told_by_its_name(
    uploads: Uploads, clock: Clock, events: list[JobEvent], kind: str
) -> None:
    called = Called(OSError("no mail"))

    async def handler(upload: Upload) -> None:
        raise ValueError

    async with submitting(uploads, on_error=getattr(called, kind)) as submit:
        submit(handler)
        await until(clock, lambda: isinstance(events[-1], CallbackFailed))
        told = events[-1]
        assert isinstance(told, CallbackFailed)
        assert (told.callback, told.error) == ("on_error", called.error)


async def test_thread_of_one_that_hangs_is_left_behind_at_shutdown(
    clock: Clock, events: list[JobEvent]
) -> None:
    uploads = Uploads(grace_period=0, hooks=[events.append])
    started, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    async def handler(upload: Upload) -> str:
        return "fine"

    def hang(job: Job[Any]) -> None:
        started.set()
        go_on.wait(20)
        ended.set()

    async with submitting(uploads, on_success=hang) as submit:
        job = submit(handler)
        await until(clock, started.is_set)
        assert job.state is JobState.SUCCEEDED
    assert isinstance(events[-1], CallbackFailed)
    assert not ended.is_set()
    go_on.set()
    await until(clock, ended.is_set)
