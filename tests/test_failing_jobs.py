"""P6: a job that fails harms no one, whatever it raises, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref
from collections.abc import Callable
from typing import Any

import anyio
import anyio.from_thread
import pytest

from starlette_upload_keepalive import JobState, Upload, Uploads
from tests.running import AnyHandler, Gate, at_work, both_kinds

pytestmark = pytest.mark.anyio


class OddError(BaseException):
    """Not an `Exception`."""


async def raise_odd() -> None:
    raise OddError


async def raise_group() -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(raise_odd)


@both_kinds
@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ValueError("no picture"), "ValueError: no picture"),
        (SystemExit(3), "SystemExit: 3"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (asyncio.CancelledError(), "CancelledError"),
        (OddError(), "OddError"),
        (raise_group, "BaseExceptionGroup: "),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
async def test_failure_harms_no_one(
    uploads: Uploads,
    upload: Upload,
    caplog: pytest.LogCaptureFixture,
    run_in: str,
    error: BaseException | Callable[[], Any],
    told: str,
) -> None:
    """P6, P2: it is logged once, counted, its file closed, and the others go on."""

    @uploads.handler(name="failing")
    async def failing_on_loop(upload: Upload) -> None:
        await upload.read()
        if isinstance(error, BaseException):
            raise error
        await error()

    @uploads.handler(name="failing in thread")
    def failing_in_thread(upload: Upload) -> None:
        upload.file.read()
        if isinstance(error, BaseException):
            raise error
        anyio.from_thread.run(error)

    gate = Gate(uploads, "loop")
    failing: AnyHandler = failing_in_thread if run_in == "thread" else failing_on_loop
    async with at_work(uploads):
        sibling = gate.handler.submit(upload, 1)
        await gate.starts(1)
        job = await failing.submit(upload).wait()
        gate.open()
        assert (await sibling.wait()).state is JobState.SUCCEEDED

        assert job.state is JobState.FAILED
        assert job.error is not None
        assert job.error.startswith(told)
        assert job.result is None
        assert not job._has_uploads
        assert upload._view.blob.owners == ["the test"]
        counts = uploads.stats().jobs
        assert (counts[JobState.FAILED], counts[JobState.SUCCEEDED]) == (1, 1)
        (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]

    assert record.name == "starlette_upload_keepalive"
    assert record.getMessage() == (
        f"Job {job.id} of handler {failing.name} failed: field 'photo', files ['a.png']."
    )
    assert record.exc_info
    assert type(record.exc_info[1]).__name__ == told.partition(":")[0]


@both_kinds
async def test_generator_is_no_result(uploads: Uploads, upload: Upload, run_in: str) -> None:
    async def on_loop(upload: Upload) -> Any:
        return (number for number in range(3))

    def in_thread(upload: Upload) -> Any:
        return (number for number in range(3))

    registered: Any = in_thread if run_in == "thread" else on_loop
    handler: AnyHandler = uploads.handler(name="handler")(registered)
    async with at_work(uploads):
        job = await handler.submit(upload).wait()

    assert job.error is not None
    assert "The result of handler must be JSON" in job.error
    assert "generator is not JSON serializable" in job.error


class Large:
    """Stands for what a handler has in memory."""


@both_kinds
@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # trio's own threads make a cycle
async def test_failure_leaves_no_memory_behind(
    uploads: Uploads, upload: Upload, monkeypatch: pytest.MonkeyPatch, run_in: str
) -> None:
    """P2: what the handler had in hand is not kept by its own traceback."""
    monkeypatch.setattr(logging.getLogger("starlette_upload_keepalive"), "disabled", True)
    kept: list[weakref.ref[Large]] = []

    def fail_once(upload: Upload) -> None:
        if kept:
            return
        large = Large()
        kept.append(weakref.ref(large))
        raise ValueError

    async def fail_once_on_loop(upload: Upload) -> None:
        fail_once(upload)

    registered: Any = fail_once if run_in == "thread" else fail_once_on_loop
    handler: AnyHandler = uploads.handler()(registered)
    gc.disable()
    try:
        async with at_work(uploads):
            await handler.submit(upload).wait()
            await handler.submit(upload).wait()  # the thread has put the first one away
        assert kept[0]() is None
    finally:
        gc.enable()
