"""People look after a spool that apps use meanwhile."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from starlette_upload_keepalive import JobState
from starlette_upload_keepalive.files.storage import Storage
from starlette_upload_keepalive.jobs.record import FileRecord
from starlette_upload_keepalive.jobs.spool import NewJob
from starlette_upload_keepalive.spool.command_line import main
from starlette_upload_keepalive.spool.directory_spool import DirectorySpool
from starlette_upload_keepalive.spool.entry import glance
from tests.pages import python_path
from tests.spooling import PATIENCE, Maker, die, ended, inside, python, released

pytestmark = pytest.mark.usefixtures("no_syncing")

LIVE = """
import sys
from starlette_upload_keepalive.files.storage import Storage
from starlette_upload_keepalive.spool.entry import glance
from starlette_upload_keepalive.spool.directory_spool import DirectorySpool
from tests.spooling import JobState, Maker, claimed, contents, ended

spool, storage = DirectorySpool(sys.argv[1]), Storage(memory_max_size=0)
spool.open(storage)
maker = Maker(storage)
waits, runs, fails, done = (maker.job(name, handler=name.decode())
                            for name in (b"waits", b"runs", b"fails", b"done"))
spool.accept([waits, runs])
spool.start(runs.record.id)
for job, state in ((fails, JobState.FAILED), (done, JobState.SUCCEEDED)):
    spool.accept([job])
    spool.finish(job.record.id, ended(state, error="why", result=[1]))
print("ready", flush=True)
sys.stdin.readline()
(job,) = claimed(spool)
print(job.record.handler, *contents(job), flush=True)
sys.stdin.readline()
"""


def run(root: Path, *arguments: str, code: int = 0, **env: str) -> str:
    """Run the command line as people do, and return what it writes."""
    found = subprocess.run(
        [sys.executable, "-m", "starlette_upload_keepalive", "spool", str(root), *arguments],
        env={**os.environ, "PYTHONPATH": python_path(), **env},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert found.returncode == code, found.stdout + found.stderr
    assert "Traceback" not in found.stderr
    return found.stderr if code and found.stderr else found.stdout


def listed(root: Path, *arguments: str) -> dict[str, dict[str, Any]]:
    return {job["handler"]: job for job in json.loads(run(root, "list", "--json", *arguments))}


@pytest.fixture
def spool(root: Path, on_disk: Storage) -> Iterator[DirectorySpool]:
    spool = DirectorySpool(root)
    spool.open(on_disk)
    yield spool
    die(spool)


def test_a_spool_that_a_live_process_uses(root: Path) -> None:
    with python(LIVE, root) as process:
        jobs = listed(root)
        assert {name: job["state"] for name, job in jobs.items()} == {
            "waits": "waiting",
            "runs": "running",
            "fails": "failed",
            "done": "succeeded",
        }
        assert "4 jobs, nothing wrong." in run(root, "check")
        failed = jobs["fails"]["id"]
        assert run(root, "retry", failed[:8]) == (
            f"{failed} waits, and runs as soon as an app takes it.\n"
        )
        assert listed(root)["fails"]["state"] == "waiting"
        assert run(root, "purge", "--all") == "1 job forgotten.\n"
        assert listed(root).keys() == {"waits", "runs", "fails"}
        assert run(root, "check") == "3 jobs, nothing wrong.\n"

        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "fails b'fails'\n"
    assert len(inside(root, "owners")) == 1  # it was no owner, and rescued nobody


def test_listing(
    root: Path, spool: DirectorySpool, maker: Maker, capsys: pytest.CaptureFixture[str]
) -> None:
    first = maker.job(b"data", b"more", handler="photo", created_at=1_000_000_000.0)
    second = maker.job(b"data", handler="video", created_at=1_000_000_001.0)
    released(spool, second, due=16725225600.0)
    spool.accept([first])

    def table(*arguments: str) -> list[str]:
        assert main(["spool", str(root), "list", *arguments]) == 0
        return capsys.readouterr().out.splitlines()

    row = "{:12}  {:7}  {:7}  {:20}  {:20}  {:8}  {}".format
    head = row("id", "state", "handler", "created", "delayed until", "attempts", "files")
    made, due = "2001-09-09T01:46:4{}Z".format, "2500-01-01T00:00:00Z"
    one = row(first.record.id[:12], "waiting", "photo", made(0), "-", "0", "0.txt, 1.txt")
    two = row(second.record.id[:12], "delayed", "video", made(1), due, "0", "0.txt")
    assert table() == [head, one, two]
    assert table("--state", "delayed") == [head, two]
    assert [line.split() for line in table("--handler", "photo")] == [head.split(), one.split()]
    assert table("--handler", "photo", "--state", "delayed")[1:] == []


def test_showing(
    root: Path, spool: DirectorySpool, maker: Maker, capsys: pytest.CaptureFixture[str]
) -> None:
    job = maker.job(b"data", arguments='{"n": 1}', parent_id="0" * 32, created_at=1e9)
    spool.accept([job])
    spool.start(job.record.id)
    spool.finish(
        job.record.id, ended(JobState.FAILED, at=1e9 + 60, error="first\nsecond", result={"a": "ä"})
    )
    assert main(["spool", str(root), "show", job.record.id[:4]]) == 0
    assert (
        capsys.readouterr().out
        == f"""\
