"""What goes wrong in a process of its own is told to the app, and harms nothing else."""

from __future__ import annotations

import logging
import os
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from starlette_upload_keepalive import HandlerCrashed, HandlerRaised, JobState, Retry, Uploads
from starlette_upload_keepalive.events import JobDelayed, JobDiscarded, JobEvent, JobFailed
from starlette_upload_keepalive.processes import worker_process
from tests import process_handlers
from tests.processing import PATIENCE, no_processes, processed, run
from tests.stored import make_upload
from tests.timed import events, uploads

__all__ = ["events", "no_processes", "uploads"]

pytestmark = pytest.mark.anyio

MEMORY = 512 * 1024 * 1024


async def test_error(uploads: Uploads, events: list[JobEvent]) -> None:
    job = await run(uploads, process_handlers.raises, kind="ValueError")
    assert (job.state, job.error) == (JobState.FAILED, "ValueError: bad value")
    (failed,) = [event for event in events if isinstance(event, JobFailed)]
    assert isinstance(failed.error, HandlerRaised)
    cause = str(failed.error.__cause__)
    assert cause.startswith("Traceback (most recent call last):\n")
    assert "raise errors[kind]" in cause
    assert cause.endswith("ValueError: bad value\n")


async def test_error_of_its_module(uploads: Uploads, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROCESS_HANDLERS_FAIL", "as the test wants it")
    job = await run(uploads, process_handlers.returns)
    assert job.error == "RuntimeError: as the test wants it"


async def test_handler_that_is_not_there_in_the_process(
    uploads: Uploads, monkeypatch: pytest.MonkeyPatch
) -> None:
    def added(upload: object) -> None: ...

    added.__module__, added.__qualname__ = process_handlers.__name__, "added"
    monkeypatch.setattr(process_handlers, "added", added, raising=False)
    job = await run(uploads, added)
    assert job.error == (
        "LookupError: added is not in tests.process_handlers when that is imported."
    )


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("Special", "Special: as the test wants it"),
        ("SystemExit", "SystemExit: 3"),
        ("group", "ExceptionGroup: both (2 sub-exceptions)"),
        ("large group", "ExceptionGroup: many (20000 sub-exceptions)"),
    ],
)
async def test_text_of_an_error(uploads: Uploads, kind: str, error: str) -> None:
    job = await run(uploads, process_handlers.raises, kind=kind)
    assert (job.state, job.error) == (JobState.FAILED, error)


@pytest.mark.parametrize(
    ("retry", "attempts"),
    [
        (Retry(2, wait_initial=0, retry_on=OSError), 2),
        (Retry(2, wait_initial=0, retry_on=ValueError), 1),
    ],
)
async def test_retry_goes_by_what_was_raised(uploads: Uploads, retry: Retry, attempts: int) -> None:
    job = await run(uploads, process_handlers.raises, options={"retry": retry}, kind="Special")
    assert (job.state, job.attempt) == (JobState.FAILED, attempts)


async def test_discard(uploads: Uploads, events: list[JobEvent]) -> None:
    job = await run(uploads, process_handlers.raises, kind="Discard")
    assert (job.state, job.error) == (JobState.DISCARDED, "not a video")
    assert [event.reason for event in events if isinstance(event, JobDiscarded)] == ["not a video"]


async def test_discard_at_length(uploads: Uploads) -> None:
    job = await run(uploads, process_handlers.raises, kind="long Discard")
    assert (job.state, job.error) == (JobState.DISCARDED, "x" * 4096)


async def test_retry_later(uploads: Uploads, events: list[JobEvent]) -> None:
    handler = processed(uploads, process_handlers.later_once)
    with anyio.fail_after(PATIENCE), make_upload(uploads.storage, b"data") as upload:
        async with uploads.running():
            job = await handler.submit_now(upload).wait()
    assert (job.state, job.result) == (JobState.SUCCEEDED, 2)
    assert [event.delay_seconds for event in events if isinstance(event, JobDelayed)] == [0.25]


@pytest.mark.parametrize(
    ("function", "arguments", "options", "error"),
    [
        ("segfaults", {}, {}, "was killed by SIGSEGV."),
        (
            "segfaults",
            {},
            {"memory_limit": MEMORY},
            f"was killed by SIGSEGV, perhaps for its memory_limit of {MEMORY} bytes.",
        ),
        ("exits", {"status": 0}, {}, "ended with exit status 0 before the handler had returned."),
        ("exits", {"status": 4}, {}, "ended with exit status 4 before the handler had returned."),
        (
            "kills_itself",
            {"signal_number": signal.SIGKILL},
            {},
            "was killed by SIGKILL, perhaps because the system has no memory left.",
        ),
        ("kills_itself", {"signal_number": 40}, {}, "was killed by signal 40."),
        ("forks_and_crashes", {}, {}, "ended with exit status 5 before the handler had returned."),
        (
            "spins",
            {},
            {"cpu_limit": 1},
            "was killed by SIGXCPU: it has used up its cpu_limit of 1 s.",
        ),
    ],
)
async def test_crash(
    uploads: Uploads,
    events: list[JobEvent],
    function: str,
    arguments: Any,
    options: Any,
    error: str,
) -> None:
    handler = getattr(process_handlers, function)
    job = await run(uploads, handler, options=options, **arguments)
    assert job.state is JobState.FAILED
    assert job.error == f"HandlerCrashed: The process of {function} {error}"
    (failed,) = [event for event in events if isinstance(event, JobFailed)]
    assert isinstance(failed.error, HandlerCrashed)


