"""Fixtures for pytest: ``pytest_plugins = ["starlette_upload_keepalive.pytest_plugin"]``.

Both finish the jobs of the uploads that they are called with, and check at the
end of the test that these are all closed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from typing import Any

import pytest

from .jobs.job import Job
from .testing import assert_all_closed, finish_jobs, finish_jobs_sync
from .uploads import Uploads

__all__ = ["finish_upload_jobs", "finish_upload_jobs_sync"]


@pytest.fixture
def finish_upload_jobs(
    _finished_uploads: set[Uploads],
) -> Callable[..., Awaitable[list[Job[Any]]]]:
    """Give `finish_jobs`, to be awaited, with a check of its uploads at the end of the test."""

    async def finish(uploads: Uploads, timeout: float = 10.0) -> list[Job[Any]]:
        _finished_uploads.add(uploads)
        return await finish_jobs(uploads, timeout)

    return finish


@pytest.fixture
def finish_upload_jobs_sync(_finished_uploads: set[Uploads]) -> Callable[..., list[Job[Any]]]:
    """Give `finish_jobs_sync`, with a check of its uploads at the end of the test."""

    def finish(uploads: Uploads, timeout: float = 10.0) -> list[Job[Any]]:
        _finished_uploads.add(uploads)
        return finish_jobs_sync(uploads, timeout)

    return finish


@pytest.fixture
def _finished_uploads() -> Generator[set[Uploads], None, None]:
    finished = set[Uploads]()
    yield finished
    for uploads in finished:
        assert_all_closed(uploads)
