"""Hooks are told what happens to jobs, in order, and can harm none of them."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import anyio
import pytest

from starlette_upload_keepalive import (
    Discard,
    JobContext,
    JobState,
    Retry,
    Upload,
    Uploads,
    log_events,
)
from starlette_upload_keepalive import events as all_events
from starlette_upload_keepalive.events import (
    Hooks,
    JobDelayed,
    JobEvent,
    JobStarted,
    JobSubmitted,
)
from tests.clock import Clock, anyio_backend, clock
from tests.timed import at_work, events, submitting, until, uploads

__all__ = ["anyio_backend", "clock", "events", "uploads"]

pytestmark = pytest.mark.anyio

ENDS = {"JobSucceeded", "JobFailed", "JobCancelled", "JobDiscarded"}


def names(events: list[JobEvent]) -> list[str]:
    return [type(event).__name__ for event in events]


def test_an_event_can_not_be_changed() -> None:
    for kind in vars(all_events).values():
        if isinstance(kind, type) and issubclass(kind, JobEvent):
            assert kind.__dataclass_params__.frozen  # type: ignore[attr-defined]


def test_units_are_in_names() -> None:
    for kind in vars(all_events).values():
        if isinstance(kind, type) and issubclass(kind, JobEvent):
            for field in dataclasses.fields(kind):
                assert (field.type == "float") is field.name.endswith("_seconds")


async def test_the_life_of_a_job(uploads: Uploads, clock: Clock, events: list[JobEvent]) -> None:
    error = OSError()

    async def handler(upload: Upload, job: JobContext) -> None:
        if job.attempt == 1:
            raise error

    async with submitting(uploads, retry=Retry(wait_initial=10, wait_jitter=0)) as submit:
        job = submit(handler)
        assert names(events) == ["JobSubmitted"]
        await clock.advance(10)
        assert job.done
    assert names(events) == [
        *("JobSubmitted", "JobStarted", "JobDelayed", "JobStarted", "JobSucceeded"),
    ]
    assert [event.attempt for event in events] == [0, 1, 1, 2, 2]
    assert {(event.job_id, event.handler, event.field, event.parent_id) for event in events} == {
        (job.id, "handler", "files", None)
    }
    assert events[0].filenames == ("a.bin",)
    delayed = events[2]
    assert isinstance(delayed, JobDelayed)
    assert (delayed.delay_seconds, delayed.error) == (10, error)


@pytest.mark.parametrize("how", ["succeeds", "fails", "gives up", "is cancelled", "is lost"])
async def test_exactly_one_end(
    uploads: Uploads, clock: Clock, events: list[JobEvent], how: str
) -> None:
    async def handler(upload: Upload) -> None:
        if how == "fails":
            raise OSError
        if how == "gives up":
            raise Discard("no")
        if how != "succeeds":
            await anyio.sleep_forever()

    with anyio.CancelScope() as scope:
        async with submitting(uploads) as submit:
            job = submit(handler)
            await clock.settle()
            if how == "is cancelled":
                uploads.jobs.cancel(job.id)
                await clock.settle()
            if how == "is lost":
                scope.cancel()
    told = names(events)
    assert told[:2] == ["JobSubmitted", "JobStarted"]
    assert len(told) == 3
    assert told[2] in ENDS


async def test_children_name_their_parent(
    uploads: Uploads, clock: Clock, events: list[JobEvent]
) -> None:
    @uploads.handler()
    async def child(upload: Upload) -> None: ...

    async def parent(upload: Upload) -> None:
        child.submit(upload)

    async with submitting(uploads) as submit:
        job = submit(parent)
        await clock.settle()
    assert {event.parent_id for event in events if event.handler == "child"} == {job.id}


async def test_what_a_hook_returns_is_entered_around_the_attempt(clock: Clock) -> None:
    order, bound = list[str](), ContextVar[str]("bound")

    @contextmanager
    def around(job_id: str) -> Generator[None, None, None]:
        token = bound.set(job_id)
        order.append("enter")
        try:
            yield
        except OSError:
            order.append("sees the error")
            raise
        finally:
            bound.reset(token)
            order.append("exit")

    def hook(event: JobEvent) -> Any:
        if isinstance(event, JobStarted):
            return around(event.job_id)
        order.append(type(event).__name__)
        return None

    uploads = Uploads(hooks=[hook])

    def work(upload: Upload, job: JobContext) -> None:
        order.append(f"sees {bound.get() == job.id}")
        if job.attempt == 1:
            raise OSError

    async def work_on_loop(upload: Upload, job: JobContext) -> None:
        work(upload, job)

    for function in (work, work_on_loop):
        order.clear()
        retry = Retry(wait_initial=0)
        async with submitting(uploads, retry=retry) as submit:
            job = submit(function)
            await until(clock, lambda: job.state is JobState.SUCCEEDED)  # noqa: B023
        assert order == [
            *("JobSubmitted", "enter", "sees True", "sees the error", "exit", "JobDelayed"),
            *("enter", "sees True", "exit", "JobSucceeded"),
        ]


class Broken:
    """A hook, and a context manager, that raises wherever it is told to."""

    def __init__(self, *places: str) -> None:
        self.places = places

    def __call__(self, event: JobEvent) -> Any:
        if "call" in self.places:
            raise RuntimeError("of the hook")
        return self

    def __enter__(self) -> None:
        if "enter" in self.places:
            raise RuntimeError("of the hook")

    def __exit__(self, *_: object) -> bool:
        if "exit" in self.places:
            raise RuntimeError("of the hook")
        return "hide" in self.places

    def __repr__(self) -> str:
        return "the broken one"


@pytest.mark.parametrize("place", ["call", "enter", "exit", "hide"])
@pytest.mark.parametrize("fails", [False, True])
async def test_a_broken_hook_harms_nobody(
    clock: Clock,
    events: list[JobEvent],
    caplog: pytest.LogCaptureFixture,
    place: str,
    fails: bool,
) -> None:
    async def handler(upload: Upload) -> str:
        if fails:
            raise OSError
        return "fine"

    uploads = Uploads(hooks=[Broken(place), events.append, Broken()])
    async with submitting(uploads) as submit:
        job = submit(handler)
        await clock.settle()
        assert (job.state, job.result, job.error) == (
            (JobState.FAILED, None, "OSError") if fails else (JobState.SUCCEEDED, "fine", None)
        )
    assert len(events) == 3
    told = [record.getMessage() for record in caplog.records]
    expected = {"call": 3, "hide": 0}.get(place, 1)
    assert told == ["The hook the broken one has raised."] * expected


async def test_what_could_not_be_entered_is_not_exited(clock: Clock) -> None:
    class Half:
        exited = False

        def __enter__(self) -> None:
            raise RuntimeError

        def __exit__(self, *_: object) -> None:
            self.exited = True

    async def handler(upload: Upload) -> None: ...

    half = Half()
    async with submitting(Uploads(hooks=[lambda _: half])) as submit:
        job = submit(handler)
        await clock.settle()
        assert job.state is JobState.SUCCEEDED
    assert not half.exited


def test_the_user_at_the_terminal_is_heard() -> None:
    """Ctrl+C may come while a hook is at work, and is not its failure."""

    def interrupted(_: JobEvent) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Hooks([interrupted]).tell(event(JobSubmitted))


async def test_hooks_are_told_of_rejected_jobs_as_of_all_others(
    uploads: Uploads, clock: Clock, events: list[JobEvent]
) -> None:
    async def handler(upload: Upload) -> None:
        other.submit(upload)
        raise OSError

    @uploads.handler()
    async def other(upload: Upload) -> None: ...

    async with submitting(uploads) as submit:
        submit(handler)
        await clock.settle()
    assert [type(event).__name__ for event in events if event.handler == "other"] == [
        *("JobSubmitted", "JobDiscarded"),
    ]


async def test_ten_thousand_jobs_each_begin_and_end(
    uploads: Uploads, clock: Clock, events: list[JobEvent]
) -> None:
    @uploads.handler()
    async def handler(upload: Upload) -> None: ...

    async with at_work(uploads) as upload:
        for _ in range(10_000):
            handler.submit_now(upload)
        await clock.settle()
    begun = [event.job_id for event in events if isinstance(event, JobSubmitted)]
    ended = [event.job_id for event in events if type(event).__name__ in ENDS]
    assert len(begun) == 10_000
    assert sorted(begun) == sorted(ended)


def test_what_is_no_hook() -> None:
    hooks: Any = ["log"]
    with pytest.raises(TypeError, match=r"^A hook must be a function of one event, not 'log'.$"):
        Uploads(hooks=hooks)
    hooks = print
    with pytest.raises(
        TypeError, match=r"^hooks must be a list of functions, not the one function"
    ):
        Uploads(hooks=hooks)


class Forged(Exception):
    """What a handler raises that tells of a client's filename."""

    def __repr__(self) -> str:
        return "a.png\nERROR:root:forged"


