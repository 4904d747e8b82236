"""What was accepted is read again, however large its record; what could not be, is refused."""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from starlette_upload_keepalive import Upload, UploadTooLarge
from starlette_upload_keepalive.files.storage import Storage
from starlette_upload_keepalive.jobs.record import FileRecord
from starlette_upload_keepalive.jobs.spool import NewJob
from starlette_upload_keepalive.quantities import MIB
from starlette_upload_keepalive.spool import writing
from starlette_upload_keepalive.spool.directory_spool import DirectorySpool
from starlette_upload_keepalive.spool.layout import MAX_RECORD
from tests.asgi import file_part, multipart, send_request
from tests.running import at_work
from tests.sites import BODY, starlette
from tests.spooled import durable, enqueue
from tests.spooling import Maker, claimed, contents, die, inside, released, tree

pytestmark = pytest.mark.usefixtures("no_syncing")


@pytest.fixture
def spool(root: Path, on_disk: Storage) -> Iterator[DirectorySpool]:
    spool = DirectorySpool(root)
    spool.open(on_disk)
    yield spool
    die(spool)


def named(job: NewJob, name: str) -> NewJob:
    files = [FileRecord(file.size, name, []) for file in job.record.files]
    return job._replace(record=replace(job.record, files=files))


def test_a_record_of_many_mebibytes(spool: DirectorySpool, maker: Maker) -> None:
    job = named(maker.job(b"data"), "x" * 6 * MIB)
    released(spool, job)
    (found,) = claimed(spool)
    assert found.record == job.record
    assert contents(found) == [b"data"]


@pytest.mark.parametrize("together", [False, True])
def test_a_record_that_could_not_be_read_again(
    spool: DirectorySpool, root: Path, maker: Maker, together: bool
) -> None:
    """It is refused, with all that was accepted with it."""
    before = tree(root)
    good, bad = maker.job(b"data"), named(maker.job(b"data"), "x" * MAX_RECORD)
    with pytest.raises(OSError, match=r"more than 67108864: their names") as caught:
        spool.accept([good, bad] if together else [bad])
    assert caught.value.errno == errno.EFBIG
    assert tree(root) == before
    assert (list(spool.jobs()), inside(root, "corrupt")) == ([], [])


def test_the_largest_record(
    spool: DirectorySpool, maker: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = maker.job(b"data", created_at=1.0)
    size = len(job.record.to_json())
    monkeypatch.setattr(writing, "MAX_RECORD", size)
    spool.accept([job])
    monkeypatch.setattr(writing, "MAX_RECORD", size - 1)
    with pytest.raises(OSError, match=f"takes {size} bytes"):
        spool.accept([maker.job(b"data", created_at=1.0)])


def test_a_thousand_names_that_a_filesystem_can_hold() -> None:
    """Nobody's form is refused who sends files that he has."""
    name = "\N{WATER WAVE}" * 63  # of 4 bytes each; the name of a file has at most 255
    sent = f'form-data; name="files"; filename="{name}"'.encode().decode("latin-1")
    headers = [("content-disposition", sent), ("content-type", "application/octet-stream")]
    file = FileRecord(0, name, headers, "files")
    job = NewJob(Maker(Storage()).job().record, [])
    assert len(replace(job.record, files=[file] * 1000).to_json()) < MAX_RECORD / 10


@pytest.mark.anyio
async def test_the_client_is_told(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    monkeypatch.setattr(writing, "MAX_RECORD", 2000)
    uploads = durable(root)

    @uploads.handler("photo")
    async def measuring(photo: Upload, *, note: str = "") -> int:
        return len(await photo.read())

    async def parsing(request: Request) -> Response:
        await request.form()
        return PlainTextResponse("accepted", 202)

    async with at_work(uploads):
        app = starlette(parsing, uploads)
        assert (await send_request(app, BODY)).status == 202
        long = multipart(file_part(b"data", filename="x" * 2000))
        answer = await send_request(app, long)
        assert (answer.status, answer.text) == (413, "The upload is too large to be stored.")
        with pytest.raises(UploadTooLarge):
            await enqueue(measuring, note="x" * 2000)
        await uploads.drain()
    assert len(inside(root, "done")) == 1
    assert "their names and headers are too long" in caplog.text
