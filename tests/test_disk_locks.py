"""A lock is held for as long as its process lives, and not a moment longer."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from starlette_upload_keepalive.spool.disk import Disk
from tests.pages import python_path
from tests.spooling import python, run_python


@pytest.fixture
def disk(root: Path) -> Iterator[Disk]:
    disk = Disk(root)
    disk.open()
    yield disk
    disk.close()


HOLD = """
import sys, time
from pathlib import Path
from starlette_upload_keepalive.spool.disk import Disk

disk = Disk(Path(sys.argv[1]))
disk.open()
lock = disk.lock("a.lock", create=True)
print(lock, flush=True)
sys.stdin.readline()
disk.unlock(lock)
print("unlocked", flush=True)
sys.stdin.readline()
"""


def let_go_on(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    assert process.stdout.readline()


def test_a_lock_is_held_until_it_is_let_go(disk: Disk, root: Path) -> None:
    with python(HOLD, root) as holder:
        assert stat.S_IMODE((root / "a.lock").stat().st_mode) == 0o600
        assert disk.lock("a.lock") is None
        let_go_on(holder)
        lock = disk.lock("a.lock")
        assert lock is not None
        disk.unlock(lock)


def test_a_lock_is_held_until_the_process_is_killed(disk: Disk, root: Path) -> None:
    with python(HOLD, root) as holder:
        assert disk.lock("a.lock") is None
        holder.kill()
        holder.wait()
        lock = disk.lock("a.lock")
        assert lock is not None
        disk.unlock(lock)


FORK = """
import os, sys
from pathlib import Path
from starlette_upload_keepalive.spool.disk import Disk

disk = Disk(Path(sys.argv[1]))
disk.open()
disk.lock("a.lock", create=True)
if child := os.fork():
    print(child, flush=True)
    sys.stdin.readline()
else:
    os.read(int(sys.argv[2]), 1)  # until the test ends
"""


def test_a_forked_child_that_outlives_its_parent_has_no_lock(disk: Disk, root: Path) -> None:
    reading, writing = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", FORK, str(root), str(reading)],
        env={**os.environ, "PYTHONPATH": python_path()},
        pass_fds=[reading],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        assert disk.lock("a.lock") is None
        process.kill()
        process.wait()
        os.kill(child, 0)  # it lives
        lock = disk.lock("a.lock")
        os.close(reading)
        os.close(writing)
        assert lock is not None
        disk.unlock(lock)


def test_a_lock_that_this_process_has_is_left_alone(disk: Disk, root: Path) -> None:
    """To the kernel it is one owner: it would be given twice, and let go of for both."""
    lock = disk.lock("a.lock", create=True)
    assert lock is not None
    other = Disk(root)
    other.open()
    assert other.lock("a.lock") is None
    other.close()
    script = (
        HOLD.replace("create=True", "").partition("sys.stdin")[0] + "if lock: sys.exit('locked')"
    )
    run_python(script, root)  # it is still ours
    disk.unlock(lock)
    again = disk.lock("a.lock")
    assert again is not None
    disk.unlock(again)


def test_a_lock_that_is_gone(disk: Disk) -> None:
    assert disk.lock("a.lock") is None
    disk.write_file("b.lock", b"")
    with pytest.raises(FileExistsError):
        disk.lock("b.lock", create=True)


@pytest.mark.parametrize("replaced", [True, False])
def test_a_lock_whose_file_was_removed_meanwhile(
    disk: Disk, root: Path, monkeypatch: pytest.MonkeyPatch, replaced: bool
) -> None:
    """Whoever held it has removed it before we got it."""
    lock = "starlette_upload_keepalive.spool.disk.os.lockf"

    def remove(*_: object) -> None:
        (root / "a.lock").unlink()
        if replaced:
            (root / "a.lock").touch()

    monkeypatch.setattr(lock, remove)
    assert disk.lock("a.lock", create=True) is None


def test_a_lock_on_a_disk_that_fails(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr("starlette_upload_keepalive.spool.disk.os.lockf", fail)
    with pytest.raises(OSError, match="no locks available"):
        disk.lock("a.lock", create=True)


def test_a_lock_that_is_a_link(disk: Disk, root: Path) -> None:
    (root / "a.lock").symlink_to("b.lock")
    (root / "b.lock").touch()
    with pytest.raises(OSError, match="symbolic links"):
        disk.lock("a.lock")
