"""What happens to jobs, written down by whoever sees it: a line each, which no kill tears."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

What = Literal["start", "end", "raised", "cut", "noted"]


@dataclass(frozen=True)
class Line:
    """One thing that happened to a job.

    Attributes:
        what: Its handler has started, returned, raised, or was cut off by the end of the app; or
            the spool has noted its success.
        life: The number of the process.
        at: When, by the machine's monotonic clock.
        job: The job's id.
        attempt: Which attempt of it.
        file: The name of its file.
        task: The name of its handler, and which of several it is.
        sha256: Of the bytes that the handler has read.
        failures: How many the spool has counted before.
        crashes: How many the spool has counted before.
    """

    what: What
    life: int
    at: float
    job: str
    attempt: int
    file: str = ""
    task: str = ""
    sha256: str = ""
    failures: int = 0
    crashes: int = 0


class Journal:
    """Writes lines for one process.

    Args:
        path: The file, shared by all processes.
        life: The number of this one.
    """

    def __init__(self, path: Path, life: int) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._life = life

    def write(
        self,
        what: What,
        job: str,
        attempt: int,
        *,
        file: str = "",
        task: str = "",
        sha256: str = "",
        failures: int = 0,
        crashes: int = 0,
    ) -> None:
        line = Line(
            what,
            self._life,
            time.monotonic(),
            job,
            attempt,
            file,
            task,
            sha256,
            failures,
            crashes,
        )
        # One write: with O_APPEND all of it is there or nothing, and after that of others.
        os.write(self._fd, json.dumps(asdict(line)).encode() + b"\n")


def read_journal(path: Path) -> list[Line]:
    """Return the lines in the order in which they were written."""
    return [Line(**json.loads(line)) for line in path.read_text().splitlines()]
