"""For its last owner, a save gives the upload's own file a name, and copies nothing."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Any

import anyio
import pytest
from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from starlette_upload_keepalive import Upload, UploadKeepAliveMiddleware, Uploads, detach
from starlette_upload_keepalive.files import private_file
from starlette_upload_keepalive.files.private_file import PrivateFile
from starlette_upload_keepalive.files.storage import Storage
from tests.pages import client_of, send
from tests.stored import Gate, make_upload

pytestmark = pytest.mark.anyio


def is_linked(saved: Path, upload: Upload) -> bool:
    """Whether the saved file is the upload's own."""
    file = upload._view.blob._file
    return file is not None and os.path.samestat(saved.stat(), os.fstat(file.fileno()))


async def test_the_file_itself_gets_the_name(linkable: Storage, tmp_path: Path) -> None:
    async with make_upload(linkable, b"abc") as upload:
        saved = await upload.save(tmp_path / "saved")
        assert is_linked(saved, upload)
        assert saved.read_bytes() == await upload.read() == b"abc"
        assert saved.stat().st_nlink == 1
        assert os.listdir(linkable.directory) == []  # nor can it be read there by others now
    assert saved.read_bytes() == b"abc"
    assert os.listdir(tmp_path) == ["saved"]


async def test_nobody_but_the_user_can_write_to_it(linkable: Storage, tmp_path: Path) -> None:
    """So that it may be executed, if it is a program, while the upload is open."""
    async with make_upload(linkable, b"#!/bin/sh\necho done") as upload:
        saved = await upload.save(tmp_path / "saved")
        assert is_linked(saved, upload)
        saved.chmod(0o700)
        assert (await anyio.run_process([str(saved)])).stdout == b"done\n"


async def test_it_replaces_a_file_when_told(linkable: Storage, tmp_path: Path) -> None:
    path = tmp_path / "saved"
    path.write_bytes(b"before")
    async with make_upload(linkable, b"after") as upload:
        await upload.save(path, overwrite=True)
        assert is_linked(path, upload)
    assert path.read_bytes() == b"after"
    assert os.listdir(tmp_path) == ["saved"]


