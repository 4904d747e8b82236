"""What a handler was registered with that concerns each of its jobs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

from starlette_upload_keepalive.quantities import MIB, check_least, check_seconds

from .retry import Retry

Start = Literal["end", "response"]
RunIn = Literal["thread", "loop", "process"]
OnCrash = Literal["retry", "fail"]

# How often a job may end with its process if its handler does not say how often it is tried.
_CRASHES = 3
# With more steps, one up would not be far from starving one down: now it has 1,024 times the turns.
MAX_PRIORITY = 5

# With any less, Python itself does not start.
MIN_MEMORY = 32 * MIB


@dataclass(frozen=True, kw_only=True)
class HandlerOptions:
    """How jobs of a handler start, are limited, are tried again, and what they lead to.

    Args:
        start: With the end of the request, or as soon as the answer is out.
        retry: How often it is tried; once if None.
        timeout: The seconds that an attempt may take; no limit if None.
        run_in: Where it runs; where its kind of function does if None.
        memory_limit: The bytes of address space that its process may have.
        cpu_limit: The seconds that its process may compute.
        max_concurrency: How many of its jobs run at once; no limit of its own if None.
        priority: From -5 to 5. Each step up gets twice the turns.
        max_size: The bytes that its uploads may have; no limit of its own if None.
        on_crash: Whether it is tried again when its process has ended while it ran.
        on_success: Called with the job once it has succeeded.
        on_error: Called with the job and the error once it has failed.

    Raises:
        ValueError: One of them is out of its range.
        TypeError: One of them is of another kind.
    """

    start: Start = "end"
    retry: Retry | None = None
    timeout: float | None = None
    run_in: RunIn | None = None
    memory_limit: int | None = None
    cpu_limit: int | None = None
    max_concurrency: int | None = None
    priority: int = 0
    max_size: int | None = None
    on_crash: OnCrash = "retry"
    on_success: Callable[[Any], object] | None = None
    on_error: Callable[[Any, BaseException], object] | None = None

    @property
    def most_crashes(self) -> int:
        """After how many ends of its process a job is given up."""
        if self.on_crash == "fail":
            return 1
        return max(_CRASHES, 0 if self.retry is None else self.retry.attempts)

    def __post_init__(self) -> None:
        _check_choice("start", self.start, get_args(Start))
        _check_choice("on_crash", self.on_crash, get_args(OnCrash))
        _check_choice("run_in", self.run_in, (None, *get_args(RunIn)))
        self._check_limits()
        retry = cast("object", self.retry)
        if retry is not None and not isinstance(retry, Retry):
            raise TypeError(f"retry must be a Retry, such as Retry(attempts=5), not {retry!r}.")
        if self.timeout is not None:
            check_seconds("timeout", self.timeout, zero=False)
        if self.max_concurrency is not None:
            check_least("max_concurrency", self.max_concurrency, 1)
        if self.max_size is not None:
            check_least("max_size", self.max_size, 1, " byte")
        if type(self.priority) is not int or abs(self.priority) > MAX_PRIORITY:
            raise ValueError(
                f"priority must be from -{MAX_PRIORITY} to {MAX_PRIORITY}, not {self.priority!r}."
            )
        for name in ("on_success", "on_error"):
            callback: object = getattr(self, name)
            if callback is not None and not callable(callback):
                raise TypeError(f"{name} must be a function, not {callback!r}.")

    def _check_limits(self) -> None:
        if self.run_in == "process" and sys.platform != "linux":
            raise NotImplementedError("run_in='process' needs Linux.")
        limits = (
            ("memory_limit", self.memory_limit, MIN_MEMORY, " bytes"),
            ("cpu_limit", self.cpu_limit, 1, " second"),
        )
        for name, limit, least, unit in limits:
            if limit is None:
                continue
            if self.run_in != "process":
                raise ValueError(f"{name} is for handlers with run_in='process'.")
            check_least(name, limit, least, unit)


def _check_choice(name: str, given: object, choices: tuple[object, ...]) -> None:
    if given not in choices:
        raise ValueError(f"{name} must be one of {choices}, not {given!r}.")
