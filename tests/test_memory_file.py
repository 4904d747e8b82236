"""A small file can do what a large one can."""

from __future__ import annotations

import copy
import io
import os
import pickle
import subprocess
import sys
from collections.abc import Callable

import pytest

from starlette_upload_keepalive import Upload
from starlette_upload_keepalive.files.memory_file import MemoryFile


def test_it_is_read_only() -> None:
    """P3, divergence 8: the error says what to do."""
    with MemoryFile(b"abc") as file:
        assert not file.writable()
        with pytest.raises(io.UnsupportedOperation, match=r"await upload\.write\(\)"):
            file.write(b"x")
        with pytest.raises(io.UnsupportedOperation, match=r"await upload\.write\(\)"):
            file.writelines([b"x"])
        with pytest.raises(io.UnsupportedOperation, match=r"await upload\.write\(\)"):
            file.truncate(0)
        assert file.read() == b"abc"
        assert repr(file) == "<the file of an upload>"


def test_its_descriptor_is_at_its_position() -> None:
    with MemoryFile(b"abcdef") as file:
        file.seek(2)
        assert os.read(file.fileno(), 2) == b"cd"
        file.seek(4)
        assert os.read(file.fileno(), 9) == b"ef"
        assert file.read() == b"ef"
        descriptor = file.fileno()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
    with pytest.raises(ValueError, match="closed"):
        file.fileno()


@pytest.mark.parametrize("size", [0, 10])
def test_a_subprocess_reads_it(size: int) -> None:
    """P1: `.file` does not fail by size."""
    data = os.urandom(size)
    script = "import sys; sys.stdout.buffer.write(sys.stdin.buffer.read())"
    with Upload.from_bytes(data) as upload:
        run = subprocess.run(
            [sys.executable, "-c", script], stdin=upload.file, capture_output=True, check=True
        )
    assert run.stdout == data


@pytest.mark.parametrize("clone", [copy.copy, copy.deepcopy, pickle.dumps])
def test_an_upload_is_not_cloned(clone: Callable[[Upload], object]) -> None:
    """P2: two objects on one view would each close it."""
    with Upload.from_bytes(b"abc") as upload:
        with pytest.raises(TypeError, match=r"detach\(file\)"):
            clone(upload)
        assert upload.file.read() == b"abc"
