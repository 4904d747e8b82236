"""Handlers that run in processes of their own: those have to find them by their names.

They are registered by the tests, for uploads that are theirs.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio

from starlette_upload_keepalive import (
    Discard,
    JobContext,
    RetryLater,
    Upload,
    Uploads,
)
from starlette_upload_keepalive.jobs import worker

if sys.version_info < (3, 11):
    from exceptiongroup import ExceptionGroup

if "PROCESS_HANDLERS_FAIL" in os.environ:
    raise RuntimeError(os.environ["PROCESS_HANDLERS_FAIL"])

LIMIT_AT_IMPORT = resource.getrlimit(resource.RLIMIT_AS)

uploads = Uploads()


@uploads.handler(run_in="process")
def decorated(upload: Upload) -> int:
    return len(upload.file.read())


class Special(OSError):
    """An error that only the app knows."""


def facts(upload: Upload, job: JobContext, *, number: int) -> dict[str, Any]:
    """Tell all that a handler can know."""
    first = upload.file.read()
    print("what a handler prints disturbs nobody")
    with upload.as_path(suffix=".txt") as path:
        as_path = path.read_bytes()
    try:
        upload.file.write(b"more")
        is_read_only = False
    except OSError:
        is_read_only = True
    return {
        "pid": os.getpid(),
        "group": os.getpgid(0),
        "session": os.getsid(0),
        "first": first.decode(),
        "as_path": as_path.decode(),
        "is_read_only": is_read_only,
        "filename": upload.filename,
        "size": upload.size,
        "content_type": upload.content_type,
        "headers": dict(upload.headers),
        "field": upload.field_name,
        "job": job.id,
        "attempt": job.attempt,
        "cancelled": job.cancelled,
        "number": number,
        "temporary": tempfile.gettempdir(),
        "open": sorted(os.readlink(f"/proc/self/fd/{fd}") for fd in _descriptors() if int(fd) > 2),
    }


def _descriptors() -> list[str]:
    return [fd for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}")]


def count(files: list[Upload]) -> int:
    return len(files)


def digest(files: list[Upload]) -> list[str]:
    return [hashlib.sha256(each.file.read()).hexdigest() for each in files]


def returns(upload: Upload, *, what: Any = None, size: int = 0) -> Any:
    return what if not size else "x" * size


def saves(upload: Upload, *, to: str) -> str:
    return str(anyio.run(upload.save_to, to))


def returns_no_json(upload: Upload) -> Any:
    return {1, 2}


def tells_progress(upload: Upload, job: JobContext) -> str:
    for number in range(1000):
        job.progress(number / 1000, f"at {number}")
    job.progress(1, "x" * 10_000)
    return "done"


def tells_and_waits(upload: Upload, job: JobContext) -> None:
    """Tell the numbers of this process and of one that it has started, and wait to be killed."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    Path(tempfile.gettempdir(), "left behind").write_text("by a handler that is killed")
    job.progress(0.5, f"{os.getpid()} {child.pid}")
    threading.Event().wait()


