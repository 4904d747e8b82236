"""Steps that a process takes whose system calls fail, or that may be killed at any time."""

from __future__ import annotations

import logging
import mmap
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Literal
from unittest.mock import patch

from starlette_upload_keepalive import SpoolUnusable
from starlette_upload_keepalive.spool.checking import check
from starlette_upload_keepalive.spool.disk import Disk

Outcome = Literal["never begun", "cut short", "done", "failed", "raised something else"]
OUTCOMES: tuple[Outcome, ...] = (
    "never begun",
    "cut short",
    "done",
    "failed",
    "raised something else",
)


def _nothing(_fd: int) -> None:
    pass


# Before and after what may fail, nothing is waited for.
unsynced = partial(patch.object, os, "fsync", _nothing)


class Steps:
    """What is done with a spool, step by step, and what must have come of it.

    Args:
        root: That of the spool.
        names: Those of the steps.
    """

    def __init__(self, root: Path, names: Sequence[str]) -> None:
        self._root = root
        self._names = names
        # Shared with the parent process: to write there is no system call.
        self._outcomes = mmap.mmap(-1, len(names))
        self._log = _Noting()

    def prepare(self) -> None:
        """Do what comes before anything may fail."""
        logger = logging.getLogger("starlette_upload_keepalive")
        logger.addHandler(self._log)
        logger.propagate = False  # to print it would be system calls

    def steps(self) -> Sequence[Callable[[], object]]:
        """Return what is done at each step."""
        raise NotImplementedError

    def run(self) -> None:
        """Take all steps, whatever comes of each."""
        for number, step in enumerate(self.steps()):
            self._outcomes[number] = OUTCOMES.index("cut short")
            self._outcomes[number] = OUTCOMES.index(_outcome(step))

    @property
    def outcomes(self) -> dict[str, Outcome]:
        """What came of each step."""
        return {name: OUTCOMES[self._outcomes[number]] for number, name in enumerate(self._names)}

    @property
    def has_logged(self) -> bool:
        """Whether an error was logged."""
        return self._log.has_noted[0] == 1

    def violations(self) -> Iterator[str]:
        """Find what broke a promise, once the process has ended."""
        for step, outcome in self.outcomes.items():
            if outcome == "raised something else":
                yield f"{step}: it raised something else than an OSError"
        disk = Disk(self._root)
        disk.open()
        yield from (f"{path} {what}" for path, what in check(disk).problems)
        disk.close()


class _Noting(logging.Handler):
    """Notes that something was logged, for the parent process, too."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.has_noted = mmap.mmap(-1, 1)

    def emit(self, record: logging.LogRecord) -> None:
        self.has_noted[0] = 1


def _outcome(step: Callable[[], object]) -> Outcome:
    with suppress(Exception):
        try:
            step()
        except (OSError, SpoolUnusable):
            return "failed"
        return "done"
    return "raised something else"
