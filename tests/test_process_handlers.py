"""A handler in a process of its own gets what it would get in a thread, and gives the same back."""

from __future__ import annotations

import hashlib
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from starlette.datastructures import Headers

from starlette_upload_keepalive import Job, JobState, Uploads
from starlette_upload_keepalive.events import JobEvent
from starlette_upload_keepalive.testing import finish_jobs
from tests import process_handlers
from tests.pages import ROOT
from tests.processing import (
    PATIENCE,
    gone,
    my_temporary_files,
    no_processes,
    processed,
    run,
    submitting,
)
from tests.stored import make_upload
from tests.timed import events, uploads

__all__ = ["events", "no_processes", "uploads"]

pytestmark = pytest.mark.anyio

in_memory_and_on_disk = pytest.mark.parametrize(
    "memory_max_size", [1024, 0], ids=["memory", "disk"]
)


@in_memory_and_on_disk
async def test_what_it_is_given(memory_max_size: int) -> None:
    uploads = Uploads(memory_max_size=memory_max_size)
    handler = processed(uploads, process_handlers.facts)
    with anyio.fail_after(PATIENCE), make_upload(uploads.storage, b"some data") as upload:
        upload.filename, upload.field_name = "\udcff.txt", "video"
        upload.headers = Headers({"content-type": "text/plain", "x-more": "\xe9"})
        await upload.seek(4)
        async with uploads.running():
            job = await handler.submit_now(upload, number=3).wait()
    facts: Any = job.result
    assert job.error is None
    assert facts["pid"] == facts["group"] == facts["session"] != os.getpid()
    opened = facts.pop("open")
    temporary = facts.pop("temporary")
    assert {key: facts[key] for key in facts.keys() - {"pid", "group", "session"}} == {
        "first": "some data",
        "as_path": "some data",
        "is_read_only": True,
        "filename": "\udcff.txt",
        "size": 9,
        "content_type": "text/plain",
        "headers": {"content-type": "text/plain", "x-more": "\xe9"},
        "field": "video",
        "job": job.id,
        "attempt": 1,
        "cancelled": False,
        "number": 3,
    }
    assert os.path.dirname(temporary) == uploads.storage.directory
    assert my_temporary_files(uploads) == []
    # Of the app it has its file and its ends of what they talk by, and nothing else.
    *files, lifeline, channel = opened
    assert files == [next(name for name in opened if "deleted" in name)] * 2
    assert [lifeline.partition(":")[0], channel.partition(":")[0]] == ["pipe", "socket"]


@in_memory_and_on_disk
async def test_saves_in_a_loop_of_its_own(memory_max_size: int, tmp_path: Path) -> None:
    uploads = Uploads(memory_max_size=memory_max_size)
    handler = processed(uploads, process_handlers.saves)
    with anyio.fail_after(PATIENCE), make_upload(uploads.storage, b"some data") as upload:
        async with uploads.running():
            job = await handler.submit_now(upload, to=str(tmp_path)).wait()
    assert job.error is None
    (name,) = os.listdir(tmp_path)
    saved = tmp_path / name
    assert (str(saved), saved.read_bytes()) == (job.result, b"some data")


async def test_bytes_as_they_came_on_disk() -> None:
    """And no copy of them is made."""
    data = os.urandom(3_000_000)
    uploads = Uploads(memory_max_size=0)
    handler = processed(uploads, process_handlers.digest, many=True)
    with anyio.fail_after(PATIENCE), make_upload(uploads.storage, data) as upload:
        async with uploads.running():
            job = await handler.submit_now([upload, upload]).wait()
    assert job.result == [hashlib.sha256(data).hexdigest()] * 2


async def test_each_upload_in_memory_takes_one_descriptor(uploads: Uploads) -> None:
    handler = processed(uploads, process_handlers.count, many=True)
    kinds = resource.getrlimit(resource.RLIMIT_NOFILE)
    with anyio.fail_after(PATIENCE), make_upload(uploads.storage, b"data") as upload:
        async with uploads.running():
            job = handler.submit_now([upload] * 200)
            resource.setrlimit(resource.RLIMIT_NOFILE, (300, kinds[1]))
            try:
                await job.wait()
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, kinds)
    assert (job.result, job.error) == (200, None)


@pytest.mark.parametrize("what", [None, True, 1.5, "text\ud800", [1, {"a": [None]}]], ids=repr)
async def test_result(uploads: Uploads, what: Any) -> None:
    job = await run(uploads, process_handlers.returns, what=what)
    assert (job.state, job.result, job.error) == (JobState.SUCCEEDED, what, None)


async def test_large_result(uploads: Uploads) -> None:
    job = await run(uploads, process_handlers.returns, size=65_534)
    assert job.result == "x" * 65_534


async def test_result_that_is_too_large(uploads: Uploads) -> None:
    job = await run(uploads, process_handlers.returns, size=65_535)
    assert job.state is JobState.FAILED
    assert job.error == (
        "ResultTooLarge: The result of returns is 65537 bytes of JSON, more than 65536: "
        "store it elsewhere and return where it is."
    )


async def test_result_that_is_no_json(uploads: Uploads) -> None:
    job = await run(uploads, process_handlers.returns_no_json)
    assert job.state is JobState.FAILED
    assert job.error is not None
    assert job.error.startswith("TypeError: The result of returns_no_json must be JSON")