def event(kind: type[JobEvent], **told: Any) -> JobEvent:
    return kind(
        job_id="id",
        handler="thumbnail",
        field="photo",
        filenames=["a.png"],
        attempt=2,
        parent_id=None,
        **told,
    )


@pytest.mark.parametrize(
    ("told", "level", "message"),
    [
        (
            event(all_events.JobFailed, ran_seconds=1, error=OSError("no")),
            logging.ERROR,
            "failed",
        ),
        (
            event(all_events.CallbackFailed, callback="on_error", error=OSError("no")),
            logging.ERROR,
            "is done, but its on_error failed",
        ),
        (
            event(JobDelayed, delay_seconds=12.34567, ran_seconds=1, error=OSError("\n")),
            logging.WARNING,
            r"will be tried again in 12.3 s, after attempt 2 (OSError('\n'))",
        ),
        (
            event(all_events.JobOverran, timeout_seconds=30),
            logging.WARNING,
            "takes longer than its 30 s (its thread was asked to stop)",
        ),
        (
            event(all_events.JobCancelled, reason="asked", thread_goes_on=False),
            logging.INFO,
            "was cancelled",
        ),
        (
            event(all_events.JobCancelled, reason="shutdown", thread_goes_on=False),
            logging.ERROR,
            "is lost, the app was shut down first",
        ),
        (
            event(all_events.JobCancelled, reason="shutdown", thread_goes_on=True),
            logging.ERROR,
            "is lost, the app was shut down first (its thread goes on until it returns)",
        ),
        (
            event(all_events.JobDiscarded, reason="the upload vetoed it"),
            logging.INFO,
            "was discarded (the upload vetoed it)",
        ),
        (
            event(all_events.JobDiscarded, reason="a.png\nERROR:root:forged"),
            logging.INFO,
            r"was discarded (a.png\nERROR:root:forged)",
        ),
        (
            event(JobDelayed, delay_seconds=1, ran_seconds=1, error=Forged()),
            logging.WARNING,
            r"will be tried again in 1 s, after attempt 2 (a.png\nERROR:root:forged)",
        ),
        (event(JobSubmitted), None, ""),
        (event(JobStarted, waited_seconds=1), None, ""),
        (event(all_events.JobSucceeded, ran_seconds=1), None, ""),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, JobEvent) else "",
)
def test_log(
    told: JobEvent, level: int | None, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, "starlette_upload_keepalive"):
        log_events(told)
    if level is None:
        assert caplog.records == []
        return
    (record,) = caplog.records
    assert record.levelno == level
    assert record.getMessage() == (
        f"Job id of handler thumbnail {message}: field 'photo', files ['a.png']."
    )
    has_traceback = isinstance(told, (all_events.JobFailed, all_events.CallbackFailed))
    assert (record.exc_info is not None) is has_traceback
