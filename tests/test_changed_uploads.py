"""Nobody is silently given other bytes than those that came in (P3).

A save by the last owner makes a file of the upload's own bytes. When the user
changes that file, whoever reads the upload later is told.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from starlette_upload_keepalive import (
    Job,
    JobContext,
    JobState,
    Retry,
    Upload,
    UploadChanged,
    Uploads,
    detach,
)
from starlette_upload_keepalive.files.blob import Blob
from starlette_upload_keepalive.files.storage import Storage
from starlette_upload_keepalive.quantities import KIB
from tests.running import AnyHandler, at_work
from tests.stored import make_upload

pytestmark = pytest.mark.anyio

DATA = os.urandom(64 * KIB)


# Changes


def write_the_same(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(DATA)


def write_a_byte(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"X")


def cut_short(path: Path) -> None:
    os.truncate(path, 10)


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"X")


def write_through_memory(path: Path) -> None:
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        memory[0] = DATA[0] ^ 1


CHANGES = [write_the_same, write_a_byte, cut_short, append, write_through_memory]


# Ways to read


async def read_on(upload: Upload, _: Path) -> bytes:
    return await upload.read()


async def go_over(upload: Upload, _: Path) -> bytes:
    return b"".join([chunk async for chunk in upload.chunks()])


async def read_the_file(upload: Upload, _: Path) -> bytes:
    return upload.file.read()


async def read_detached(upload: Upload, _: Path) -> bytes:
    async with detach(upload) as other:
        return await other.read()


async def save_again(upload: Upload, folder: Path) -> bytes:
    return (await upload.save(folder / "again")).read_bytes()


async def expose(upload: Upload, _: Path) -> bytes:
    async with upload.as_path() as path:
        return path.read_bytes()


async def expose_a_copy(upload: Upload, _: Path) -> bytes:
    with upload.as_path(writable=True) as path:
        return path.read_bytes()


async def write_and_read(upload: Upload, _: Path) -> bytes:
    await upload.write(b"")
    await upload.seek(0)
    return await upload.read()


READS = [
    read_on,
    go_over,
    read_the_file,
    read_detached,
    save_again,
    expose,
    expose_a_copy,
    write_and_read,
]


@pytest.mark.parametrize("opened", [False, True], ids=["closed", "open"])
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("read", READS)
async def test_who_reads_what_was_changed_is_told(
    linkable: Storage,
    tmp_path: Path,
    read: Callable[[Upload, Path], Awaitable[bytes]],
    change: Callable[[Path], None],
    opened: bool,
) -> None:
    async with make_upload(linkable, DATA) as upload:
        if opened:
            assert upload.file.tell() == 0
        saved = await upload.save(tmp_path / "saved")
        change(saved)
        with pytest.raises(UploadChanged, match=r"saved' without a copy, .* can't be trusted"):
            await read(upload, tmp_path)
        assert os.listdir(tmp_path) == ["saved"]


@pytest.mark.parametrize("what", ["nothing", "rename", "remove", "permissions", "read"])
@pytest.mark.parametrize("read", READS)
async def test_what_changes_no_bytes_does_no_harm(
    linkable: Storage,
    tmp_path: Path,
    read: Callable[[Upload, Path], Awaitable[bytes]],
    what: str,
) -> None:
    async with make_upload(linkable, DATA) as upload:
        saved = await upload.save(tmp_path / "saved", durable=True)
        if what == "rename":
            saved.rename(tmp_path / "renamed")
        elif what == "remove":
            saved.unlink()
        elif what == "permissions":
            saved.chmod(0o640)
        elif what == "read":
            assert saved.read_bytes() == DATA
        assert await read(upload, tmp_path) == DATA


async def test_a_change_while_it_is_read(
    linkable: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look and the last byte."""
    async with make_upload(linkable, DATA) as upload:
        saved = await upload.save(tmp_path / "saved")
        run = Upload._run

        async def change_and_run(self: Upload, call: Callable[[], Any]) -> Any:
            write_a_byte(saved)
            return await run(self, call)

        monkeypatch.setattr(Upload, "_run", change_and_run)
        with pytest.raises(UploadChanged):
            await upload.read()


