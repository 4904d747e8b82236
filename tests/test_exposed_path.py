"""A path on an upload lasts as long as its block, and costs no copy where it need not."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest
from starlette.datastructures import UploadFile

from starlette_upload_keepalive import Upload, UploadClosed, detach
from starlette_upload_keepalive.files import copying, exposed_path
from starlette_upload_keepalive.files.blob import Blob
from starlette_upload_keepalive.files.private_file import PrivateFile
from starlette_upload_keepalive.files.storage import Storage
from starlette_upload_keepalive.quantities import MIB
from tests.stored import (
    CANCELS,
    Gate,
    cancel,
    make_upload,
    wait_until_idle,
)

pytestmark = pytest.mark.anyio


async def path_within(upload: Upload, how: str, suffix: str = "") -> tuple[Path, bytes, int]:
    """Enter a path either way; return it with what was seen of it."""
    if how == "async with":
        async with upload.as_path(suffix=suffix) as path:
            return path, path.read_bytes(), path.stat().st_mode
    with upload.as_path(suffix=suffix) as path:
        return path, path.read_bytes(), path.stat().st_mode


@pytest.mark.parametrize("how", ["async with", "with"])
@pytest.mark.parametrize("size", [0, 10, 2 * MIB])
async def test_the_path_has_all_bytes_and_is_gone_afterwards(
    storage: Storage, how: str, size: int
) -> None:
    data = os.urandom(size)
    async with make_upload(storage, data) as upload:
        await upload.seek(3)
        path, seen, mode = await path_within(upload, how, ".mp4")
        assert seen == data
        assert path.suffix == ".mp4"
        assert path.parent == Path(storage.directory)
        assert stat.S_IMODE(mode) == 0o400
        assert not path.exists()
        assert await upload.read() == data[3:]


async def test_another_process_can_open_it(storage: Storage) -> None:
    """It can't open a descriptor of ours."""
    code = "import sys; sys.stdout.write(open(sys.argv[1]).read())"
    async with make_upload(storage, b"abc") as upload, upload.as_path() as path:
        child = await anyio.run_process([sys.executable, "-c", code, str(path)])
    assert child.stdout == b"abc"