async def test_large_arguments(uploads: Uploads) -> None:
    """The order is more than what a socket holds."""
    job = await run(uploads, process_handlers.length, text="x" * 1_000_000)
    assert job.result == 1_000_000


async def test_it_is_started_with_nothing_of_where_it_is(
    uploads: Uploads, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The paths of the app are its own, too, and not what `python -c` adds to them."""
    for name in ("json", "re", "socket", "typing"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])
    monkeypatch.delenv("PYTHONPATH", raising=False)
    job = await run(uploads, process_handlers.arguments)
    assert (job.result, job.error) == (["-c"], None)


async def test_progress(uploads: Uploads) -> None:
    job = await run(uploads, process_handlers.tells_progress)
    assert (job.state, job.result) == (JobState.SUCCEEDED, "done")
    assert job.progress is not None
    assert job.progress.fraction == 1
    assert job.progress.message == "x" * 4096


async def test_name_leads_to_the_handler() -> None:
    uploads = process_handlers.uploads
    with anyio.fail_after(PATIENCE), make_upload(uploads.storage, b"data") as upload:
        async with uploads.running():
            job = await process_handlers.decorated.submit_now(upload).wait()
    assert job.result == 4


@pytest.mark.parametrize("how", ["submit", "submit_now"])
async def test_it_submits_nothing(uploads: Uploads, how: str) -> None:
    job = await run(uploads, process_handlers.submits, how=how)
    assert job.state is JobState.FAILED
    assert job.error is not None
    assert job.error.startswith("NotRunning: ")
    if how == "submit":
        assert "decorated can't be submitted to in a process of its own" in job.error


async def test_how_many_run_at_once(events: list[JobEvent]) -> None:
    uploads = Uploads(handler_processes=2, hooks=[events.append])
    async with submitting(uploads, process_handlers.tells_and_waits) as submit:
        jobs = [submit() for _ in range(3)]
        while sum(job.state is JobState.RUNNING for job in jobs) < 2:
            await checkpoint()
        assert uploads.stats().busy_processes == 2
        assert jobs[2].state is JobState.WAITING
        for job in jobs:
            uploads.jobs.cancel(job.id)
            await job.wait()
    assert uploads.stats().busy_processes == 0


def test_how_many_run_at_once_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    def counted(count: int | None) -> int:
        monkeypatch.setattr(os, "cpu_count", lambda: count)
        return Uploads()._places["process"]

    assert [counted(each) for each in (7, None)] == [7, 1]
    with pytest.raises(ValueError, match=r"^handler_processes must be 1 or more, not 0\.$"):
        Uploads(handler_processes=0)


@pytest.mark.parametrize(
    "function",
    [
        process_handlers.leaves_a_child,
        process_handlers.leaves_a_group,
        process_handlers.forks_and_returns,
    ],
)
async def test_nothing_it_has_started_goes_on(
    uploads: Uploads, function: Callable[..., Any]
) -> None:
    job = await run(uploads, function)
    with anyio.fail_after(PATIENCE):
        await gone(int(str(job.result)))


async def test_nothing_it_has_started_speaks_in_its_place(uploads: Uploads) -> None:
    job = await run(uploads, process_handlers.gives_on)
    assert job.result == [0, 0]


async def test_one_that_does_not_leave_has_returned_all_the_same(
    uploads: Uploads, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = "starlette_upload_keepalive.processes.worker_process._TIME_TO_LEAVE"
    monkeypatch.setattr(where, 0.01)
    job = await run(uploads, process_handlers.does_not_leave)
    assert (job.state, job.result) == (JobState.SUCCEEDED, "returned")


async def test_in_the_tests_of_an_app(uploads: Uploads) -> None:
    handler = processed(uploads, process_handlers.returns)
    with anyio.fail_after(PATIENCE), make_upload(uploads.storage, b"data") as upload:
        async with uploads.running():
            job: Job[Any] = handler.submit_now(upload, what=7)
            await finish_jobs(uploads)
            assert job.result == 7


async def test_limits_are_set_before_its_module_is_imported(uploads: Uploads) -> None:
    options = {"memory_limit": 2**30}
    job = await run(uploads, process_handlers.limits_at_import, options=options)
    assert job.result == [2**30, 2**30]


async def test_limits_do_not_leak_to_the_next_job(uploads: Uploads) -> None:
    before = await run(uploads, process_handlers.limits)
    limited = await run(
        uploads,
        process_handlers.limits,
        options={"name": "limited", "memory_limit": 2**30, "cpu_limit": 50},
    )
    after = await run(uploads, process_handlers.limits, options={"name": "again"})
    assert limited.result == {
        "RLIMIT_AS": [2**30, 2**30],
        "RLIMIT_CPU": [50, 51],
        "RLIMIT_CORE": [0, 0],
        "RLIMIT_NOFILE": [1024, 1024],
    }
    assert (
        before.result
        == after.result
        == {
            "RLIMIT_AS": list(resource.getrlimit(resource.RLIMIT_AS)),
            "RLIMIT_CPU": list(resource.getrlimit(resource.RLIMIT_CPU)),
            "RLIMIT_CORE": [0, 0],
            "RLIMIT_NOFILE": [1024, 1024],
        }
    )