def holds_the_interpreter(upload: Upload, job: JobContext) -> None:
    """Let no other thread of this process run, as a library in C may."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    job.progress(0.5, f"{os.getpid()} {child.pid}")
    ctypes.PyDLL(None).sleep(600)


def leaves_a_child(upload: Upload) -> int:
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid


def forks_and_returns(upload: Upload) -> int:
    child = os.fork()
    if child == 0:
        signal.pause()
        os._exit(0)
    return child


def forks_and_crashes(upload: Upload) -> None:
    if os.fork() == 0:
        signal.pause()
    os._exit(5)


def leaves_a_group(upload: Upload) -> int:
    """Leave a process that has a group of its own, but no session."""
    code = "import os, time; os.setpgid(0, 0); print(flush=True); time.sleep(600)"
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    return child.pid


def leaves_grandchildren(upload: Upload) -> int:
    """Leave a process that has started another, in a group of its own."""
    code = "import os, time; os.fork() or os.setpgid(0, 0); print(flush=True); time.sleep(600)"
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert child.stdout is not None
    for _ in range(2):
        child.stdout.readline()
    return child.pid


def does_not_leave(upload: Upload) -> str:
    threading.Thread(target=threading.Event().wait).start()
    return "returned"


def raises(upload: Upload, *, kind: str) -> None:
    if kind == "group":
        raise ExceptionGroup("both", [Special("one"), ValueError("two")])
    if kind == "large group":
        raise ExceptionGroup("many", [Special(number) for number in range(20_000)])
    errors: dict[str, BaseException] = {
        "Special": Special("as the test wants it"),
        "ValueError": ValueError("bad value"),
        "SystemExit": SystemExit(3),
        "Discard": Discard("not a video"),
        "long Discard": Discard("x" * 2_000_000),
        "MemoryError": MemoryError(),
    }
    raise errors[kind]


def succeeds_next(upload: Upload, job: JobContext) -> int:
    if job.attempt == 1:
        os._exit(1)
    return job.attempt


def later_once(upload: Upload, job: JobContext) -> int:
    if job.attempt == 1:
        raise RetryLater(0.25)
    return job.attempt


def segfaults(upload: Upload) -> None:
    ctypes.string_at(0)


def exits(upload: Upload, *, status: int) -> None:
    os._exit(status)


def kills_itself(upload: Upload, *, signal_number: int) -> None:
    os.kill(os.getpid(), signal_number)
    threading.Event().wait()


def hogs_memory(upload: Upload) -> int:
    hog = list[bytes]()
    while True:
        hog.append(bytes(10 * 1024 * 1024))


hoard = list[bytes]()


def hoards_memory(upload: Upload) -> None:
    """Leave none, not even to tell of it."""
    for size in (10_000_000, 1_000_000, 100_000, 10_000, 1_000, 100, 10):
        with suppress(MemoryError):
            while True:
                hoard.append(bytes(size))
    raise MemoryError


def cannot_tell(upload: Upload) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    worker._told = fail  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]
    raise ValueError


def spins(upload: Upload) -> None:
    while True:
        pass


def limits_at_import(upload: Upload) -> list[int]:
    return list(LIMIT_AT_IMPORT)


def limits(upload: Upload) -> dict[str, list[int]]:
    kinds = ("RLIMIT_AS", "RLIMIT_CPU", "RLIMIT_CORE", "RLIMIT_NOFILE")
    return {kind: list(resource.getrlimit(getattr(resource, kind))) for kind in kinds}


def submits(upload: Upload, *, how: str) -> None:
    getattr(decorated, how)(upload)


def speaks_out_of_turn(upload: Upload, *, text: str) -> None:
    """Send what is no message, as a handler might that was taken over."""
    for fd in map(int, _descriptors()):
        if os.readlink(f"/proc/self/fd/{fd}").startswith("socket:"):
            os.write(fd, bytes.fromhex(text))
    threading.Event().wait()


def closes_all(upload: Upload) -> None:
    """As a daemon does."""
    os.closerange(3, 1024)
    threading.Event().wait()


def length(upload: Upload, *, text: str) -> int:
    return len(text)


class Namespace:
    @staticmethod
    def inside(upload: Upload) -> str:
        return "inside"


def descriptors(upload: Upload) -> dict[str, str]:
    """Tell what is open here."""
    return {fd: os.readlink(f"/proc/self/fd/{fd}") for fd in _descriptors()}


def arguments(upload: Upload) -> list[str]:
    return sys.argv


def tells_attempt(upload: Upload, job: JobContext) -> list[Any]:
    return [job.attempt, upload.file.read().decode()]


COUNT_SOCKETS = """
import os
fds = [fd for fd in os.listdir("/proc/self/fd") if int(fd) > 2]
links = [os.path.realpath(f"/proc/self/fd/{fd}") for fd in fds]
print(sum("socket:" in link or "pipe:" in link for link in links))
"""


def gives_on(upload: Upload) -> list[int]:
    """Count the sockets (and pipes) that a program has which this starts, and a fork of this."""
    command = [sys.executable, "-c", COUNT_SOCKETS]
    program = subprocess.run(command, close_fds=False, stdout=subprocess.PIPE, check=True)
    child = os.fork()
    if child == 0:
        links = [os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")]
        os._exit(sum("socket:" in link for link in links))
    return [int(program.stdout), os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])]
