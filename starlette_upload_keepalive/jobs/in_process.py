"""An attempt in a process of its own: what that is given, and what comes back."""

from __future__ import annotations

import json
import math
import os
import signal
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from typing import Any, cast

import anyio
from anyio import CancelScope

from starlette_upload_keepalive.exceptions import (
    Discard,
    HandlerCrashed,
    HandlerRaised,
    RetryLater,
)
from starlette_upload_keepalive.files.private_file import PrivateFile
from starlette_upload_keepalive.files.threads import WorkerThreads
from starlette_upload_keepalive.files.upload import Upload
from starlette_upload_keepalive.processes.channel import Message, NoMessage, encoded
from starlette_upload_keepalive.processes.import_name import ImportName
from starlette_upload_keepalive.processes.scratch import scratch_directory
from starlette_upload_keepalive.processes.worker_process import WorkerProcess

from .arguments import MAX_RESULT_SIZE, through_json
from .calling import ends_with_thread, in_thread
from .error_text import MAX_ERROR_LENGTH
from .job import Job
from .job_state import Progress
from .record import FileRecord


async def call_in_process(
    job: Job[Any], uploads: list[Upload], scope: CancelScope, threads: WorkerThreads
) -> Any:
    """Call a job's handler in a process of its own, which a thread waits for.

    Args:
        job: The job.
        uploads: Its uploads, which are closed when the process has ended.
        scope: Cancelled by whoever ends the attempt early.
        threads: Where the thread is from.

    Returns:
        What the handler has returned.

    Raises:
        HandlerRaised: It has raised.
        HandlerCrashed: Its process has ended before it returned.
        Discard: It has raised this.
        RetryLater: It has raised this.
        OSError: The process could not be started.

    Cancellation: the process is killed, and all that it has started.
    """
    process = WorkerProcess()
    ended, let_go = ends_with_thread(job, uploads)
    try:
        timeout = job._work.options.timeout
        if timeout is not None:
            scope.deadline = anyio.current_time() + timeout
        outcome = await in_thread(lambda: _run(process, job, uploads), threads, let_go=let_go)
    except anyio.get_cancelled_exc_class():
        process.kill()
        if not scope.cancel_called:  # but this task, perhaps natively: nobody has told the job
            job._stop("shutdown")
        with CancelScope(shield=True):
            await threads.run(ended.wait)
        raise
    finally:
        scope.deadline = math.inf  # what follows is not the handler's
    try:
        return outcome.value()
    finally:
        del outcome  # else its error's traceback would keep this frame, and the other way round


def _run(process: WorkerProcess, job: Job[Any], uploads: list[Upload]) -> Any:
    """Run the process to its end. Blocks."""
    with ExitStack() as stack:
        directory = stack.enter_context(scratch_directory(uploads[0]._view.blob.storage.directory))
        fds = [stack.enter_context(_descriptor_of(upload, directory)) for upload in uploads]
        order = _order(job, uploads, fds, directory)
        answer = _Answer(job)
        try:
            # What the handler leaves behind when it is killed is in there, and goes with it.
            environment = {**os.environ, "TMPDIR": directory}
            status = process.run(order, answer.hear, fds=fds, environment=environment)
        except NoMessage as error:
            raise HandlerCrashed(
                f"The process of {job.handler} has sent what is no message: {error}."
            ) from error
    return answer.value(status)


def _order(job: Job[Any], uploads: Sequence[Upload], fds: Sequence[int], directory: str) -> bytes:
    work, options = job._work, job._work.options
    name = cast("ImportName", work.import_name)  # as all have that run in a process
    return encoded(
        {
            "handler": job.handler,
            "module": name.module,
            "qualname": name.qualname,
            "many": work.many,
            "memory_limit": options.memory_limit,
            "cpu_limit": options.cpu_limit,
            "directory": directory,
            "job_id": job.id,
            "attempt": job.attempt,
            "arguments": job._arguments.text,
            "files": [
                {"fd": fd, **asdict(FileRecord.of(upload))}
                for fd, upload in zip(fds, uploads, strict=True)
            ],
        }
    )


@contextmanager
def _descriptor_of(upload: Upload, directory: str) -> Generator[int, None, None]:
    """Have the bytes of an upload in an open file, read-only, which a process can be given."""
    if not upload._view.blob.in_memory:
        yield upload.file.fileno()
        return
    file = PrivateFile.create(directory)
    try:
        file.write([upload.file.read()])
        fd = file.reopen()
    finally:
        file.close()
    try:
        yield fd
    finally:
        os.close(fd)


class _Answer:
    """What a process has told of its work.

    Args:
        job: Whose progress it may tell.
    """

    def __init__(self, job: Job[Any]) -> None:
        self._job = job
        self._last: Message | None = None

    def hear(self, message: Message) -> bool:
        """Take a message; True if it is the last."""
        if "progress" not in message:
            self._last = message
            return True
        fraction, text = message["progress"], message.get("message")
        if not isinstance(fraction, (int, float)) or not 0 <= fraction <= 1:
            raise NoMessage(f"a progress of {fraction!r}")
        self._job.progress = Progress(fraction, str(text)[:MAX_ERROR_LENGTH])
        return False

    def value(self, status: int) -> Any:
        """Return the result, or raise what tells why there is none.

        Args:
            status: The exit status of the process; negative if a signal has ended it.
        """
        match self._last:
            case {"result": str(text)}:
                return through_json(json.loads(text), "The result", MAX_RESULT_SIZE)
            case {"discard": str(reason)}:
                raise Discard(reason)
            case {"retry_later": int() | float() as seconds}:
                raise RetryLater(seconds)
            case {"error": str(error), "kinds": kinds, "traceback": str(text)}:
                named = [list(map(str, kind)) for kind in cast("list[list[object]]", kinds)]
                raise HandlerRaised(error[:MAX_ERROR_LENGTH], named) from _InProcess(text)
            case _:
                raise HandlerCrashed(_how_it_ended(self._job, status))


class _InProcess(Exception):
    """Shows the traceback of another process as the cause of an error."""


def _how_it_ended(job: Job[Any], status: int) -> str:
    process, options = f"The process of {job.handler}", job._work.options
    if status >= 0:
        return f"{process} ended with exit status {status} before the handler had returned."
    try:
        name = signal.Signals(-status).name
    except ValueError:  # a real-time signal
        name = f"signal {-status}"
    if name == "SIGXCPU":
        return (
            f"{process} was killed by {name}: it has used up its cpu_limit of "
            f"{options.cpu_limit} s."
        )
    perhaps = ""
    if name == "SIGKILL":
        perhaps = ", perhaps because the system has no memory left"
    elif options.memory_limit is not None and name in ("SIGSEGV", "SIGABRT", "SIGBUS"):
        perhaps = f", perhaps for its memory_limit of {options.memory_limit} bytes"
    return f"{process} was killed by {name}{perhaps}."
