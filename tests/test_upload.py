"""An upload is a ``UploadFile`` that its owner closes, and that no other owner disturbs."""

from __future__ import annotations

import errno
import gc
import io
import os
from typing import Any

import pytest
from starlette.datastructures import Headers, UploadFile

from starlette_upload_keepalive import Upload, UploadClosed
from starlette_upload_keepalive.files.blob import Blob
from starlette_upload_keepalive.files.storage import Storage
from starlette_upload_keepalive.files.upload import let_go_of_all
from starlette_upload_keepalive.quantities import MIB
from tests.stored import count_closings, make_upload

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("size", [0, 10, 2 * MIB])
async def test_owners_neither_move_nor_change_each_others_bytes(
    storage: Storage, size: int
) -> None:
    """P3: whatever the size, and wherever the bytes are."""
    data = os.urandom(size)
    async with make_upload(storage, data) as first, first._share("a job") as second:
        assert await first.read() == data
        assert await second.read(4) == data[:4]
        await first.seek(0)
        await first.write(b"first")
        assert await second.read() == data[4:]
        assert first.size == max(size, 5)
        assert second.size == size
        await second.seek(0)
        await second.write(b"2nd")
        await first.seek(0)
        assert await first.read() == b"first" + data[5:]
        await second.seek(0)
        assert await second.read() == b"2nd" + data[3:]
        async with first._share("another job") as third:
            assert await third.read() == b"first" + data[5:]


async def test_a_write_after_a_share_is_the_writers_own(storage: Storage) -> None:
    """P3: also when the writer has written before."""
    async with make_upload(storage, b"abc") as upload:
        await upload.write(b"X")
        async with upload._share("a job") as shared:
            await upload.write(b"YZ!")
            assert await shared.read() == b"Xbc"
        await upload.seek(0)
        assert await upload.read() == b"XYZ!"


def test_it_is_what_starlette_calls_an_upload() -> None:
    headers = Headers({"content-type": "image/png", "x-more": "1"})
    blob = Blob(Storage())
    with Upload(blob, owner="the test", filename="a.png", headers=headers) as upload:
        assert isinstance(upload, UploadFile)
        assert upload.filename == "a.png"
        assert upload.content_type == "image/png"
        assert upload.headers is headers
        assert repr(upload) == "<Upload 'a.png', 0 bytes>"
    assert repr(upload) == "<Upload 'a.png', 0 bytes, closed>"


async def test_a_file_may_be_put_in_place_of_ours(storage: Storage) -> None:
    async with make_upload(storage, b"abc") as upload:
        upload.file = io.BytesIO(b"theirs")
        assert await upload.read() == b"theirs"
        await upload.write(b"!")
        async with upload._share("a job") as shared:
            assert await shared.read() == b"theirs!"


async def test_bytes_in_memory_are_read_without_a_thread(storage: Storage) -> None:
    """P7, P12: the loop waits for no disk, and for no thread where there is no disk."""
    calls: list[int] = []
    run = storage.threads.run

    async def counted(*args: Any, **options: Any) -> Any:
        calls.append(1)
        return await run(*args, **options)

    async with make_upload(storage, b"abc") as upload:
        storage.threads.run = counted  # type: ignore[method-assign]
        await upload.seek(1)
        await upload.read()
    assert len(calls) == (0 if storage.memory_max_size else 2)


# Its end


async def test_close_again_does_nothing(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    """P2: neither to the file nor to another owner's."""
    closings = count_closings(monkeypatch)
    upload = make_upload(storage, b"abc")
    other = upload._share("another")
    file = upload.file
    for _ in range(2):
        await upload.close()
    assert file.closed
    assert await other.read() == b"abc"
    await other.close()
    assert len(closings) == (0 if storage.memory_max_size else 1)


@pytest.mark.parametrize("way", ["close", "with", "async with"])
async def test_what_is_closed_can_not_be_used(storage: Storage, way: str) -> None:
    upload = make_upload(storage, b"abc")
    if way == "close":
        await upload.close()
    elif way == "with":
        with upload as entered:
            assert entered is upload
    else:
        async with upload as entered:
            assert entered is upload
    for use in (upload.read, upload.__aenter__, lambda: upload.seek(0), lambda: upload.write(b"")):
        with pytest.raises(UploadClosed, match="the test has let go of it"):
            await use()
    for plain_use in (lambda: upload.file, upload.__enter__, lambda: upload._share("a job")):
        with pytest.raises(UploadClosed, match="the test has let go of it"):
            plain_use()


async def test_closed_when_the_block_fails(storage: Storage) -> None:
    """P2: under every kind of exit."""
    for upload in (make_upload(storage, b"abc"), make_upload(storage, b"abc")):
        with pytest.raises(SystemExit):
            async with upload:
                raise SystemExit
    assert storage.open_blobs == 0


def test_what_is_forgotten_is_told_and_closed(storage: Storage) -> None:
    """P2: a ResourceWarning names the owner and the field."""
    uploads = [make_upload(storage, b"abc", owner="handler 'thumbnail'")]
    file = uploads[0].file
    with pytest.warns(ResourceWarning) as caught:
        uploads.clear()
    assert [str(warning.message) for warning in caught] == [
        "<Upload 'a.bin', 3 bytes> of field 'files' was not closed by handler 'thumbnail'."
    ]
    assert file.closed
    assert storage.open_blobs == 0


def test_an_upload_of_a_closed_blob_is_none(storage: Storage) -> None:
    upload = make_upload(storage, b"abc")
    blob = upload._view.blob
    with upload:
        pass
    with pytest.raises(UploadClosed):
        Upload(blob, owner="too late")  # and its finalizer has nothing to say
    gc.collect()


def test_all_are_closed_although_one_fails(storage: Storage) -> None:
    """P2: the error is told."""

    class Failing(io.BytesIO):
        def close(self) -> None:
            super().close()
            raise OSError(errno.EIO, "of the test")

    uploads = [make_upload(storage, b"abc") for _ in range(3)]
    uploads[1].file = Failing()
    with pytest.raises(OSError, match="of the test"):
        let_go_of_all(uploads)
    assert storage.open_blobs == 0


def test_a_discard_without_a_request() -> None:
    upload = Upload.from_bytes(b"abc")
    with upload, pytest.raises(RuntimeError, match="came in with a request"):
        upload.discard()


def test_a_discard_goes_to_where_it_came_in() -> None:
    discarded: list[Upload] = []

    class Origin:
        def discard(self, upload: Upload) -> None:
            discarded.append(upload)

    with Upload.from_bytes(b"abc") as upload, upload._share("a job", origin=Origin()) as shared:
        shared.discard()
        assert discarded == [shared]
