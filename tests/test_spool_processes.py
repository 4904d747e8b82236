"""Many threads and processes share a spool, and some of them are killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from starlette_upload_keepalive.files.storage import Storage
from starlette_upload_keepalive.spool.directory_spool import DirectorySpool
from tests.spooling import (
    PATIENCE,
    Maker,
    claimed,
    contents,
    ended,
    inside,
    python,
    released,
    run_python,
)

JOBS = 300

BEGIN = """
import json, os, sys
from starlette_upload_keepalive.files.storage import Storage
from starlette_upload_keepalive.spool.directory_spool import DirectorySpool
from tests.spooling import Maker, claimed, contents, ended

spool, storage = DirectorySpool(sys.argv[1]), Storage(memory_max_size=0)
spool.open(storage)
maker = Maker(storage)
"""

CLAIM = (
    BEGIN
    + """
print("ready", flush=True)
sys.stdin.readline()
found = []
while waiting := spool.waiting():
    for each in waiting:
        job = spool.claim(each)
        if job is not None:
            found.append([job.record.id, contents(job)[0].decode()])
            spool.finish(job.record.id, ended())
print(json.dumps(found), flush=True)
spool.close()
"""
)

RUN = (
    BEGIN
    + """
jobs = [maker.job(b"data") for _ in range(3)]
spool.accept(jobs[:1])
spool.accept(jobs[1:])
spool.start(jobs[0].record.id)
if len(sys.argv) > 2 and not os.fork():
    print("forked", flush=True)
    os.read(int(sys.argv[2]), 1)
    os._exit(0)
if len(sys.argv) <= 2:
    print("running", flush=True)
sys.stdin.readline()
"""
)


@pytest.fixture
def spool(root: Path, on_disk: Storage) -> Iterator[DirectorySpool]:
    spool = DirectorySpool(root)
    spool.open(on_disk)
    yield spool
    spool.close()


def fill(spool: DirectorySpool, maker: Maker) -> dict[str, bytes]:
    """Have jobs wait, each with bytes of its own."""
    jobs = [(maker.job(data), data) for data in (f"{number}".encode() for number in range(JOBS))]
    released(spool, *(job for job, _ in jobs))
    return {job.record.id: data for job, data in jobs}


def test_threads_claim_each_job_once(spool: DirectorySpool, maker: Maker) -> None:
    there = fill(spool, maker)
    found, begin = list[tuple[str, bytes]](), threading.Barrier(8)

    def work() -> None:
        waiting = spool.waiting()
        begin.wait(PATIENCE)
        for each in waiting:
            job = spool.claim(each)
            if job is not None:
                found.append((job.record.id, contents(job)[0]))
                spool.finish(job.record.id, ended())

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counter(found) == Counter(there.items())


def test_processes_claim_each_job_once(spool: DirectorySpool, root: Path, maker: Maker) -> None:
    there = {job_id: data.decode() for job_id, data in fill(spool, maker).items()}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", CLAIM, str(root)],
            cwd=Path(__file__).parents[1],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    answers = [process.stdin for process in processes]
    for stdin in answers:
        assert stdin is not None
        stdin.write("\n")
        stdin.flush()
    found = [json.loads(process.communicate(timeout=PATIENCE)[0]) for process in processes]
    assert [process.returncode for process in processes] == [0] * 4
    assert sorted(each for some in found for each in some) == sorted(map(list, there.items()))
    assert len(inside(root, "done")) == JOBS
    assert len(inside(root, "owners")) == 1


def test_threads_accept_at_the_same_time(
    spool: DirectorySpool, maker: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They share what can be shared of syncing."""
    jobs = [maker.job(b"data") for _ in range(64)]
    threads = [threading.Thread(target=spool.accept, args=[[job]]) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {job.record.id for job in spool.jobs()} == {job.record.id for job in jobs}
    for job in jobs:
        spool.finish(job.record.id, ended())


def test_a_killed_owner(spool: DirectorySpool, root: Path) -> None:
    with python(RUN, root) as process:
        assert spool.rescue() == 0
        process.kill()
        process.wait()
        assert spool.rescue() == 3
    check_rescued(spool)


def test_an_owner_that_is_killed_while_a_forked_child_lives(
    spool: DirectorySpool, root: Path
) -> None:
    """Whatever the child has inherited."""
    reading, writing = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, str(root), str(reading)],
        cwd=Path(__file__).parents[1],
        pass_fds=[reading],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "forked\n"
        assert spool.rescue() == 0
        process.kill()
        process.wait()
        rescued = spool.rescue()
        os.close(reading)
        os.close(writing)  # now the child ends
        process.stdout.read()
    assert rescued == 3
    check_rescued(spool)


def check_rescued(spool: DirectorySpool) -> None:
    assert sorted(job.standing.crashes for job in spool.waiting()) == [0, 0, 1]
    for job in claimed(spool):
        assert contents(job) == [b"data"]
        spool.finish(job.record.id, ended())


def test_the_next_start(root: Path, on_disk: Storage) -> None:
    """Nobody was there when the owner ended."""
    script = RUN.replace("sys.stdin.readline()", "os._exit(1)")
    assert run_python(script, root, check=False).returncode == 1
    spool = DirectorySpool(root)
    spool.open(on_disk)
    assert spool.rescue() == 3
    check_rescued(spool)
    spool.close()


def test_many_rescue_at_once(spool: DirectorySpool, root: Path) -> None:
    """One of them has each owner; what another has taken is not taken twice."""
    dead = 4
    for _ in range(dead):
        run_python(RUN.replace("sys.stdin.readline()", "os._exit(1)"), root, check=False)
    script = BEGIN + ("sys.stdin.close()\nprint(spool.rescue())\nspool.close()\n")
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(root)],
            cwd=Path(__file__).parents[1],
            stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
        )
        for _ in range(4)
    ]
    rescued = [int(process.communicate(timeout=PATIENCE)[0]) for process in processes]
    rescued.append(spool.rescue())
    assert sum(rescued) == 3 * dead
    assert sorted(job.standing.crashes for job in spool.waiting()) == [0] * 8 + [1] * 4
    assert len(inside(root, "owners")) == 1
