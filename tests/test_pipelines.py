"""A handler submits its upload to the next: one child each, whatever happens on the way."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path
from typing import Any

import anyio
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
from starlette_upload_keepalive.events import JobDiscarded, JobEvent
from tests.clock import Clock, anyio_backend, clock
from tests.timed import at_work, events, submitting, until, uploads

__all__ = ["anyio_backend", "clock", "events", "uploads"]

pytestmark = pytest.mark.anyio


def states(uploads: Uploads, handler: str) -> Counter[str]:
    return Counter(job.state.value for job in uploads.jobs.list(handler=handler))


async def test_validate_transform_store(uploads: Uploads, clock: Clock, tmp_path: Path) -> None:
    @uploads.handler()
    async def validate(upload: Upload) -> None:
        if await upload.read(1) != b"d":
            raise Discard("no data")
        transform.submit(upload)

    @uploads.handler()
    def transform(upload: Upload) -> None:
        with Upload.from_bytes(upload.file.read().upper(), filename="b.txt") as upper:
            store.submit(upper, "upper")
        store.submit(upload, "as it came")

    @uploads.handler()
    async def store(upload: Upload, name: str) -> str:
        return (await upload.save(tmp_path / name)).name

    async with at_work(uploads) as upload:
        first = validate.submit_now(upload)
        await until(clock, lambda: len(uploads.jobs.list(state="succeeded")) == 4)
        (second,) = uploads.jobs.list(handler="transform")
        third = uploads.jobs.list(handler="store")
    assert first.parent_id is None
    assert second.parent_id == first.id
    assert [job.parent_id for job in third] == [second.id] * 2
    assert [job.filenames for job in third] == [["b.txt"], ["a.bin"]]
    assert (tmp_path / "upper").read_bytes() == b"DATA"
    assert (tmp_path / "as it came").read_bytes() == b"data"


@pytest.mark.parametrize(
    "error", [OSError(), RetryLater(10), TimeoutError(), SystemExit()], ids=repr
)
async def test_a_rerun_makes_no_duplicate(
    uploads: Uploads, clock: Clock, events: list[JobEvent], error: BaseException
) -> None:
    ran = list[bytes]()

    @uploads.handler()
    async def child(upload: Upload) -> None:
        ran.append(await upload.read())

    async def parent(upload: Upload, job: JobContext) -> None:
        child.submit(upload)
        if job.attempt < 3:
            raise error

    retry = Retry(retry_on=BaseException, wait_initial=10, wait_factor=1, wait_jitter=0)
    async with submitting(uploads, retry=retry) as submit:
        job = submit(parent)
        await clock.advance(10)
        assert ran == []
        await clock.advance(10)
        assert ran == [b"data"]
    assert (job.state, job.attempt) == (JobState.SUCCEEDED, 3)
    assert states(uploads, "child") == {"discarded": 2, "succeeded": 1}
    dropped = [event.reason for event in events if isinstance(event, JobDiscarded)]
    assert len(dropped) == 2


@pytest.mark.parametrize("how", ["fails", "gives up", "is cancelled", "times out"])
async def test_child_of_what_came_to_nothing(uploads: Uploads, clock: Clock, how: str) -> None:
    @uploads.handler()
    async def child(upload: Upload) -> None:
        raise AssertionError

    async def parent(upload: Upload) -> None:
        child.submit(upload)
        if how == "fails":
            raise OSError
        if how == "gives up":
            raise Discard("no")
        await anyio.sleep_forever()

    async with submitting(uploads, timeout=10) as submit:
        job = submit(parent)
        await clock.settle()
        if how == "is cancelled":
            uploads.jobs.cancel(job.id)
        await clock.advance(10)
        assert job.done
    assert states(uploads, "child") == {"discarded": 1}


async def test_child_has_retries_of_its_own(uploads: Uploads, clock: Clock) -> None:
    ran = list[str]()

    @uploads.handler(retry=Retry(attempts=4, wait_initial=1, wait_jitter=0))
    async def child(upload: Upload, job: JobContext) -> None:
        ran.append(f"child {job.attempt}")
        if job.attempt < 4:
            raise OSError

    async def parent(upload: Upload, job: JobContext) -> None:
        ran.append(f"parent {job.attempt}")
        child.submit(upload)

    async with submitting(uploads, retry=Retry()) as submit:
        submit(parent)
        for seconds in (1, 2, 4):
            await clock.advance(seconds)
    assert ran == ["parent 1", "child 1", "child 2", "child 3", "child 4"]


async def test_what_is_submitted_now_starts_beside_it(uploads: Uploads, clock: Clock) -> None:
    """And is a duplicate when its parent is run again: that is what was asked for."""

    @uploads.handler()
    async def beside(upload: Upload) -> None: ...

    async def parent(upload: Upload, job: JobContext) -> str | None:
        child = await beside.submit_now(upload).wait()
        if job.attempt == 1:
            raise OSError
        return child.parent_id

    async with submitting(uploads, retry=Retry(wait_initial=1)) as submit:
        job = submit(parent)
        await clock.advance(1)
        assert job.result == job.id
    assert states(uploads, "beside") == {"succeeded": 2}


async def test_child_has_what_was_written_before_it_was_submitted(
    uploads: Uploads, clock: Clock
) -> None:
    seen = dict[str, bytes]()

    @uploads.handler()
    async def child(upload: Upload, name: str) -> None:
        seen[name] = await upload.read()

    async def parent(upload: Upload) -> None:
        child.submit(upload, "as it came")
        await upload.write(b"DA")
        child.submit(upload, "changed")
        await upload.write(b"TA")

    async with submitting(uploads) as submit:
        submit(parent)
        await until(clock, lambda: len(seen) == 2)
    assert seen == {"as it came": b"data", "changed": b"DAta"}


async def test_saved_by_each_step(uploads: Uploads, clock: Clock, tmp_path: Path) -> None:
    """`save` gives the file away in none of them: the next step has it still."""

    @uploads.handler(retry=Retry(wait_initial=1))
    async def step(upload: Upload, job: JobContext, left: int) -> None:
        await upload.save(tmp_path / str(left), overwrite=True)
        if left:
            step.submit(upload, left - 1)
        if job.attempt == 1:
            raise OSError

    async with at_work(uploads, b"x" * 2_000_000) as upload:
        step.submit_now(upload, 3)
        for _ in range(4):
            await until(clock, lambda: bool(uploads.jobs.list(state="delayed")))
            await clock.advance(1)
        await until(clock, lambda: not uploads.stats().jobs[JobState.RUNNING])
    for left in "0123":
        assert await anyio.Path(tmp_path / left).read_bytes() == b"x" * 2_000_000


async def test_discard_spares_siblings(uploads: Uploads, clock: Clock) -> None:
    """A handler vetoes what it has submitted, not what others do with the same file."""

    @uploads.handler()
    async def child(upload: Upload) -> None: ...

    @uploads.handler()
    async def vetoes(upload: Upload) -> None:
        child.submit(upload)
        upload.discard()

    @uploads.handler()
    async def sibling(upload: Upload) -> str:
        await anyio.sleep(10)
        return (await upload.read()).decode()

    async with at_work(uploads) as upload:
        jobs: list[Job[Any]] = [vetoes.submit_now(upload), sibling.submit_now(upload)]
        await clock.advance(10)
        assert [job.state for job in jobs] == [JobState.SUCCEEDED] * 2
        assert jobs[1].result == "data"
    assert states(uploads, "child") == {"discarded": 1}


async def test_a_long_line(uploads: Uploads, clock: Clock) -> None:
    @uploads.handler()
    async def step(upload: Upload, left: int) -> str:
        if left:
            step.submit(upload, left - 1)
        return (await upload.read()).decode()

    async with at_work(uploads) as upload:
        job = step.submit_now(upload, 500)
        await clock.settle()
        assert job.done
        jobs = uploads.jobs.list(state="succeeded")
        assert len(jobs) == 501
        assert all(b.parent_id == a.id for a, b in itertools.pairwise(jobs))
        assert {job.result for job in jobs} == {"data"}