async def test_without_proc_it_is_copied(
    linkable: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P1: a save takes the name of its own away, and by a descriptor it can't be opened there."""
    monkeypatch.setattr(private_file, "_DESCRIPTORS", str(tmp_path / "no proc"))
    async with make_upload(linkable, b"abc") as upload:
        saved = await upload.save(tmp_path / "saved")
        assert not is_linked(saved, upload)
        assert saved.read_bytes() == await upload.read() == b"abc"


async def test_what_is_in_memory_is_copied(tmp_path: Path) -> None:
    async with make_upload(Storage(), b"abc") as upload:
        saved = await upload.save(tmp_path / "saved")
        saved.write_bytes(b"XYZ")
        assert await upload.read() == b"abc"


async def test_others_keep_the_bytes_to_themselves(linkable: Storage, tmp_path: Path) -> None:
    """P3: a save while others own the bytes is a copy."""
    async with make_upload(linkable, b"abc") as upload:
        with detach(upload) as other:
            saved = await upload.save(tmp_path / "first")
            assert not is_linked(saved, upload)
            saved.write_bytes(b"XYZ")
            assert await other.read() == b"abc"
        assert is_linked(await upload.save(tmp_path / "second"), upload)


@pytest.mark.parametrize("submits", [False, True])
async def test_an_endpoint_is_the_last_owner_unless_a_job_is(
    tmp_path: Path, seen_changes: None, submits: bool
) -> None:
    uploads = Uploads(memory_max_size=0, directory=tmp_path)

    @uploads.handler()
    def count(upload: Upload) -> int:
        return len(upload.file.read())

    async def endpoint(request: Request) -> Response:
        upload = (await request.form())["photo"]
        assert isinstance(upload, Upload)
        if submits:
            count.submit(upload)
        saved = await upload.save(tmp_path / "saved")
        return JSONResponse(is_linked(saved, upload))

    app = UploadKeepAliveMiddleware(
        Starlette(routes=[Route("/photos", endpoint, methods=["POST"])]), uploads
    )
    async with uploads.running(), client_of(app) as client:
        linked = (await send(client, "/photos", photo=b"abc")).json()
    assert linked is not submits


async def test_a_second_save_is_a_second_file(linkable: Storage, tmp_path: Path) -> None:
    """P3: else to change the one would change the other."""
    async with make_upload(linkable, b"abc") as upload:
        first = await upload.save(tmp_path / "first")
        second = await upload.save(tmp_path / "second")
        assert is_linked(first, upload)
        assert not is_linked(second, upload)
        second.write_bytes(b"XYZ")
        assert first.read_bytes() == b"abc"
        assert await upload.read() == b"abc"


async def test_of_saves_at_once_one_is_linked(linkable: Storage, tmp_path: Path) -> None:
    """P3: each names the other as an owner, so it may be that none is."""
    async with make_upload(linkable, b"abc") as upload:
        async with anyio.create_task_group() as tasks:
            for number in range(4):
                tasks.start_soon(upload.save, tmp_path / str(number))
        assert len({(tmp_path / str(number)).stat().st_ino for number in range(4)}) == 4


async def test_a_file_is_offered_once_at_a_time(linkable: Storage) -> None:
    """P3: also to one that asks again before the first has made up its mind."""
    async with make_upload(linkable, b"abc") as upload:
        blob, owner = upload._view.blob, upload._view.check_owned()
        with blob.offered(owner) as file:
            assert file is not None
            with blob.offered(owner) as again:
                assert again is None
            with pytest.raises(NotImplementedError):
                blob.link(Path(linkable.directory) / "x")
        with blob.offered(owner) as file:  # it was not taken
            assert file is not None


async def test_what_was_opened_by_another_is_copied(tmp_path: Path) -> None:
    """P3: whoever opened the file that `detach` found still has it."""
    theirs = PrivateFile.anonymous(str(tmp_path))
    theirs.write([b"abc"])
    file = os.fdopen(theirs.duplicate(), "r+b")  # at its end
    async with detach(UploadFile(file)) as upload:
        saved = await upload.save(tmp_path / "saved")
        assert not is_linked(saved, upload)
        saved.write_bytes(b"XYZ")
        assert await upload.read() == b"abc"
    file.close()
    theirs.close()


async def test_what_was_written_is_saved(linkable: Storage, tmp_path: Path) -> None:
    """And what is written later goes to another copy."""
    async with make_upload(linkable, b"abc") as upload:
        await upload.write(b"XY")
        saved = await upload.save(tmp_path / "saved")
        assert is_linked(saved, upload)
        await upload.write(b"Z")
        assert saved.read_bytes() == b"XYc"
        await upload.seek(0)
        assert await upload.read() == b"XYZ"


# Paths beside it


async def test_a_path_after_the_save_is_a_copy(linkable: Storage, tmp_path: Path) -> None:
    """P3: a link would have the saved file's permissions changed."""
    async with make_upload(linkable, b"abc") as upload:
        saved = await upload.save(tmp_path / "saved")
        mode = saved.stat().st_mode
        async with upload.as_path() as path:
            assert path.read_bytes() == b"abc"
            assert not path.samefile(saved)
        assert saved.stat().st_mode == mode
        assert saved.stat().st_nlink == 1


async def test_a_save_within_a_path_is_a_copy(linkable: Storage, tmp_path: Path) -> None:
    """P3: else the program that reads the path sees what is done to the saved file."""
    async with make_upload(linkable, b"abc") as upload, upload.as_path() as path:
        saved = await upload.save(tmp_path / "saved")
        assert not path.samefile(saved)
        assert stat.S_IMODE(path.stat().st_mode) == 0o400


async def test_a_save_after_a_path(linkable: Storage, tmp_path: Path) -> None:
    """The kernel names no file again that has lost its only name (linkat(2))."""
    async with make_upload(linkable, b"abc") as upload:
        async with upload.as_path():
            pass
        saved = await upload.save(tmp_path / "saved")
        (tmp_path / "new").touch()
        assert saved.stat().st_mode == (tmp_path / "new").stat().st_mode
        assert await upload.read() == saved.read_bytes() == b"abc"


# What can fail


def fails(*_: Any, **__: Any) -> None:
    raise OSError(errno.EIO, "of the test")


@pytest.mark.parametrize(
    ("module", "name"),
    [(os, "utime"), (os, "listxattr"), (PrivateFile, "link"), (Storage, "marks_tell")],
    ids=lambda each: getattr(each, "__name__", each),
)
async def test_what_can_not_be_linked_is_copied(
    linkable: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: Any, name: str
) -> None:
    async with make_upload(linkable, b"abc") as upload:
        with monkeypatch.context() as patch:
            patch.setattr(module, name, fails)
            saved = await upload.save(tmp_path / "saved")
        assert saved.read_bytes() == b"abc"
        assert not is_linked(saved, upload)
        assert is_linked(await upload.save(tmp_path / "again"), upload)
    assert sorted(os.listdir(tmp_path)) == ["again", "saved"]


@pytest.mark.parametrize("name", ["fchmod", "fsync", "open", "link", "replace"])
async def test_a_failing_save_leaves_nothing(
    linkable: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """P2: and the upload is as it was."""
    path = tmp_path / "saved"
    overwrite = name == "replace"
    if overwrite:
        path.write_bytes(b"before")
    async with make_upload(linkable, b"abc") as upload:
        await upload.read(1)
        call = getattr(os, name)

        def fail_in_the_end(*args: Any, **more: Any) -> Any:
            if name == "link" and args[1] != path:  # only when it gets its final name
                return call(*args, **more)
            return fails()

        with monkeypatch.context() as patch:
            patch.setattr(os, name, fail_in_the_end)
            with pytest.raises(OSError, match="of the test"):
                await upload.save(path, overwrite=overwrite, durable=True)
        assert os.listdir(tmp_path) == (["saved"] if overwrite else [])
        assert await upload.read() == b"bc"
        async with upload.as_path() as exposed:
            assert stat.S_IMODE(exposed.stat().st_mode) == 0o400
        saved = await upload.save(path, overwrite=True)
        assert saved.read_bytes() == b"abc"
    assert os.listdir(tmp_path) == ["saved"]


async def test_times_that_are_too_coarse(
    linkable: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P3: as on FAT, where a change in the same two seconds would not be seen."""
    utime = os.utime

    def coarse(fd: int, *, ns: tuple[int, int]) -> None:
        utime(fd, ns=(ns[0] // 10**9 * 10**9, ns[1] // 10**9 * 10**9))

    monkeypatch.setattr(os, "utime", coarse)
    linkable._marks_tell = {os.stat(linkable.directory).st_dev: True}
    async with make_upload(linkable, b"abc") as upload:
        assert not is_linked(await upload.save(tmp_path / "saved"), upload)


async def test_a_filesystem_that_hides_changes(linkable: Storage, tmp_path: Path) -> None:
    """P3: as a tmpfs does those through memory."""
    linkable._marks_tell = {os.stat(linkable.directory).st_dev: False}
    async with make_upload(linkable, b"abc") as upload:
        assert not is_linked(await upload.save(tmp_path / "saved"), upload)


async def test_a_reader_sees_the_whole_file_or_none(
    linkable: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its permissions."""
    path, gate, seen = tmp_path / "saved", Gate(), list[bool]()
    monkeypatch.setattr(os, "fchmod", gate.before(os.fchmod))
    async with make_upload(linkable, b"abc") as upload, anyio.create_task_group() as tasks:
        tasks.start_soon(upload.save, path)
        await gate.entered()
        seen.append(path.exists())
        (hidden,) = os.listdir(tmp_path)
        assert stat.S_IMODE((tmp_path / hidden).stat().st_mode) == 0o600
        gate.open()
    assert seen == [False]
    assert path.read_bytes() == b"abc"