id:         {job.record.id}
state:      failed
handler:    work
parent_id:  {"0" * 32}
created:    2001-09-09T01:46:40Z
done:       2001-09-09T01:47:40Z
attempts:   1
failures:   0
crashes:    0
file:       0.txt, 4 bytes
arguments:  {{"n": 1}}
result:     {{"a": "ä"}}
error:      first\\nsecond
"""
    )
    assert main(["spool", str(root), "show", job.record.id, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["files"] == [{"filename": "0.txt", "field": "files", "size": 4}]
    assert (found["due"], found["error"]) == (None, "first\nsecond")


def test_what_clients_call_files_does_no_harm(
    root: Path, spool: DirectorySpool, maker: Maker
) -> None:
    name = "\x1b[2J\r\n\x00\x7f\x9b\u202e\ud800\\ä.png"
    blob = maker.blob(b"data")
    job = maker.job(blob, handler="\x1b]0;x\x07")
    file = FileRecord(4, name, (), "\x1b[1m")
    spool.accept([NewJob(replace(job.record, files=[file]), [blob])])
    escaped = r"\x1b[2J\r\n\x00\x7f\x9b\u202e\ud800\\ä.png"
    for command in (["list"], ["show", job.record.id], ["list", "--json"]):
        written = run(root, *command, PYTHONIOENCODING="utf-8")
        assert all(char.isprintable() or char == "\n" for char in written)
        if "--json" in command:
            assert json.loads(written)[0]["files"][0]["filename"] == name
        else:
            assert escaped in written
    written = run(root, "list", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert escaped.replace("ä", r"\xe4") in written


# Ids


def test_a_file_without_a_name(
    root: Path, spool: DirectorySpool, maker: Maker, capsys: pytest.CaptureFixture[str]
) -> None:
    job = maker.job(b"data")
    spool.accept([NewJob(replace(job.record, files=[FileRecord(4)]), job.blobs)])
    assert main(["spool", str(root), "list"]) == 0
    assert capsys.readouterr().out.splitlines()[1].endswith("  -")


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["spool", *arguments]) == 1
    out, error = capsys.readouterr()
    assert out == ""
    assert error.startswith("error: ")
    return error.removeprefix("error: ")


@pytest.mark.parametrize(("count", "told"), [(2, ""), (4, ", ...")])
def test_an_id_that_fits_several(
    root: Path,
    spool: DirectorySpool,
    maker: Maker,
    capsys: pytest.CaptureFixture[str],
    count: int,
    told: str,
) -> None:
    jobs = [maker.job(b"data") for _ in range(count)]
    ids = [f"abc{number}" + "0" * 28 for number in range(count)]
    for job, job_id in zip(jobs, ids, strict=True):
        spool.accept([NewJob(replace(job.record, id=job_id), job.blobs)])
    assert refused(capsys, str(root), "show", "abc") == (
        f"abc begins {count} ids: {', '.join(ids[:3])}{told}. Give more of it.\n"
    )
    assert main(["spool", str(root), "show", "abc1"]) == 0


def test_an_id_that_is_not_there(
    root: Path, spool: DirectorySpool, maker: Maker, capsys: pytest.CaptureFixture[str]
) -> None:
    released(spool, maker.job(b"data"))
    (entry,) = inside(root, "ready")
    told = "No job that can be read has an id that begins with "
    assert refused(capsys, str(root), "show", "x\x1b").startswith(told + "x\\x1b. The command list")
    (entry / "job.json").write_bytes(b"{")
    assert refused(capsys, str(root), "show", glance(entry.name)[0][:6]).startswith(told)
    assert refused(capsys, str(root), "show", "").startswith("An id is empty. Give one, or the")


def test_cancelling_several(
    root: Path, spool: DirectorySpool, maker: Maker, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that can't be does not stop the others."""
    waits, delayed, ours = (maker.job(b"data") for _ in range(3))
    released(spool, waits)
    released(spool, delayed, due=2e9)
    spool.accept([ours])
    ids = [job.record.id for job in (ours, waits, delayed)]
    assert main(["spool", str(root), "cancel", *ids]) == 1
    out, error = capsys.readouterr()
    assert out == f"{ids[1]} is cancelled.\n{ids[2]} is cancelled.\n"
    assert f"error: {ids[0]} is waiting, or an app has it" in error
    assert spool.waiting() == []
    assert {kept.id for kept in spool.jobs() if kept.done} == set(ids[1:])


