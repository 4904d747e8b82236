"""A detached file outlives its request, whoever parsed it."""

from __future__ import annotations

import gzip
import io
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

import pytest
from starlette.datastructures import Headers, UploadFile

from starlette_upload_keepalive import Upload, UploadClosed, detach
from starlette_upload_keepalive.files.blob import Blob
from starlette_upload_keepalive.files.private_file import PrivateFile
from starlette_upload_keepalive.files.storage import OpenBlob, Storage
from starlette_upload_keepalive.quantities import MIB

pytestmark = pytest.mark.anyio

SMALL, LARGE = os.urandom(10), os.urandom(2 * MIB)


def starlette_file(data: bytes) -> UploadFile:
    """Make a file as Starlette's parser does."""
    file = tempfile.SpooledTemporaryFile(max_size=MIB)  # noqa: SIM115 - closed with the upload
    file.write(data)
    return UploadFile(
        cast("BinaryIO", file),
        size=len(data),
        filename="a.png",
        headers=Headers({"content-type": "image/png"}),
    )


@pytest.fixture(params=[b"", SMALL, LARGE], ids=["0 B", "10 B", "2 MB"])
def data(request: pytest.FixtureRequest) -> bytes:
    data: bytes = request.param
    return data


@pytest.fixture
def original(data: bytes) -> Iterator[UploadFile]:
    original = starlette_file(data)
    yield original
    original.file.close()


async def test_it_outlives_the_file_it_was_taken_from(original: UploadFile, data: bytes) -> None:
    """P1: without the middleware too."""
    upload = detach(original)
    await original.close()
    async with upload:
        assert upload.size == len(data)
        assert await upload.read() == data


async def test_it_is_described_as_the_original(original: UploadFile) -> None:
    with detach(original) as upload:
        assert isinstance(upload, UploadFile)
        assert (upload.filename, upload.content_type) == ("a.png", "image/png")
        assert upload.field_name is None


async def test_the_original_stays_as_it_is(original: UploadFile, data: bytes) -> None:
    """P3: at its position, in memory where it was, and open."""
    rolled = original.file._rolled  # type: ignore[attr-defined]
    await original.seek(4)
    async with detach(original) as upload:
        assert await upload.read() == data
        assert await original.read() == data[4:]
        await upload.write(b"ours")
    assert not original.file.closed
    assert original.file._rolled is rolled  # type: ignore[attr-defined]
    await original.seek(0)
    assert await original.read() == data


async def test_what_was_just_written_is_there(original: UploadFile, data: bytes) -> None:
    """P1: bytes that Python had not yet handed to the system too."""
    await original.write(b"more")
    async with detach(original) as upload:
        assert await upload.read() == data + b"more"


async def test_a_large_file_is_opened_and_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Blob, "fill", fail_to_fill)
    original = starlette_file(LARGE)
    async with detach(original) as upload:
        await original.close()
        assert await upload.read() == LARGE


async def test_where_nothing_can_be_reopened_it_is_copied(
    original: UploadFile, data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unable(_: int) -> PrivateFile:
        raise NotImplementedError

    monkeypatch.setattr(PrivateFile, "adopt", unable)
    async with detach(original) as upload:
        await original.close()
        assert await upload.read() == data


async def test_a_file_with_a_name_is_copied(tmp_path: Path) -> None:
    """P3: others can change it at any time."""
    path = tmp_path / "theirs"
    path.write_bytes(b"before")
    with path.open("rb") as file:
        upload = detach(UploadFile(file))
    path.write_bytes(b"after!")
    async with upload:
        assert await upload.read() == b"before"


async def test_what_a_file_gives_counts_and_not_what_lies_below(tmp_path: Path) -> None:
    path = tmp_path / "theirs.gz"
    path.write_bytes(gzip.compress(b"unpacked"))
    with gzip.open(path) as file:
        upload = detach(UploadFile(cast("BinaryIO", file)))
    async with upload:
        assert await upload.read() == b"unpacked"


async def test_a_file_of_any_other_kind() -> None:
    file = io.BytesIO(b"abc")
    async with detach(UploadFile(file)) as upload:
        assert await upload.read() == b"abc"


async def test_detached_twice_each_has_its_own(original: UploadFile, data: bytes) -> None:
    """P3: also from one that was detached."""
    async with detach(original) as first, detach(first) as second:
        await first.seek(3)
        assert await second.read() == data
        assert await first.read() == data[3:]
        await first.close()
        await second.seek(0)
        assert await second.read() == data


@pytest.mark.filterwarnings("error")
async def test_a_closed_file_can_not_be_detached() -> None:
    original = starlette_file(SMALL)
    await original.close()
    with pytest.raises(UploadClosed, match="is closed already: detach it while its request"):
        detach(original)
    upload = Upload.from_bytes(SMALL)
    await upload.close()
    with pytest.raises(UploadClosed, match="let go of it"):
        detach(upload)


async def test_a_copy_that_fails_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """P2: and the original where it was."""
    opened: list[Storage] = []
    add = Storage.add

    def noted(storage: Storage, blob: OpenBlob) -> None:
        opened.append(storage)
        add(storage, blob)

    monkeypatch.setattr(Storage, "add", noted)
    monkeypatch.setattr(Blob, "fill", fail_to_fill)
    original = starlette_file(SMALL)
    await original.seek(4)
    with pytest.raises(OSError, match="of the test"):
        detach(original)
    (storage,) = opened
    assert not storage.blobs
    assert await original.read() == SMALL[4:]
    await original.close()


def test_who_forgets_it_is_told() -> None:
    """P2: a ResourceWarning names the owner."""
    original = starlette_file(LARGE)
    with pytest.warns(ResourceWarning, match=r"not closed by the code that called detach\(\)"):
        repr(detach(original))
    original.file.close()


def fail_to_fill(*_: object, **__: object) -> None:
    raise OSError("of the test")
