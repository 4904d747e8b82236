"""Whatever a handler raises, submits or is called with, it harms no other job."""

from __future__ import annotations

import asyncio
import gc
import math
import sys
import threading
import weakref
from contextlib import suppress
from contextvars import ContextVar
from typing import Any, NoReturn

import anyio
import anyio.to_thread
import pytest

from starlette_upload_keepalive import (
    Discard,
    Job,
    JobContext,
    JobState,
    Retry,
    RetryLater,
    Upload,
    Uploads,
)
from starlette_upload_keepalive.events import JobCancelled, JobEvent
from starlette_upload_keepalive.jobs.retry import leaves
from tests.clock import AsyncioClock, Clock, anyio_backend, clock
from tests.timed import at_work, events, register, submitting, until, uploads

if sys.version_info < (3, 11):
    from exceptiongroup import ExceptionGroup

__all__ = ["anyio_backend", "clock", "events", "uploads"]

pytestmark = pytest.mark.anyio

PATIENCE = 20  # seconds, which only a failure takes


class Exits(Exception):
    """Ends the process when it is looked at."""

    def __str__(self) -> NoReturn:
        raise SystemExit

    __repr__ = __str__


class Hides(Exception):
    @property  # type: ignore[misc]
    def __class__(self) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        raise RuntimeError

    def __hash__(self) -> NoReturn:
        raise RuntimeError


class Odd(str):
    def __format__(self, _: str) -> NoReturn:
        raise RuntimeError


class SaysOdd(Exception):
    def __str__(self) -> str:
        return Odd("text")


class LaterInWords(RetryLater):
    def __init__(self) -> None:
        super().__init__(1)
        self.seconds: Any = "tomorrow"


class LaterThanEver(RetryLater):
    def __init__(self) -> None:
        super().__init__(1)
        self.seconds = float("nan")


def deep() -> BaseException:
    error: Exception = OSError()
    for _ in range(2000):
        inner: list[Exception] = [error]
        error = ExceptionGroup("", inner)
    return error


def discarded_with_what_was_caught() -> BaseException:
    reason: Any = ValueError("bad")
    return Discard(reason)


@pytest.mark.parametrize("run_in", ["thread", "loop"])
@pytest.mark.parametrize(
    "make",
    [Exits, Hides, SaysOdd, LaterInWords, LaterThanEver, deep, discarded_with_what_was_caught],
)
async def test_error_that_can_not_be_looked_at(
    uploads: Uploads, clock: Clock, run_in: str, make: Any
) -> None:
    """P6: the other jobs do not notice."""

    def work(upload: Upload) -> None:
        raise make()

    async def work_on_loop(upload: Upload) -> None:
        work(upload)

    async def other(upload: Upload) -> str:
        await anyio.sleep(10)
        return (await upload.read()).decode()

    async with at_work(uploads) as upload:
        hostile = register(
            uploads, work if run_in == "thread" else work_on_loop, retry=Retry(attempts=2)
        ).submit_now(upload)
        sibling = register(uploads, other).submit_now(upload)
        for _ in range(2):
            await until(clock, lambda: hostile.done or hostile.state is JobState.DELAYED)
            await clock.advance(10)
        assert hostile.state in (JobState.FAILED, JobState.DISCARDED)
        assert hostile.error
        assert not hostile._has_uploads
        assert sibling.result == "data"


def test_group_that_holds_itself() -> None:
    """An exception group can't be made so, but by force."""
    errors: list[Any] = [OSError("one"), ValueError("two")]

    class Circular(ExceptionGroup[Exception]):
        @property
        def exceptions(self) -> tuple[Any, ...]:
            return (*errors, self)

    circular = Circular("", errors)
    assert list(leaves(circular)) == errors


@pytest.mark.parametrize("seconds", [1e12, 1_000_000_001])
async def test_longer_than_any_date(uploads: Uploads, seconds: float) -> None:
    with pytest.raises(ValueError, match=r"must be 0 or more, and at most 1,000,000,000, not "):
        RetryLater(seconds)
    with pytest.raises(
        ValueError, match=r"must be 0 seconds or more, and at most 1,000,000,000, not "
    ):
        Retry(wait_max=seconds)


class Forever(Retry):
    def wait(self, failures: int, chance: float) -> float:
        return math.inf


async def test_wait_for_which_there_is_no_date(uploads: Uploads, clock: Clock) -> None:
    async def handler(upload: Upload) -> None:
        raise OSError("busy")

    async with submitting(uploads, retry=Forever(attempts=2)) as submit:
        job = submit(handler)
        await clock.settle()
        assert job.state is JobState.FAILED
        assert job.error == "OverflowError: cannot convert float infinity to integer"
        assert not job._has_uploads


async def test_longest_wait(uploads: Uploads, clock: Clock) -> None:
    async def handler(upload: Upload) -> None:
        raise RetryLater(1_000_000_000)

    async with submitting(uploads) as submit:
        job = submit(handler)
        await clock.settle()
        assert job.delayed_until is not None
        assert uploads.jobs.cancel(job.id)


async def test_each_attempt_has_the_arguments_that_were_submitted(
    uploads: Uploads, clock: Clock
) -> None:
    async def handler(upload: Upload, job: JobContext, options: dict[str, int]) -> int:
        size = options.pop("size")
        if job.attempt < 3:
            raise OSError
        return size

    async with at_work(uploads) as upload:
        retry = Retry(wait_initial=1)
        job = uploads.handler(retry=retry)(handler).submit_now(upload, {"size": 5})
        await clock.advance(1)
        await clock.advance(2)
        assert (job.state, job.result) == (JobState.SUCCEEDED, 5)