@pytest.mark.parametrize(
    "function",
    [process_handlers.hogs_memory, process_handlers.hoards_memory, process_handlers.cannot_tell],
)
async def test_no_memory_left(uploads: Uploads, function: Callable[..., Any]) -> None:
    job = await run(uploads, function, options={"memory_limit": MEMORY})
    assert job.state is JobState.FAILED
    assert job.error == f"MemoryError: the memory_limit of {MEMORY} bytes is used up"


async def test_memory_error_of_the_handlers_own(uploads: Uploads) -> None:
    job = await run(uploads, process_handlers.raises, kind="MemoryError")
    assert job.error == "MemoryError"


async def test_crash_is_tried_again(uploads: Uploads) -> None:
    options = {"retry": Retry(2, wait_initial=0)}
    job = await run(uploads, process_handlers.succeeds_next, options=options)
    assert (job.state, job.result) == (JobState.SUCCEEDED, 2)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (b"\xff\xff\xff\xff", "a message of 4294967295 bytes"),
        (b"\0\0\0\1x", "no JSON: Expecting value: line 1 column 1 (char 0)"),
        (b"\0\0\0\1[", "no JSON: Expecting value: line 1 column 2 (char 1)"),
        (b"\0\0\0\2[]", "no object"),
        (b'\0\0\0\x0e{"progress":2}', "a progress of 2"),
        (b'\0\0\0\x10{"progress":"a"}', "a progress of 'a'"),
    ],
)
async def test_what_is_no_message(uploads: Uploads, text: bytes, error: str) -> None:
    job = await run(uploads, process_handlers.speaks_out_of_turn, text=text.hex())
    assert job.state is JobState.FAILED
    assert job.error == (
        f"HandlerCrashed: The process of speaks_out_of_turn has sent what is no message: {error}."
    )


async def test_progress_is_not_longer_than_a_worker_tells(uploads: Uploads) -> None:
    told = b'{"progress":1,"message":"%s"}' % (b"x" * 5000)
    sent = len(told).to_bytes(4, "big") + told + b"\0\0\0\2[]"
    job = await run(uploads, process_handlers.speaks_out_of_turn, text=sent.hex())
    assert job.progress is not None
    assert job.progress.message == "x" * 4096


async def test_error_is_not_longer_than_a_worker_tells(uploads: Uploads) -> None:
    told = b'{"error":"%s","kinds":[],"traceback":""}' % (b"x" * 5000)
    sent = len(told).to_bytes(4, "big") + told
    job = await run(uploads, process_handlers.speaks_out_of_turn, text=sent.hex())
    assert job.error == "x" * 4096


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (b'{"result":"["}', "JSONDecodeError: Expecting value: line 1 column 2 (char 1)"),
        (b'{"retry_later":-1}', "ValueError: seconds must be 0 or more"),
        (b'{"error":"a","kinds":[1],"traceback":""}', "TypeError: 'int' object is not iterable"),
        (b'{"error":"a","kinds":1,"traceback":""}', "TypeError: 'int' object is not iterable"),
        (b'{"error":"a","kinds":[],"traceback":1}', "HandlerCrashed: The process"),
        (b'{"retry_later":NaN}', "ValueError: seconds must be 0 or more"),
        (b'{"result":1}', "HandlerCrashed: The process of speaks_out_of_turn was killed by"),
    ],
)
async def test_answer_that_no_worker_gives(
    uploads: Uploads, text: bytes, error: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that was taken over may."""
    monkeypatch.setattr(worker_process, "_TIME_TO_LEAVE", 0.01)
    sent = (len(text).to_bytes(4, "big") + text).hex()
    handler = process_handlers.speaks_out_of_turn
    job = await run(uploads, handler, options={"retry": Retry(1)}, text=sent)
    assert job.state is JobState.FAILED
    assert job.error is not None
    assert job.error.startswith(error)


async def test_process_that_no_longer_listens(
    uploads: Uploads, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The app has ended it, and no lack of memory."""
    monkeypatch.setattr(worker_process, "_TIME_TO_LEAVE", 0.01)
    job = await run(uploads, process_handlers.closes_all)
    assert job.error == (
        "HandlerCrashed: The process of closes_all has sent what is no message: nothing more, "
        "although it goes on."
    )


async def test_process_that_can_not_be_started(
    uploads: Uploads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    job = await run(uploads, process_handlers.returns)
    assert job.error == (
        "FileNotFoundError: [Errno 2] No process could be started for the handler: "
        "No such file or directory: '/nowhere/python'"
    )


async def test_directory_that_is_gone(tmp_path: Path, events: list[JobEvent]) -> None:
    directory = tmp_path / "uploads"
    directory.mkdir()
    uploads = Uploads(directory=directory, hooks=[events.append])
    directory.rmdir()
    job = await run(uploads, process_handlers.returns)
    assert job.error is not None
    assert "The directory of the uploads is gone" in job.error


async def test_files_that_can_not_be_removed(
    uploads: Uploads, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is told, and the job has succeeded all the same."""

    def refuse(path: str, fd: int) -> None:
        os.rmdir(path)
        raise PermissionError(path)

    monkeypatch.setattr("starlette_upload_keepalive.processes.scratch.remove_tree", refuse)
    with caplog.at_level(logging.ERROR):
        job = await run(uploads, process_handlers.returns, what=1)
    assert job.result == 1
    assert "The files of an ended worker process could not be removed." in caplog.text


async def test_no_descriptor_is_left(uploads: Uploads, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> str:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    job = await run(uploads, process_handlers.returns)
    assert job.error == "OSError: [Errno 24] Too many open files"
