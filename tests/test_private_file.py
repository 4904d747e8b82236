"""A private file keeps its bytes to itself, with and without a name."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from starlette_upload_keepalive import UploadChanged
from starlette_upload_keepalive.files.private_file import PrivateFile


@pytest.fixture
def directory(tmp_path: Path) -> str:
    return str(tmp_path)


@pytest.fixture(params=["anonymous", "named"])
def file(request: pytest.FixtureRequest, directory: str) -> Iterator[PrivateFile]:
    create = PrivateFile.anonymous if request.param == "anonymous" else PrivateFile.named
    file = create(directory)
    yield file
    file.close()
    assert os.listdir(directory) == []


def content(file: PrivateFile) -> bytes:
    with open(file.reopen(), "rb") as source:
        return source.read()


def test_nobody_else_can_read_it(file: PrivateFile) -> None:
    assert stat.S_IMODE(os.fstat(file._fd).st_mode) == 0o600
    assert not os.get_inheritable(file._fd)


def test_a_file_without_a_name_leaves_none_behind(directory: str) -> None:
    """P2: a crash at any moment leaves nothing in the directory."""
    file = PrivateFile.create(directory)
    assert os.listdir(directory) == []
    file.close()


def test_positions_are_independent(file: PrivateFile) -> None:
    """P3: opened once more, not duplicated."""
    file.write([b"abc", bytearray(b"def")])
    with open(file.reopen(), "rb") as first, open(file.reopen(), "rb") as second:
        assert first.read(4) == b"abcd"
        assert second.read() == b"abcdef"
        with pytest.raises(OSError, match="write"):
            first.write(b"x")


def test_more_buffers_than_one_call_takes(file: PrivateFile) -> None:
    buffers = [bytes([number % 251]) for number in range(2500)]
    file.write(buffers)
    assert content(file) == b"".join(buffers)


def test_a_system_that_writes_a_part(file: PrivateFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full pipe of the kernel, a signal: what was not written is written next."""
    write = os.write

    def write_three(fd: int, data: bytes) -> int:
        return write(fd, data[:3])

    def write_three_of_many(fd: int, buffers: Sequence[bytes]) -> int:
        return write_three(fd, b"".join(buffers))

    monkeypatch.setattr(os, "write", write_three)
    monkeypatch.setattr(os, "writev", write_three_of_many)
    file.write([b"ab", b"cdef", b"ghij"])
    assert content(file) == b"abcdefghij"


def test_a_system_without_writev(file: PrivateFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "writev")
    file.write([b"ab", b"cd"])
    assert content(file) == b"abcd"


def test_a_duplicate_writes_to_the_same_bytes(file: PrivateFile) -> None:
    file.write([b"abc"])
    with open(file.duplicate(), "r+b") as writable:
        writable.seek(1)
        writable.write(b"X")
    assert content(file) == b"aXc"


def test_a_link_is_one_more_name(file: PrivateFile, tmp_path: Path) -> None:
    file.write([b"abc"])
    path = tmp_path / "linked"
    file.link(path)
    assert path.stat().st_ino == os.fstat(file._fd).st_ino
    with pytest.raises(FileExistsError):
        file.link(path)
    path.unlink()


def test_without_its_name_it_is_still_there(directory: str) -> None:
    file = PrivateFile.named(directory)
    file.write([b"abc"])
    file.unlink()
    file.unlink()
    assert os.listdir(directory) == []
    assert content(file) == b"abc"
    file.close()


def test_without_the_name_that_somebody_tidied_away_it_can_be_read(directory: str) -> None:
    file = PrivateFile.named(directory)
    file.write([b"abc"])
    for name in os.listdir(directory):
        os.unlink(os.path.join(directory, name))
    assert content(file) == b"abc"
    file.close()


def test_what_is_given_and_changed_can_not_be_read(file: PrivateFile, tmp_path: Path) -> None:
    """P3: and nobody writes to it from here."""
    file.write([b"abc"])
    path = tmp_path / "given"
    assert file.give(path)
    assert file.given
    file.link(path)
    assert content(file) == b"abc"
    with pytest.raises(OSError, match="Bad file descriptor"):
        file.write([b"X"])
    path.write_bytes(b"XYZ")
    with pytest.raises(UploadChanged, match="given"):
        file.reopen()
    file.take_back()
    assert content(file) == b"XYZ"
    path.unlink()


def test_it_closes_although_somebody_tidied_its_name_away(directory: str) -> None:
    """P2: the descriptor is closed in any case."""
    file = PrivateFile.named(directory)
    for name in os.listdir(directory):
        os.unlink(os.path.join(directory, name))
    file.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(file._fd)


def test_its_name_goes_although_closing_fails(
    directory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P2: what a failing device reports leaves no file behind."""
    file = PrivateFile.named(directory)
    close = os.close

    def close_and_fail(fd: int) -> None:
        close(fd)
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "close", close_and_fail)
        with pytest.raises(OSError, match="Input/output error"):
            file.close()
    assert os.listdir(directory) == []


@pytest.mark.parametrize(
    "unable", ["no flag", "no /proc", errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL], ids=str
)
def test_where_files_need_a_name_they_get_one(
    directory: str, monkeypatch: pytest.MonkeyPatch, unable: str | int
) -> None:
    """Another system, an old kernel, a filesystem without O_TMPFILE."""
    if unable == "no flag":
        monkeypatch.delattr(os, "O_TMPFILE")
    elif unable == "no /proc":
        monkeypatch.setattr(os.path, "isdir", is_no_directory)
    else:
        fail_to_open(monkeypatch, unable)
    file = PrivateFile.create(directory)
    monkeypatch.undo()
    (name,) = os.listdir(directory)
    assert name.startswith("upload-")
    file.close()
    assert os.listdir(directory) == []


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENOSPC, errno.EACCES, errno.ENOENT])
def test_what_else_is_wrong_is_said(
    directory: str, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """P7: no second attempt hides that no descriptor or no space is left."""
    fail_to_open(monkeypatch, code)
    with pytest.raises(OSError, match="of the test") as caught:
        PrivateFile.create(directory)
    assert caught.value.errno == code


def test_a_file_of_another_is_adopted_with_a_position_of_its_own() -> None:
    with tempfile.TemporaryFile() as theirs:
        theirs.write(b"abcdef")
        theirs.flush()
        file = PrivateFile.adopt(theirs.fileno())
        theirs.close()
        assert content(file) == b"abcdef"
        file.close()


def test_a_system_that_can_not_adopt_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os.path, "isdir", is_no_directory)
    with pytest.raises(NotImplementedError):
        PrivateFile.adopt(0)


def is_no_directory(_: str) -> bool:
    return False


def fail_to_open(monkeypatch: pytest.MonkeyPatch, code: int | str) -> None:
    open_ = os.open

    def fail(path: str, flags: int, mode: int = 0o777, **options: int) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(code, "of the test")
        return open_(path, flags, mode, **options)

    monkeypatch.setattr(os, "open", fail)
