"""The soak finds nothing wrong with our spool, and something with each that is broken."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import ROOT
from tests.soak.broken import SPOOLS

BROKEN = {
    "early": "missing {",
    "selfish": "jobs wait still",
    "eager": "it was run twice at a time",
    "forgetful": "although its end was noted",
    "grudging": "crashes were counted",
    "piecemeal": "(None): missing {",
    "hasty": "too many {(",
    "spoiling": "it has read other bytes",
}


def soak(tmp_path: Path, spool: str, kills: int, stops: float) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.soak", "--drain", "15", "--kills", str(kills)]
    return subprocess.run(
        [*command, "--stops", str(stops), "--spool", spool],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_nothing_is_lost_by_a_kill(tmp_path: Path) -> None:
    """P8, P9: nor by a shutdown. A few times here, a thousand times with `make soak`."""
    done = soak(tmp_path, "sound", 10, 0.3)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "10 kills" in done.stdout
    assert " 0 violations" in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.soak
@pytest.mark.parametrize(("spool", "violation"), BROKEN.items())
def test_what_breaks_a_promise_is_found(tmp_path: Path, spool: str, violation: str) -> None:
    done = soak(tmp_path, spool, 40, 0.8 if spool == "grudging" else 0.1)
    assert done.returncode == 1, done.stderr
    (found,) = tmp_path.glob("soak-*/violations")
    assert violation in found.read_text()


def test_all_broken_spools_are_tried() -> None:
    assert set(BROKEN) | {"sound"} == set(SPOOLS)
