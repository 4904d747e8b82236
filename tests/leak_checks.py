"""After each test, no descriptor, thread or temporary file may be left behind."""

from __future__ import annotations

import gc
import os
import re
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

# How long threads that are just ending may take, in seconds. Only a leak waits that long.
PATIENCE = 5.0
# Trio keeps idle threads for ten seconds and names them so. One that works has another name.
IDLE = re.compile(r"Trio thread \d+")


@pytest.fixture(autouse=True)
def no_leaks(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Fail a test that leaves a descriptor, a thread or a temporary file behind."""
    directory = tmp_path_factory.mktemp("temporary")
    monkeypatch.setattr(tempfile, "tempdir", str(directory))
    monkeypatch.setenv("TMPDIR", str(directory))
    descriptors = open_descriptors()
    threads = set(threading.enumerate())
    gc.freeze()  # only what the test makes is looked at afterwards: that is ten times as fast

    def leaks() -> list[str]:
        gc.collect()  # what only the collector lets go of is told by a ResourceWarning
        return [
            *(f"descriptor: {fd} {what}" for fd, what in open_descriptors() - descriptors),
            *(f"thread: {thread.name}" for thread in busy_threads() - threads),
            *(f"temporary file: {path.relative_to(directory)}" for path in directory.rglob("*")),
        ]

    yield
    deadline = time.monotonic() + PATIENCE
    while (left := leaks()) and time.monotonic() < deadline:
        time.sleep(0.01)
    if left:
        pytest.fail("Left behind:\n" + "\n".join(left), pytrace=False)


def open_descriptors() -> set[tuple[int, str]]:
    """Return each open descriptor of this process with what it stands for."""
    found = set[tuple[int, str]]()
    for fd in _candidates():
        try:
            file = os.fstat(fd)
        except OSError:
            continue  # not open, such as the one that listed the others
        link = Path(f"/proc/self/fd/{fd}")
        found.add((fd, str(link.readlink()) if link.is_symlink() else f"inode {file.st_ino}"))
    return found


def busy_threads() -> set[threading.Thread]:
    """Return the threads that are not idle ones of Trio's."""
    return {thread for thread in threading.enumerate() if not IDLE.fullmatch(thread.name)}


def _candidates() -> list[int]:
    try:
        return [int(name) for name in os.listdir("/dev/fd")]
    except FileNotFoundError:  # Windows
        return list(range(1024))