def test_retrying_several(
    root: Path, spool: DirectorySpool, maker: Maker, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that can't be does not stop the others."""
    done, failed = maker.job(b"data"), maker.job(b"data")
    spool.accept([done, failed])
    spool.finish(done.record.id, ended())
    spool.finish(failed.record.id, ended(JobState.FAILED))
    ids = ["none", done.record.id, failed.record.id]
    assert main(["spool", str(root), "retry", *ids]) == 1
    out, error = capsys.readouterr()
    assert f"{failed.record.id} waits" in out
    assert "begins with none" in error
    assert f"error: {done.record.id} is succeeded: only a job that has failed runs once" in error
    assert [job.id for job in spool.waiting()] == [failed.record.id]


# Purging


def test_purging(
    root: Path, spool: DirectorySpool, maker: Maker, capsys: pytest.CaptureFixture[str]
) -> None:
    now = time.time()
    for state in (JobState.SUCCEEDED, JobState.FAILED):
        for ago in (10, 7200):
            job = maker.job(b"data")
            spool.accept([job])
            spool.finish(job.record.id, ended(state, at=now - ago))

    def purge(*arguments: str) -> str:
        assert main(["spool", str(root), "purge", *arguments]) == 0
        return capsys.readouterr().out

    assert "Say which jobs to forget" in refused(capsys, str(root), "purge")
    assert purge("--before", "1d") == "0 jobs forgotten.\n"
    assert purge("--before", "1h", "--state", "failed") == "1 job forgotten.\n"
    assert purge("--before", "90m") == "1 job forgotten.\n"
    assert purge("--all") == "2 jobs forgotten.\n"
    assert inside(root, "trash") == []  # their bytes are freed, even if no app runs


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["spool"],
        ["spool", "."],
        ["spool", ".", "list", "--state", "staged"],
        ["spool", ".", "purge", "--state", "waiting"],
        ["spool", ".", "purge", "--before", "7 days"],
        ["spool", ".", "purge", "--before", "-1d"],
        ["spool", ".", "retry"],
    ],
)
def test_wrong_uses(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as error:
        main(arguments)
    assert error.value.code == 2
    assert "usage: python -m starlette_upload_keepalive" in capsys.readouterr().err


# Checking


def test_checking(
    root: Path, spool: DirectorySpool, maker: Maker, capsys: pytest.CaptureFixture[str]
) -> None:
    released(spool, maker.job(b"data"))
    assert main(["spool", str(root), "check", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"ok": True, "jobs": 1, "problems": []}
    name = os.fsdecode(b"\xff\x1b")
    (root / "corrupt" / name).mkdir()
    assert main(["spool", str(root), "check"]) == 1
    assert capsys.readouterr().out == (
        "corrupt/\\udcff\\x1b: was set aside, as it could not be read\n1 job, 1 wrong.\n"
    )
    assert main(["spool", str(root), "check", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["problems"] == [
        {"path": "corrupt/\\xff\x1b", "problem": "was set aside, as it could not be read"}
    ]


# Directories that are none


def test_directories_that_are_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = str(tmp_path / "missing")
    assert "mkdir -p -m 700" in refused(capsys, missing, "list")
    assert not Path(missing).exists()
    told = refused(capsys, str(tmp_path), "list")
    assert "holds no spool" in told
    assert "DirectorySpool(...)" in told
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fails(
    root: Path,
    spool: DirectorySpool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error", "ready")

    monkeypatch.setattr("starlette_upload_keepalive.spool.catalog.Catalog.jobs", fail)
    assert "[Errno 5] Input/output error: 'ready'" in refused(capsys, str(root), "list")


def test_whoever_reads_it_has_seen_enough(root: Path, spool: DirectorySpool, maker: Maker) -> None:
    """As `| head` does."""
    for _ in range(3):
        released(spool, maker.job(b"data", handler="x" * 100_000))
    process = subprocess.Popen(
        [sys.executable, "-m", "starlette_upload_keepalive", "spool", str(root), "list"],
        env={**os.environ, "PYTHONPATH": python_path()},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0