async def test_what_is_on_disk_is_linked_and_not_copied(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies: list[Path] = []
    copy = copying.copy

    def tell_and_copy(blob: Blob, path: Path, *, mode: int) -> None:
        copies.append(path)
        copy(blob, path, mode=mode)

    monkeypatch.setattr(exposed_path, "copy", tell_and_copy)
    async with make_upload(storage, b"abc") as upload, upload.as_path() as path:
        assert path.read_bytes() == b"abc"
    assert bool(copies) is (storage.memory_max_size > 0)


@pytest.mark.parametrize(
    "error", [OSError(errno.EXDEV, "of the test"), NotImplementedError()], ids=["EXDEV", "no links"]
)
async def test_where_nothing_can_be_linked_it_is_copied(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(PrivateFile, "link", fail)
    async with make_upload(storage, b"abc") as upload:
        for how in ("async with", "with"):
            _, seen, mode = await path_within(upload, how)
            assert seen == b"abc"
            assert stat.S_IMODE(mode) == 0o400


@pytest.mark.parametrize("how", ["async with", "with"])
async def test_a_full_disk_leaves_nothing(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """P2: of a path that could not be made."""
    copy = copying.copy

    def fail(*_: object) -> None:
        raise OSError(errno.EXDEV, "of the test")

    def copy_and_fail(blob: Blob, path: Path, *, mode: int) -> None:
        copy(blob, path, mode=mode)
        raise OSError(errno.ENOSPC, "no space in the test")

    monkeypatch.setattr(PrivateFile, "link", fail)
    monkeypatch.setattr(exposed_path, "copy", copy_and_fail)
    async with make_upload(storage, b"abc") as upload:
        with pytest.raises(OSError, match="no space in the test"):
            await path_within(upload, how)
        assert upload._view.blob.owners == ["the test"]


async def test_the_block_owns_the_bytes(storage: Storage) -> None:
    """P1: also after the upload is closed."""
    upload = make_upload(storage, b"abc")
    async with upload.as_path() as path:
        await upload.close()
        assert storage.open_blobs == 1
        assert path.read_bytes() == b"abc"
    assert storage.open_blobs == 0


async def test_what_is_closed_has_no_path(storage: Storage) -> None:
    upload = make_upload(storage, b"abc")
    late = upload.as_path()
    await upload.close()
    with pytest.raises(UploadClosed):
        upload.as_path()
    for how in ("async with", "with"):
        with pytest.raises(UploadClosed):
            await enter(late, how)


async def test_left_again_does_nothing(storage: Storage) -> None:
    """P2: a double close lets go once."""
    async with make_upload(storage, b"abc") as upload:
        exposed = upload.as_path()
        with exposed:
            exposed.__exit__(None, None, None)
        assert upload._view.blob.owners == ["the test"]


@pytest.mark.parametrize("suffix", ["/../x", "a/b", "\0"])
async def test_a_suffix_leads_nowhere_else(storage: Storage, suffix: str) -> None:
    async with make_upload(storage, b"abc") as upload:
        with pytest.raises(ValueError, match="suffix must be the end of a name"):
            upload.as_path(suffix=suffix)


async def test_each_block_has_a_path_of_its_own(storage: Storage) -> None:
    async with (
        make_upload(storage, b"abc") as upload,
        upload.as_path() as first,
        upload.as_path() as second,
    ):
        assert first != second
        assert first.read_bytes() == second.read_bytes() == b"abc"


@pytest.mark.parametrize("how", ["async with", "with"])
async def test_a_path_is_for_one_block(storage: Storage, how: str) -> None:
    """P2: a second block would end the first one's, and never let go."""
    async with make_upload(storage, b"abc") as upload:
        exposed = upload.as_path()
        with exposed as path:
            with pytest.raises(RuntimeError, match="one block"):
                await enter(exposed, how)
            assert path.read_bytes() == b"abc"
        with pytest.raises(RuntimeError, match="one block"):
            await enter(exposed, how)


async def enter(exposed: exposed_path.ExposedPath, how: str) -> None:
    if how == "with":
        exposed.__enter__()
    else:
        await exposed.__aenter__()


async def test_a_later_write_changes_no_path(storage: Storage) -> None:
    """P3: the bytes that a program works on stay as they are."""
    async with make_upload(storage, b"abc") as upload:
        await upload.write(b"X")
        async with upload.as_path() as path:
            await upload.seek(0)
            await upload.write(b"YY")
            assert path.read_bytes() == b"Xbc"


@pytest.mark.parametrize(("anyio_backend", "how"), CANCELS)
@pytest.mark.parametrize("step", ["link", "copy"])
async def test_a_cancelled_path_leaves_nothing(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, how: str, step: str
) -> None:
    """P2: what the thread makes after its task has gone, the thread removes."""
    gate = Gate()
    if storage.memory_max_size or step == "copy":
        monkeypatch.setattr(exposed_path, "copy", gate.before(copying.copy))
        monkeypatch.setattr(PrivateFile, "link", unable)
    else:
        monkeypatch.setattr(PrivateFile, "link", gate.before(PrivateFile.link))
    upload = make_upload(storage, b"abc")

    async def expose() -> None:
        async with upload, upload.as_path():
            await anyio.sleep_forever()

    await cancel(how, gate, expose)
    wait_until_idle(storage)
    assert storage.open_blobs == 0


async def test_cancelled_before_the_thread_began(storage: Storage) -> None:
    upload = make_upload(storage, b"abc")
    with anyio.CancelScope() as scope:
        scope.cancel()
        async with upload, upload.as_path():
            pass
    assert upload._view.closed


async def test_cancelled_within_the_block(storage: Storage) -> None:
    upload = make_upload(storage, b"abc")
    with anyio.CancelScope() as scope:
        async with upload, upload.as_path():
            scope.cancel()
            await anyio.sleep_forever()
    assert storage.open_blobs == 0


async def test_a_file_of_the_users_keeps_its_permissions(tmp_path: Path) -> None:
    """P3: what `detach` found open under a name is never linked and made read-only."""
    path = tmp_path / "theirs"
    path.write_bytes(b"abc")
    path.chmod(0o644)
    with path.open("rb") as file:
        async with detach(UploadFile(file)) as upload, upload.as_path() as exposed:
            assert exposed.read_bytes() == b"abc"
            assert not exposed.samefile(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def unable(*_: Any) -> None:
    raise NotImplementedError


async def test_leaving_again_does_nothing(storage: Storage) -> None:
    async with make_upload(storage, b"data") as upload:
        exposed = upload.as_path()
        async with exposed as path:
            pass
        await exposed.__aexit__(None, None, None)
        assert not await anyio.Path(path).exists()
        assert await upload.read() == b"data"


@pytest.mark.parametrize("how", ["async with", "with"])
async def test_a_writable_path_is_a_copy_of_ones_own(storage: Storage, how: str) -> None:
    """P3: what a program does to it, no owner sees."""
    async with make_upload(storage, b"abc") as upload:
        exposed = upload.as_path(suffix=".txt", writable=True)
        path = await exposed.__aenter__() if how == "async with" else exposed.__enter__()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert path.suffix == ".txt"
        path.write_bytes(b"XYZ!")
        assert await upload.read() == b"abc"
        await exposed.__aexit__(None, None, None)
        assert not path.exists()
        async with upload.as_path() as readable:
            assert readable.read_bytes() == b"abc"


async def test_a_program_may_replace_or_remove_what_is_writable(storage: Storage) -> None:
    async with make_upload(storage, b"abc") as upload:
        async with upload.as_path(writable=True) as path:
            path.unlink()
        async with upload.as_path(writable=True) as path:
            other = path.with_suffix(".new")
            other.write_bytes(b"new")
            other.replace(path)
        assert not path.exists()


@pytest.mark.parametrize("size_in_memory", [0, MIB])
async def test_the_directory_of_uploads_is_gone(tmp_path: Path, size_in_memory: int) -> None:
    directory = tmp_path / "uploads"
    directory.mkdir()
    storage = Storage(memory_max_size=size_in_memory, directory=directory)
    async with make_upload(storage, b"abc") as upload:
        shutil.rmtree(directory)
        with pytest.raises(FileNotFoundError, match=r"set Uploads\(directory=") as caught:
            async with upload.as_path():
                pytest.fail("not reached")  # pragma: no cover
        assert (caught.value.errno, caught.value.filename) == (errno.ENOENT, str(directory))
    storage.closer.drain()


async def test_another_file_that_is_missing_is_not_blamed_on_the_directory(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(*_: object, **__: object) -> None:
        raise FileNotFoundError(errno.ENOENT, "of the test")

    monkeypatch.setattr(exposed_path, "copy", lost)
    async with make_upload(storage, b"abc") as upload:
        with pytest.raises(FileNotFoundError, match="of the test"):
            await upload.as_path(writable=True).__aenter__()


async def test_it_is_there_from_wherever_one_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program may be started in another directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "uploads").mkdir()
    storage = Storage(directory="uploads")
    monkeypatch.chdir("/")
    async with make_upload(storage, b"abc") as upload, upload.as_path() as path:
        assert path.is_absolute()
        assert path.parent == tmp_path / "uploads"
        assert path.read_bytes() == b"abc"