async def test_a_change_while_a_private_copy_is_made(
    linkable: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with make_upload(linkable, DATA) as upload:
        saved = await upload.save(tmp_path / "saved")
        fill = Blob.fill

        def change_and_fill(blob: Blob, chunks: Iterable[bytes], **options: Any) -> None:
            write_a_byte(saved)
            fill(blob, chunks, **options)

        monkeypatch.setattr(Blob, "fill", change_and_fill)
        with pytest.raises(UploadChanged):
            await upload.write(b"X")


@pytest.mark.parametrize("read", [save_again, Upload.sha256])
async def test_a_change_while_it_is_copied(
    linkable: Storage,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    read: Callable[..., Awaitable[object]],
) -> None:
    async with make_upload(linkable, DATA) as upload:
        saved = await upload.save(tmp_path / "saved")
        blob = upload._view.blob
        open_ = blob.open

        def open_and_change() -> Any:
            file = open_()
            write_a_byte(saved)
            return file

        monkeypatch.setattr(blob, "open", open_and_change)
        with pytest.raises(UploadChanged):
            await (read(upload) if read is Upload.sha256 else read(upload, tmp_path))
        assert os.listdir(tmp_path) == ["saved"]


async def test_a_checksum_that_was_known_before(linkable: Storage, tmp_path: Path) -> None:
    """It is that of the bytes that came in, and stays true."""
    async with make_upload(linkable, DATA) as upload:
        known = await upload.sha256()
        write_a_byte(await upload.save(tmp_path / "saved"))
        assert await upload.sha256() == known


# Jobs


@pytest.fixture
def upload(seen_changes: None) -> Iterator[Upload]:
    """Make an upload on disk."""
    with make_upload(Storage(memory_max_size=0), DATA) as upload:
        yield upload


def submit(uploads: Uploads, upload: Upload, handler: Any, retry: Retry | None = None) -> Job[Any]:
    registered: AnyHandler = uploads.handler(retry=retry)(handler)
    job: Job[Any] = registered.submit(upload)
    upload._let_go()
    return job


def inode(upload: Upload) -> int:
    return os.fstat(upload.file.fileno()).st_ino


@pytest.mark.parametrize("change", [None, write_a_byte])
async def test_a_job_that_is_tried_again(
    upload: Upload, tmp_path: Path, change: Callable[[Path], None] | None
) -> None:
    """The first attempt is the last owner, for the job owns only on its behalf."""
    uploads, path, linked = Uploads(), tmp_path / "saved", list[bool]()

    async def store(upload: Upload, job: JobContext) -> int:
        if job.attempt == 2:
            return len(await upload.read())
        await upload.save(path)
        linked.append(path.stat().st_ino == inode(upload))
        if change is not None:
            change(path)
        raise RuntimeError

    async with at_work(uploads):
        job = submit(uploads, upload, store, retry=Retry(attempts=2, wait_initial=0))
        await job.wait()
    assert linked == [True]
    assert path.stat().st_nlink == 1
    if change is None:
        assert job.result == len(DATA)
    else:
        assert job.state is JobState.FAILED
        assert str(job.error).startswith("UploadChanged: The upload was saved to ")


@pytest.mark.parametrize("change", [None, write_a_byte])
async def test_a_failed_job_that_is_run_again(
    upload: Upload, tmp_path: Path, change: Callable[[Path], None] | None
) -> None:
    uploads, path, linked = Uploads(keep_failed=1), tmp_path / "saved", list[bool]()

    async def store(upload: Upload) -> int:
        if path.exists():
            return len(await upload.read())
        await upload.save(path)
        linked.append(path.stat().st_ino == inode(upload))
        raise RuntimeError

    async with at_work(uploads):
        job = submit(uploads, upload, store)
        await job.wait()
        assert linked == [True]
        if change is not None:
            change(path)
        assert uploads.jobs.retry(job.id)
        await job.wait()
    assert job.state is (JobState.SUCCEEDED if change is None else JobState.FAILED)


@pytest.mark.parametrize("change", [None, write_a_byte])
async def test_what_a_handler_saves_and_submits(
    upload: Upload, tmp_path: Path, change: Callable[[Path], None] | None
) -> None:
    uploads, path, children = Uploads(), tmp_path / "saved", list[Job[int]]()

    @uploads.handler()
    async def count(upload: Upload) -> int:
        return len(await upload.read())

    async def store(upload: Upload) -> None:
        await upload.save(path)
        assert path.stat().st_ino == inode(upload)
        children.append(count.submit(upload))
        if change is not None:
            change(path)

    async with at_work(uploads):
        await submit(uploads, upload, store).wait()
        (child,) = children
        await child.wait()
    assert child.state is (JobState.SUCCEEDED if change is None else JobState.FAILED)


async def test_what_a_handler_submits_and_saves(upload: Upload, tmp_path: Path) -> None:
    """The child owns the bytes by then, so the save is a copy."""
    uploads, path, children = Uploads(), tmp_path / "saved", list[Job[bool]]()

    @uploads.handler()
    async def read(upload: Upload) -> bool:
        return await upload.read() == DATA

    async def store(upload: Upload) -> None:
        children.append(read.submit(upload))
        await upload.save(path)
        write_a_byte(path)
        assert path.stat().st_ino != inode(upload)

    async with at_work(uploads):
        assert (await submit(uploads, upload, store).wait()).state is JobState.SUCCEEDED
        (child,) = children
        assert (await child.wait()).result is True
