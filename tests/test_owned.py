"""An owner knows where its jobs are."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from starlette_upload_keepalive.jobs.record import Standing
from starlette_upload_keepalive.spool.entry import Entry
from starlette_upload_keepalive.spool.owned import OwnedJobs

ENTRY = Entry("0" * 32, "0" * 8, Standing(1.0), "w")
OTHER = ENTRY._replace(id="1" * 32)


def test_where_a_job_is() -> None:
    owned = OwnedJobs()
    owned.add("claimed/a", ENTRY)
    owned.add("claimed/b", OTHER)
    assert len(owned) == 2
    assert owned.get(ENTRY.id).path == f"claimed/a/{ENTRY.name}"
    assert owned.get(OTHER.id) == ("claimed/b", OTHER)


def test_a_job_that_has_moved() -> None:
    owned = OwnedJobs()
    owned.add("claimed/a/accept-1", ENTRY)
    running = ENTRY._replace(state="r")
    owned.add("claimed/a", running)
    assert len(owned) == 1
    assert owned.get(ENTRY.id) == ("claimed/a", running)


def test_a_job_that_is_not_ours() -> None:
    owned = OwnedJobs()
    owned.add("claimed/a", ENTRY)
    owned.remove(ENTRY.id)
    owned.remove(ENTRY.id)
    with pytest.raises(KeyError):
        owned.get(ENTRY.id)
    assert len(owned) == 0


def test_one_thread_has_a_job_at_a_time() -> None:
    owned = OwnedJobs()
    owned.add("claimed/a", ENTRY)
    owned.add("claimed/a", OTHER)
    told: list[str] = []

    def remove() -> None:
        with owned.held(ENTRY.id):
            told.append("second")
            owned.remove(ENTRY.id)

    with ThreadPoolExecutor(1) as threads:
        with owned.held(ENTRY.id) as found:
            assert found == owned.get(ENTRY.id)
            second = threads.submit(remove)
            with owned.held(OTHER.id):  # another is in nobody's way
                told.append("first")
        second.result(10)
    assert told == ["first", "second"]
    with pytest.raises(KeyError), owned.held(ENTRY.id):
        pass