@pytest.mark.parametrize("error", [KeyError(), RetryLater(0), Discard("no")], ids=repr)
async def test_what_is_cancelled_stays_so_whatever_it_raises(
    uploads: Uploads, clock: Clock, events: list[JobEvent], error: Exception
) -> None:
    called = list[str]()

    async def handler(upload: Upload) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            raise error

    def on_error(job: Job[Any], error: BaseException) -> None:
        called.append("on_error")

    async with submitting(uploads, retry=Retry(), on_error=on_error) as submit:
        job = submit(handler)
        await clock.settle()
        assert uploads.jobs.cancel(job.id)
        await clock.advance(10)
        assert (job.state, job.attempt) == (JobState.CANCELLED, 1)
    told = events[-1]
    assert isinstance(told, JobCancelled)
    assert (told.reason, told.error) == ("asked", error)
    assert not called


async def test_thread_that_is_cancelled_stays_so_whatever_it_raises(
    uploads: Uploads, clock: Clock
) -> None:
    started, go_on = threading.Event(), threading.Event()

    def handler(upload: Upload) -> None:
        started.set()
        go_on.wait(PATIENCE)
        raise OSError("without a look")

    async with submitting(uploads, retry=Retry()) as submit:
        job = submit(handler)
        await until(clock, started.is_set)
        uploads.jobs.cancel(job.id)
        go_on.set()
        await until(clock, lambda: job.done)
        assert (job.state, job.error) == (JobState.CANCELLED, "OSError: without a look")


async def test_what_a_lost_job_has_raised_is_told(clock: Clock, events: list[JobEvent]) -> None:
    uploads = Uploads(grace_period=5, hooks=[events.append])
    error = OSError("the disk")

    async def handler(upload: Upload) -> None:
        raise error

    async with submitting(uploads, retry=Retry(wait_initial=60)) as submit:
        job = submit(handler)
    told = events[-1]
    assert isinstance(told, JobCancelled)
    assert (told.reason, told.error) == ("shutdown", error)
    assert job.error == "OSError: the disk"


async def test_callbacks_and_handlers_in_threads_do_not_wait_for_each_other(clock: Clock) -> None:
    uploads = Uploads(handler_threads=1)
    go_on, called = threading.Event(), threading.Event()

    def slow(upload: Upload) -> None:
        go_on.wait(PATIENCE)

    async def quick(upload: Upload) -> None: ...

    def callback(job: Job[Any]) -> None:
        called.set()

    async with at_work(uploads) as upload:
        thread = register(uploads, slow).submit_now(upload)
        register(uploads, quick, on_success=callback).submit_now(upload)
        await until(clock, called.is_set)
        assert thread.state is JobState.RUNNING
        go_on.set()


async def test_waiting_in_another_event_loop(
    uploads: Uploads, clock: Clock, anyio_backend_name: str
) -> None:
    """It is told at once, and harms nobody who waits in the right one."""

    async def handler(upload: Upload) -> str:
        await anyio.sleep(1)
        return "fine"

    async with submitting(uploads) as submit:
        job = submit(handler)
        await clock.settle()

        def wait() -> None:
            anyio.run(job.wait, backend=anyio_backend_name)

        with pytest.raises(RuntimeError, match="runs in another event loop: wait there, or look"):
            await anyio.to_thread.run_sync(wait)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(job.wait)
            await clock.advance(1)
        assert job.result == "fine"


async def test_forgotten_files_take_the_context_along(clock: Clock) -> None:
    """What a request has put in its context is not kept for as long as its job is remembered."""
    uploads = Uploads(keep_failed=1, hooks=[])
    variable: ContextVar[Any] = ContextVar("variable")

    class User: ...

    async def handler(upload: Upload) -> None:
        raise OSError

    users = list[weakref.ref[User]]()
    async with at_work(uploads) as upload:
        submitted = register(uploads, handler)
        for _ in range(3):
            user = User()
            users.append(weakref.ref(user))
            token = variable.set(user)
            submitted.submit_now(upload)
            variable.reset(token)
            del user, token
            await clock.settle()
        gc.collect()
        assert [ref() is None for ref in users] == [True, True, False]
    gc.collect()
    assert users[2]() is None


async def test_progress_is_that_of_the_last_attempt(uploads: Uploads, clock: Clock) -> None:
    async def handler(upload: Upload, job: JobContext) -> None:
        if job.attempt == 1:
            job.progress(0.9)
            raise RetryLater(1)
        await anyio.sleep(1)

    async with submitting(uploads) as submit:
        job = submit(handler)
        await clock.advance(1)
        assert job.attempt == 2
        assert job.progress is None
        await clock.advance(1)


@pytest.mark.parametrize("clock", [AsyncioClock()], ids=["asyncio"])
async def test_handler_that_awaits_what_was_cancelled_during_a_drain(clock: Clock) -> None:
    """It is cancelled by its own task's end, and not by the runner's."""
    uploads = Uploads(grace_period=0, hooks=[])

    async def handler(upload: Upload) -> None:
        task = asyncio.create_task(asyncio.sleep(1000))
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(1000)
        task.cancel()
        await task

    async def other(upload: Upload) -> str:
        return "fine"

    async with at_work(uploads) as upload:
        register(uploads, handler).submit_now(upload)
        await clock.settle()
        await uploads.drain()
        job = await register(uploads, other).submit_now(upload).wait()
        assert job.result == "fine"
