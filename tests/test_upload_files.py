"""An upload can be read in pieces, and by libraries that want a file."""

from __future__ import annotations

import csv
import io
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from typing import BinaryIO

import pytest

from starlette_upload_keepalive import Upload
from starlette_upload_keepalive.files.storage import Storage
from starlette_upload_keepalive.quantities import MIB
from tests.stored import make_upload

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(("size", "sizes"), [(4, [4, 4, 2]), (10, [10]), (11, [10])])
async def test_chunks_go_over_all_bytes(storage: Storage, size: int, sizes: list[int]) -> None:
    async with make_upload(storage, b"0123456789") as upload:
        await upload.seek(7)
        chunks = [chunk async for chunk in upload.chunks(size)]
    assert [len(chunk) for chunk in chunks] == sizes
    assert b"".join(chunks) == b"0123456789"


async def test_chunks_are_of_a_mebibyte_unless_told() -> None:
    with Upload.from_bytes(b"x" * (MIB + 1)) as upload:
        assert [len(chunk) async for chunk in upload.chunks()] == [MIB, 1]


async def test_chunks_of_no_bytes() -> None:
    upload = Upload.from_bytes(b"abc")
    with upload, pytest.raises(ValueError, match="size must be 1 byte or more, not 0"):
        await anext(upload.chunks(0))


# Libraries that want a file


def zipped() -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("inner.txt", "hello")
    return target.getvalue()


def tarred() -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w:gz") as archive:
        member = tarfile.TarInfo("inner.txt")
        member.size = 5
        archive.addfile(member, io.BytesIO(b"hello"))
    return target.getvalue()


def image() -> bytes:
    target = io.BytesIO()
    pytest.importorskip("PIL.Image").new("RGB", (7, 5)).save(target, "PNG")
    return target.getvalue()


def read_zip(file: BinaryIO) -> object:
    with zipfile.ZipFile(file) as archive:
        return archive.read("inner.txt")


def read_tar(file: BinaryIO) -> object:
    with tarfile.open(fileobj=file) as archive:
        member = archive.extractfile("inner.txt")
        return None if member is None else member.read()


def read_image(file: BinaryIO) -> object:
    with pytest.importorskip("PIL.Image").open(file) as opened:
        opened.load()
        return opened.size


def read_table(file: BinaryIO) -> object:
    return pytest.importorskip("pandas").read_csv(file)["b"].tolist()


def read_csv(file: BinaryIO) -> object:
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    try:
        return [row["b"] for row in csv.DictReader(text)]
    finally:
        text.detach()


def copy_file(file: BinaryIO) -> object:
    target = io.BytesIO()
    shutil.copyfileobj(file, target)
    return target.getvalue()


@pytest.mark.parametrize(
    ("make", "read", "expected"),
    [
        (zipped, read_zip, b"hello"),
        (tarred, read_tar, b"hello"),
        (image, read_image, (7, 5)),
        (lambda: b"a,b\n1,2\n3,4\n", read_table, [2, 4]),
        (lambda: b"a,b\n1,2\n3,4\n", read_csv, ["2", "4"]),
        (lambda: b"hello", copy_file, b"hello"),
    ],
    ids=["zipfile", "tarfile", "PIL", "pandas", "csv", "shutil"],
)
async def test_libraries_read_the_file(
    storage: Storage,
    make: Callable[[], bytes],
    read: Callable[[BinaryIO], object],
    expected: object,
) -> None:
    """P1, P3: two owners at once."""
    async with make_upload(storage, make()) as upload, upload._share("a job") as shared:
        await shared.read(3)
        assert read(upload.file) == expected
        await shared.seek(0)
        assert read(shared.file) == expected
