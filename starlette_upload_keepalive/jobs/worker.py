"""What runs in the process of one attempt: takes its order, calls the handler, and tells of it."""

from __future__ import annotations

import fcntl
import inspect
import os
import resource
import signal
import socket
import sys
import traceback
from contextlib import suppress
from typing import Any, NoReturn

from starlette.datastructures import Headers

from starlette_upload_keepalive.exceptions import Discard, NotRunning
from starlette_upload_keepalive.files.blob import Blob
from starlette_upload_keepalive.files.private_file import PrivateFile
from starlette_upload_keepalive.files.storage import Storage
from starlette_upload_keepalive.files.upload import Upload, let_go_of_all
from starlette_upload_keepalive.processes.channel import Channel, Message, encoded
from starlette_upload_keepalive.processes.import_name import ImportName, plain
from starlette_upload_keepalive.quantities import KIB

from .arguments import MAX_RESULT_SIZE, Arguments, as_json
from .current_stage import current_stage
from .error_text import MAX_ERROR_LENGTH, described
from .job_context import JobContext
from .job_state import Progress
from .retry import kinds_in, verb_in
from .signature import called, wants_context

_MAX_OPEN_FILES = 1024
_MAX_TRACEBACK = 32 * KIB


def main(fd: int, lifeline: int) -> None:
    """Do what the process was started for.

    Args:
        fd: The socket that its order comes by.
        lifeline: A pipe that the app holds the other end of for as long as it lives.
    """
    os.set_inheritable(fd, False)
    os.set_inheritable(lifeline, False)
    _end_with_app(lifeline)
    end = socket.socket(fileno=fd)
    # A fork of the handler's may live on, and must not speak in its place.
    os.register_at_fork(after_in_child=end.close)
    channel = Channel(end)
    order: Message | None = None
    while order is None:
        if not channel.fill():
            return  # killed before it had begun
        order = next(channel.messages(), None)
    _limit(order["memory_limit"], order["cpu_limit"])
    no_memory = encoded(_told(MemoryError(_used_up(order)), ""))  # while there is some
    try:
        channel.send(encoded(_work(order, channel)))
    except MemoryError:
        channel.send(no_memory)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def _end_with_app(lifeline: int) -> None:
    """Have the kernel kill this process, and what it starts, once the app is gone.

    A thread of ours would do so only when the handler lets it (F_SETSIG in fcntl(2)).
    """
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, -os.getpgid(0))
    fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(lifeline, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
    with suppress(BlockingIOError):  # it is there
        os.read(lifeline, 1)
        sys.exit()


def _limit(memory: int | None, cpu: int | None) -> None:
    """Limit what this process may take. What is set here can't be undone by it."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _lower(resource.RLIMIT_NOFILE, _MAX_OPEN_FILES)
    if memory is not None:
        _lower(resource.RLIMIT_AS, memory)
    if cpu is not None:
        _lower(resource.RLIMIT_CPU, cpu, grace=1)  # a signal first, and then the end


def _lower(kind: int, limit: int, *, grace: int = 0) -> None:
    _, hard = resource.getrlimit(kind)
    if hard != resource.RLIM_INFINITY:
        limit, grace = min(limit, hard), min(grace, max(hard - limit, 0))
    resource.setrlimit(kind, (limit, limit + grace))


def _work(order: Message, channel: Channel) -> Message:
    """Call the handler, and return what is to be told of it."""
    try:
        return {"result": as_json(_called(order, channel), *_result_of(order))}
    except BaseException as error:  # noqa: BLE001
        return _of_error(error, order)


def _result_of(order: Message) -> tuple[str, int]:
    return f"The result of {order['handler']}", MAX_RESULT_SIZE


def _called(order: Message, channel: Channel) -> Any:
    function: Any = plain(ImportName(order["module"], order["qualname"]).find())
    storage = Storage(directory=order["directory"])
    uploads: list[Upload] = []
    try:
        uploads.extend(_upload(file, storage) for file in order["files"])
        job = _Job(order, channel)
        current_stage.set(_NoStage())
        wants = wants_context(order["handler"], inspect.signature(function))
        return called(
            function,
            uploads if order["many"] else uploads[0],
            JobContext(job) if wants else None,
            Arguments.of(order["arguments"]),
        )
    finally:
        let_go_of_all(uploads)
        storage.closer.drain()


def _upload(file: Message, storage: Storage) -> Upload:
    """Make an upload of an open file, which is read-only and shared with nobody."""
    blob = Blob(storage)
    adopted = PrivateFile.adopt(file["fd"])
    os.close(file["fd"])
    blob.adopt(adopted, file["size"])
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in file["headers"]]
    return Upload(
        blob,
        owner="the handler in its process",
        filename=file["filename"],
        headers=Headers(raw=raw),
        field_name=file["field_name"],
    )


def _of_error(error: BaseException, order: Message) -> Message:
    verb = verb_in(error)
    if isinstance(verb, Discard):
        return {"discard": verb.reason[:MAX_ERROR_LENGTH]}
    if verb is not None:
        return {"retry_later": verb.seconds}
    if isinstance(error, MemoryError) and order["memory_limit"] is not None and not str(error):
        error = MemoryError(_used_up(order)).with_traceback(error.__traceback__)
    return _told(error, "".join(traceback.format_exception(error))[-_MAX_TRACEBACK:])


def _told(error: BaseException, text: str) -> Message:
    return {"error": described(error), "kinds": kinds_in(error), "traceback": text}


def _used_up(order: Message) -> str:
    return f"the memory_limit of {order['memory_limit']} bytes is used up"


class _Job:
    """Stands for the job, which is in the other process.

    Args:
        order: What is known of it.
        channel: Where its progress is told.
    """

    def __init__(self, order: Message, channel: Channel) -> None:
        self.id: str = order["job_id"]
        self.attempt: int = order["attempt"]
        self._channel = channel

    def _note(self, progress: Progress) -> None:
        told = {"progress": progress.fraction, "message": progress.message[:MAX_ERROR_LENGTH]}
        self._channel.send(encoded(told))

    def _sees_stop(self) -> bool:
        return False  # it is not asked, but killed


class _NoStage:
    """Takes no jobs: what runs them is in the other process."""

    parent_id: str | None = None
    ended = False

    def add(self, staged: Any) -> NoReturn:
        raise NotRunning(
            f"{staged.job.handler} can't be submitted to in a process of its own: return what is "
            "needed, and submit in on_success, or in a handler that runs elsewhere."
        )

    def next_child_id(self) -> None:
        return None
