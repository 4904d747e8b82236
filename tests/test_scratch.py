"""What a process of a handler writes is removed, also when its app was killed."""

from __future__ import annotations

import fcntl
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from starlette_upload_keepalive.processes import scratch
from starlette_upload_keepalive.processes.scratch import scratch_directory
from starlette_upload_keepalive.processes.tree_removal import remove_tree
from tests.pages import ROOT

KILLED = """
import os, sys
from starlette_upload_keepalive.processes.scratch import scratch_directory

with scratch_directory(sys.argv[1]) as path:
    open(f"{path}/left behind", "w").close()
    os.kill(os.getpid(), 9)
"""


def leave_one_behind(directory: Path) -> Path:
    """Have an app killed that has one."""
    before = set(directory.iterdir())
    subprocess.run([sys.executable, "-c", KILLED, str(directory)], cwd=ROOT, check=False)
    (path,) = set(directory.iterdir()) - before
    return path


def test_it_is_removed_with_what_is_in_it(tmp_path: Path) -> None:
    with scratch_directory(str(tmp_path)) as path:
        assert [str(each) for each in tmp_path.iterdir()] == [path]
        assert os.stat(path).st_mode & 0o777 == 0o700
        Path(path, "folder").mkdir()
        Path(path, "folder", "file").touch()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["plain", "[a]*"])
def test_the_next_removes_what_a_killed_app_has_left(name: str, tmp_path: Path) -> None:
    directory = tmp_path / name
    directory.mkdir()
    left = leave_one_behind(directory)
    assert os.listdir(left) == ["left behind"]
    with scratch_directory(str(directory)) as path:
        assert [str(each) for each in directory.iterdir()] == [path]


def test_those_in_use_are_left_alone(tmp_path: Path) -> None:
    """And what is not ours, of whatever name."""
    (tmp_path / "upload-worker-file").touch()
    (tmp_path / "upload-worker-link").symlink_to(tmp_path)
    (tmp_path / "other").mkdir()
    with scratch_directory(str(tmp_path)) as first, scratch_directory(str(tmp_path)) as second:
        assert first != second
        assert os.path.isdir(first)
        assert len(os.listdir(tmp_path)) == 5
    assert sorted(os.listdir(tmp_path)) == ["other", "upload-worker-file", "upload-worker-link"]


def test_where_nothing_can_be_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on NFS. What cannot be told from what is in use stays."""

    def refuse(fd: int, how: int) -> None:
        raise OSError(9, "Bad file descriptor")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with scratch_directory(str(tmp_path)) as first, scratch_directory(str(tmp_path)):
        assert os.path.isdir(first)
    assert os.listdir(tmp_path) == []


def test_one_that_can_not_be_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whose it is says so once; it is nobody else's error."""
    stuck = set[str]()

    def refuse(path: str, fd: int) -> None:
        if path in stuck:
            raise PermissionError(path)
        remove_tree(path, fd)

    monkeypatch.setattr(scratch, "remove_tree", refuse)
    with scratch_directory(str(tmp_path)) as path:
        stuck.add(path)
    assert "The files of an ended worker process could not be removed." in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO), scratch_directory(str(tmp_path)):
        pass
    assert caplog.text == ""
    assert [str(each) for each in tmp_path.iterdir()] == [path]


def test_it_can_not_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(OSError, match="No space left"), scratch_directory(str(tmp_path)):
        raise AssertionError
    assert os.listdir(tmp_path) == []
