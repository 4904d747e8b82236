"""What a handler is registered with is checked, and reaches its jobs."""

from __future__ import annotations

from typing import Any

import pytest

from starlette_upload_keepalive import Job, Retry, Upload, Uploads
from tests.timed import register


def work(upload: Upload) -> None: ...


def call_back(job: Job[Any], error: BaseException | None = None) -> None: ...


def test_each_option_reaches_the_handler(uploads: Uploads) -> None:
    given: dict[str, Any] = {
        "start": "response",
        "retry": Retry(attempts=7),
        "timeout": 12.5,
        "max_concurrency": 3,
        "priority": -4,
        "on_success": call_back,
        "on_error": call_back,
    }
    handler = register(uploads, work, **given)
    assert {name: getattr(handler.options, name) for name in given} == given


@pytest.mark.parametrize("priority", [True, 1.0, "1", 6, -6])
def test_priority_out_of_range(uploads: Uploads, priority: Any) -> None:
    with pytest.raises(ValueError, match=f"^priority must be from -5 to 5, not {priority!r}.$"):
        uploads.handler(priority=priority)


@pytest.mark.parametrize("timeout", [0, -1, float("inf"), float("nan"), "30"])
def test_timeout_out_of_range(uploads: Uploads, timeout: Any) -> None:
    message = f"^timeout must be more than 0 seconds, and at most 1,000,000,000, not {timeout!r}.$"
    with pytest.raises(ValueError, match=message):
        uploads.handler(timeout=timeout)


def test_number_of_failed_jobs_that_keep_their_files_out_of_range() -> None:
    with pytest.raises(ValueError, match=r"^keep_failed must be 0 jobs or more, not -1\.$"):
        Uploads(keep_failed=-1)


@pytest.mark.parametrize("retry", [3, True, Retry])
def test_what_is_no_retry(uploads: Uploads, retry: Any) -> None:
    with pytest.raises(TypeError, match=r"^retry must be a Retry, such as Retry"):
        uploads.handler(retry=retry)
