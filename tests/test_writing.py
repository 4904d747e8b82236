"""Jobs are written whole, and what is in their way is put aside."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from starlette_upload_keepalive import JobState
from starlette_upload_keepalive.jobs.record import JobRecord
from starlette_upload_keepalive.spool.writing import (
    entry_of,
    set_aside,
    throw_away,
    write_ending,
    write_entries,
    write_entry,
)
from tests.spooling import FailingDisk, Maker, ended

pytestmark = pytest.mark.usefixtures("no_syncing")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[FailingDisk]:
    disk = FailingDisk(tmp_path)
    disk.open()
    for name in ("trash", "corrupt"):
        disk.make_directory(name)
    disk.steps.clear()
    yield disk
    disk.close()


def test_a_new_job(maker: Maker) -> None:
    job = maker.job(b"data", created_at=12.5)
    entry = entry_of(job)
    assert (entry.id, entry.state, entry.standing.due) == (job.record.id, "w", 12.5)
    assert (entry.standing.attempts, entry.standing.failures, entry.standing.crashes) == (0, 0, 0)


def test_one_job(disk: FailingDisk, tmp_path: Path, maker: Maker) -> None:
    same = maker.blob(b"same")
    job = maker.job(same, b"other", same)
    write_entry(disk, "entry", job)
    folder = tmp_path / "entry"
    assert JobRecord.from_json((folder / "job.json").read_bytes()) == job.record
    assert [(folder / name).read_bytes() for name in "012"] == [b"same", b"other", b"same"]
    assert (folder / "0").stat().st_ino == (folder / "2").stat().st_ino
    assert disk.steps == [
        "make_directory", "write_file", "store", "store", "link", "sync_directory",
    ]  # fmt: skip


def test_several_jobs(disk: FailingDisk, tmp_path: Path, maker: Maker) -> None:
    """What they have in common is written once."""
    same = maker.blob(b"same")
    jobs = [maker.job(same, handler=name) for name in ("a", "b", "c")]
    entries = write_entries(disk, "accept", jobs)
    assert entries == [entry_of(job) for job in jobs]
    files = [tmp_path / "accept" / entry.name / "0" for entry in entries]
    assert {file.read_bytes() for file in files} == {b"same"}
    assert len({file.stat().st_ino for file in files}) == 1
    assert disk.steps.count("store") == 1
    assert disk.steps.count("sync_directory") == 4
    assert disk.steps[-1] == "sync_directory"


def test_what_came_of_a_job(disk: FailingDisk, tmp_path: Path) -> None:
    disk.make_directory("entry")
    write_ending(disk, "entry", ended(result={"width": 256}))
    write_ending(disk, "entry", ended(JobState.FAILED, error="no"))  # the first was of no avail
    found = json.loads((tmp_path / "entry/ending.json").read_bytes())
    assert found == {"state": "failed", "at": 100.0, "result": None, "error": "no"}


def test_throwing_away(disk: FailingDisk, tmp_path: Path) -> None:
    disk.make_directory("a")
    disk.write_file("a/b", b"data")
    throw_away(disk, "a")
    throw_away(disk, "a")  # it is not there
    (thrown,) = (tmp_path / "trash").iterdir()
    assert [path.name for path in thrown.iterdir()] == ["b"]
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("junk", "junk"),
        ("..junk", "junk"),
        ("...", ""),
        ("x" * 255, "x" * 200),
        ("ä" * 127, "ä" * 100),
        (os.fsdecode(b"\xff\n"), os.fsdecode(b"\xff\n")),
    ],
)
def test_setting_aside(disk: FailingDisk, tmp_path: Path, name: str, kept: str) -> None:
    (tmp_path / name).mkdir()
    set_aside(disk, name)
    set_aside(disk, name)  # it is not there
    (aside,) = (tmp_path / "corrupt").iterdir()
    assert aside.name[:-33] == kept
    assert aside.name[-33] == "-"
