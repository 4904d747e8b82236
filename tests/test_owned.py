"""An owner knows where its jobs are."""

from __future__ import annotations

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
