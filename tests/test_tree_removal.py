"""What a stranger's archive may leave is removed, and nothing besides."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from starlette_upload_keepalive.processes.scratch import scratch_directory
from starlette_upload_keepalive.processes.tree_removal import remove_tree
from tests.pages import ROOT

DEEP = 3000  # more than Python's frames, and than the descriptors of a process

# As somebody whom directories can refuse something, if the system lets us.
REMOVE = """
import os, sys
from contextlib import suppress

path, user = sys.argv[1], int(sys.argv[2])
from starlette_upload_keepalive.processes.tree_removal import remove_tree

os.chdir(os.path.dirname(path))
path = os.path.basename(path)
with suppress(PermissionError):
    os.setuid(user)
fd = os.open(path, os.O_RDONLY)
os.chmod(path, 0)
remove_tree(path, fd)
"""


def make_deep(path: str) -> None:
    top = os.open(".", os.O_RDONLY)
    try:
        os.chdir(path)
        for _ in range(DEEP):
            os.mkdir("a")
            os.chdir("a")
        Path("file").touch()
    finally:
        os.fchdir(top)
        os.close(top)


def remove(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        remove_tree(str(path), fd)
    finally:
        os.close(fd)


def test_directories_within_each_other(tmp_path: Path) -> None:
    with scratch_directory(str(tmp_path)) as path:
        make_deep(path)
    assert os.listdir(tmp_path) == []


def test_directories_within_each_other_of_an_app_that_was_killed(tmp_path: Path) -> None:
    left = tmp_path / "upload-worker-left"
    left.mkdir()
    make_deep(str(left))
    with scratch_directory(str(tmp_path)) as path:
        assert [str(each) for each in tmp_path.iterdir()] == [path]


def test_directories_that_refuse_their_owner(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    user = 54321 if os.geteuid() == 0 else os.geteuid()
    for name in ("plain", "closed", "closed/within"):
        directory = tree / name
        directory.mkdir(parents=True)
        (directory / "file").touch()
    for directory in (tree / "closed/within", tree / "closed", tree / "plain", tree):
        os.chmod(directory, 0o755 if directory == tree else 0)
        os.chown(directory, user, -1)
    os.chown(tmp_path, user, -1)
    command = [sys.executable, "-c", REMOVE, str(tree), str(user)]
    subprocess.run(command, cwd=ROOT, check=True)
    assert os.listdir(tmp_path) == []


def test_links_lead_nowhere(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o755)
    (outside / "file").touch()
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "directory").symlink_to(outside)
    (tree / "file").symlink_to(outside / "file")
    remove(tree)
    assert os.listdir(tmp_path) == ["outside"]
    assert os.listdir(outside) == ["file"]
    assert os.stat(outside).st_mode & 0o777 == 0o755


def test_link_that_takes_the_place_of_a_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one does that has survived its job: nothing changes where it leads."""
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o755)
    tree = tmp_path / "tree"
    (tree / "directory").mkdir(parents=True)
    opened = os.open

    def swap(path: str, flags: int, *, dir_fd: int) -> int:
        os.rmdir(tree / "directory")
        (tree / "directory").symlink_to(outside)
        return opened(path, flags, dir_fd=dir_fd)

    fd = os.open(tree, os.O_RDONLY)
    try:
        monkeypatch.setattr(os, "open", swap)
        with pytest.raises(NotADirectoryError):
            remove_tree(str(tree), fd)
    finally:
        os.close(fd)
    assert os.stat(outside).st_mode & 0o777 == 0o755


def test_it_is_gone_already(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    fd = os.open(tree, os.O_RDONLY)
    try:
        tree.rmdir()
        remove_tree(str(tree), fd)
    finally:
        os.close(fd)
