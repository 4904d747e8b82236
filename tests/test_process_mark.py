"""No other process has the mark of this one."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from starlette_upload_keepalive.spool import process_mark as module
from starlette_upload_keepalive.spool.process_mark import process_mark
from tests.spooling import run_python

TELL = "from starlette_upload_keepalive.spool.process_mark import process_mark as mark\n"


def test_it_is_always_the_same() -> None:
    assert re.fullmatch("[0-9a-f]{16}", process_mark())
    assert process_mark() == process_mark()


def test_other_processes_have_others() -> None:
    script = TELL + "import os\nprint(mark(), flush=True)\nif not os.fork(): print(mark())\n"
    marks = [*run_python(script).stdout.split(), *run_python(script).stdout.split()]
    assert len({process_mark(), *marks}) == 5


@pytest.mark.parametrize("name", ["_BOOT", "_STATUS"])
def test_the_same_pid_at_another_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """As in a container, where it is often 1."""
    marks = {process_mark()}
    fields = ["1", "(a ) name)", "S", *map(str, range(4, 60))]
    for begun in ("100", "101"):
        fields[21] = begun
        (tmp_path / "file").write_text(" ".join(fields) if name == "_STATUS" else begun)
        monkeypatch.setattr(module, name, tmp_path / "file")
        marks.add(process_mark())
    assert len(marks) == 3


def test_a_system_that_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_BOOT", "_STATUS"):
        monkeypatch.setattr(module, name, Path("/nowhere"))
    mark = process_mark()
    monkeypatch.setattr(os, "getpid", lambda: 1)
    assert process_mark() != mark
