"""The jobs that a job submits start with its success, and never without."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import pytest

from starlette_upload_keepalive import Job, JobState, Upload, Uploads, WouldDeadlock
from tests.running import AnyHandler, Gate, at_work, both_kinds

pytestmark = pytest.mark.anyio


async def test_child_starts_when_its_parent_has_succeeded(uploads: Uploads, upload: Upload) -> None:
    events: list[str] = []

    @uploads.handler()
    async def child(upload: Upload) -> str:
        events.append(f"child while parent {parents[0].state.value}")
        return (await upload.read()).decode()

    @uploads.handler()
    async def parent(upload: Upload) -> str:
        job = child.submit(upload)
        with Upload.from_bytes(b"made here") as made:
            other = child.submit(made)
        await anyio.wait_all_tasks_blocked()
        events.append(f"parent ends, child {job.state.value}")
        return f"{job.id} {other.id}"

    @uploads.handler()
    def parent_in_thread(upload: Upload) -> str:
        job = child.submit(upload)
        with Upload.from_bytes(b"made here") as made:
            other = child.submit(made)
        events.append(f"parent ends, child {job.state.value}")
        return f"{job.id} {other.id}"

    for handler in (parent, parent_in_thread):
        events.clear()
        async with at_work(uploads):
            parents = [handler.submit(upload)]

        children = [uploads.jobs.get(job_id) for job_id in str(parents[0].result).split()]
        assert [child.result for child in children if child] == ["data", "made here"]
        assert events == ["parent ends, child staged", *["child while parent succeeded"] * 2]


@both_kinds
async def test_child_of_a_failed_parent_is_dropped(
    uploads: Uploads, upload: Upload, run_in: str
) -> None:
    @uploads.handler()
    def child(upload: Upload) -> None:
        pytest.fail("not reached")  # pragma: no cover

    def fail(upload: Upload) -> None:
        children.append(child.submit(upload))
        raise ValueError

    def return_too_much(upload: Upload) -> str:
        children.append(child.submit(upload))
        return "x" * 100_000

    async def fail_on_loop(upload: Upload) -> None:
        fail(upload)

    async def return_too_much_on_loop(upload: Upload) -> str:
        return return_too_much(upload)

    children: list[Job[Any]] = []
    parents: list[Any] = [fail, return_too_much]
    if run_in == "loop":
        parents = [fail_on_loop, return_too_much_on_loop]
    for registered in parents:
        handler: AnyHandler = uploads.handler()(registered)
        async with at_work(uploads):
            assert (await handler.submit(upload).wait()).state is JobState.FAILED

    assert [job.state for job in children] == [JobState.DISCARDED] * 2
    assert not any(job._has_uploads for job in children)
    assert upload._view.blob.owners == ["the test"]


async def test_handler_may_veto_its_children(uploads: Uploads, upload: Upload) -> None:
    @uploads.handler()
    def child(upload: Upload) -> None:
        pytest.fail("not reached")  # pragma: no cover

    @uploads.handler()
    def parent(upload: Upload) -> str:
        job = child.submit(upload)
        upload.discard()
        return job.id

    async with at_work(uploads):
        job = await parent.submit(upload).wait()
        vetoed = uploads.jobs.get(str(job.result))

    assert vetoed is not None
    assert vetoed.state is JobState.DISCARDED


async def test_handler_can_not_wait_for_its_child(uploads: Uploads, upload: Upload) -> None:
    gate = Gate(uploads, "loop")

    @uploads.handler()
    async def parent(upload: Upload) -> int:
        child = gate.handler.submit(upload, 1)
        raised = 0

        async def wait() -> None:
            nonlocal raised
            with pytest.raises(WouldDeadlock):
                await child.wait()
            raised += 1

        await wait()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
        gate.open()
        return raised

    async with at_work(uploads):
        assert (await parent.submit(upload).wait()).result == 2


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_handler_that_renames_its_task_can_not_wait_either(
    uploads: Uploads, upload: Upload
) -> None:
    """As those do who trace or log by the names of tasks."""
    gate = Gate(uploads, "loop")

    @uploads.handler()
    async def parent(upload: Upload) -> bool:
        task = asyncio.current_task()
        assert task is not None
        task.set_name("resizing")
        with pytest.raises(WouldDeadlock):
            await gate.handler.submit(upload, 1).wait()
        gate.open()
        return True

    async with at_work(uploads):
        assert (await parent.submit(upload).wait()).result is True


async def test_handler_can_wait_for_what_it_starts_now(uploads: Uploads, upload: Upload) -> None:
    @uploads.handler()
    def child(upload: Upload) -> int:
        return 7

    @uploads.handler()
    async def parent(upload: Upload) -> int | None:
        return (await child.submit_now(upload).wait()).result

    async with at_work(uploads):
        job = await parent.submit(upload).wait()

    assert (job.result, job.error) == (7, None)


async def test_task_that_a_handler_left_behind_submits_at_once(
    uploads: Uploads, upload: Upload
) -> None:
    """Whatever became of the handler: the task may well live as long as the app."""

    @uploads.handler()
    def work(upload: Upload) -> None: ...

    @uploads.handler()
    async def leave_task(upload: Upload) -> None:
        async def submit() -> None:
            await parent.wait()
            jobs.append(work.submit(other))

        tasks.start_soon(submit)
        raise ValueError

    jobs: list[Job[Any]] = []
    with Upload.from_bytes(b"") as other:
        async with at_work(uploads), anyio.create_task_group() as tasks:
            parent = leave_task.submit(upload)
            await parent.wait()

    assert [job.state for job in jobs] == [JobState.SUCCEEDED]
