"""P9: SIGKILL, EIO and ENOSPC at every system call of an owner, from its start on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from starlette_upload_keepalive.spool.layout import FOLDERS
from tests.servers import ROOT
from tests.system_calls.scenario import Scenario
from tests.system_calls.strace import FAULTS, Fault, faults


@pytest.fixture
def strace() -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    tried = subprocess.run(
        ["strace", "--trace=none", "true"], capture_output=True, text=True, check=False
    )
    if tried.returncode != 0:
        pytest.skip(f"strace may not trace here: {tried.stderr.strip()}")


@pytest.mark.parametrize(
    ("scenario", "least"), [("in-memory", 400), ("on-disk", 400), ("upkeep", 300)]
)
def test_no_fault_breaks_a_promise(strace: None, tmp_path: Path, scenario: str, least: int) -> None:
    command = [sys.executable, "-m", "tests.system_calls", str(tmp_path), "--scenario", scenario]
    # What is measured makes calls of its own, and not each time the same.
    env = {name: value for name, value in os.environ.items() if "COVERAGE" not in name}
    done = subprocess.run(
        command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    count = int(done.stdout.split()[0])
    assert count > least


def test_every_call_fails_in_every_way_that_it_can() -> None:
    calls = [
        'openat(3, "job.json", O_WRONLY) = 4',
        "fsync(4) = 0",
        'openat(3, ".", O_RDONLY) = 5',
        "close(5) = 0",
        "mmap(NULL, 8192) = 0x7f",
        "+++ exited with 0 +++",
    ]
    assert faults(calls) == [
        *[Fault(kind, "openat", 1) for kind in FAULTS],
        *[Fault(kind, "fsync", 1) for kind in FAULTS],
        *[Fault(kind, "openat", 2) for kind in FAULTS],
        Fault("signal=KILL", "close", 1),
        Fault("error=EIO", "close", 1),
    ]


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_what_should_not_have_come_of_it_is_told(tmp_path: Path) -> None:
    """Nothing was run: neither the job that was to be claimed nor the other is anywhere."""
    root = tmp_path / "spool"
    root.mkdir(mode=0o700)
    scenario = Scenario(root, on_disk=False)
    assert list(scenario.violations()) == [
        *[f"{folder} is missing" for folder in FOLDERS],
        "finish: the job is done: False, and it waits: False",
        "claim: the job has failed: False, and it waits: False",
    ]
