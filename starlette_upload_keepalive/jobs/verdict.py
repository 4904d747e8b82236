"""What is to become of a job after an attempt."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any, Literal

from starlette_upload_keepalive.exceptions import Discard, ProcessDied, RetryLater
from starlette_upload_keepalive.quantities import check_seconds

from .attempt import Stopped
from .job import Job
from .job_state import JobState
from .retry import verb_in


@dataclass(frozen=True)
class Verdict:
    """What is to become of a job.

    Attributes:
        state: The state that it is to be in: done, or delayed.
        wait: The seconds until its next attempt, if it is delayed.
        reason: Why it is cancelled, if it is.
        gave_up: Why its handler gave up, if it did.
        error: What was raised when it was decided.
    """

    state: JobState
    wait: float = 0.0
    reason: Literal["asked", "shutdown"] = "asked"
    gave_up: str = ""
    error: BaseException | None = None


@dataclass(frozen=True)
class Circumstances:
    """What a verdict depends on besides the job and what came of its attempt.

    Attributes:
        retries: Whether a job may wait for another attempt.
        in_haste: Whether it is not to wait for it.
        seconds_left: Until when an attempt may begin, in seconds from now.
    """

    retries: bool
    in_haste: bool
    seconds_left: float


def verdict_on(job: Job[Any], error: BaseException | None, circumstances: Circumstances) -> Verdict:
    """Decide what is to become of a job. Its failures are counted here.

    Args:
        job: The job.
        error: What its handler raised, or why it has stopped; None if it returned.
        circumstances: What it depends on besides.
    """
    if error is None:
        return Verdict(JobState.SUCCEEDED)
    try:
        return _verdict_on(job, error, circumstances)
    except BaseException as raised:  # noqa: BLE001 - to look at what was raised may raise
        return Verdict(JobState.FAILED, error=raised)


def _verdict_on(job: Job[Any], error: BaseException, circumstances: Circumstances) -> Verdict:
    if isinstance(error, Stopped):
        asked = job._stop_reason == "asked"
        return Verdict(JobState.CANCELLED, reason="asked" if asked else "shutdown")
    if job._stop_reason == "asked":
        return Verdict(JobState.CANCELLED)
    if isinstance(error, ProcessDied):
        return Verdict(JobState.FAILED)
    verb = verb_in(error)
    if isinstance(verb, Discard):
        return Verdict(JobState.DISCARDED, gave_up=verb.reason)
    wait = _wait_before_next(job, error, verb, circumstances)
    if wait is None:
        return Verdict(JobState.FAILED)
    if wait > circumstances.seconds_left:
        return Verdict(JobState.CANCELLED, reason="shutdown")
    return Verdict(JobState.DELAYED, wait=wait)


def _wait_before_next(
    job: Job[Any], error: BaseException, verb: RetryLater | None, circumstances: Circumstances
) -> float | None:
    """Return the seconds until the next attempt; None if there is none."""
    if not circumstances.retries:
        return None
    if verb is not None:
        check_seconds("seconds", verb.seconds, zero=True)  # it may have been changed
        return 0 if circumstances.in_haste else verb.seconds
    job._failures += 1
    retry = job._work.options.retry
    if retry is None or job._failures >= retry.attempts or not retry.covers(error):
        return None
    return 0 if circumstances.in_haste else retry.wait(job._failures, random.random())  # noqa: S311
