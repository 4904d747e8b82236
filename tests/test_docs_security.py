"""What the page on security shows and says is so."""

from __future__ import annotations

import io
import os
import re
import struct
import zipfile
import zlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from fastapi import Depends, FastAPI, HTTPException, Request, UploadFile
from PIL import Image
from starlette.types import Message

from starlette_upload_keepalive import Job, Upload, UploadKeepAliveMiddleware
from starlette_upload_keepalive.quantities import MIB
from starlette_upload_keepalive.testing import finish_jobs
from tests.asgi import Answer, file_part, http_scope, in_messages, multipart, send_request
from tests.pages import client_of, run, send

pytestmark = pytest.mark.anyio

PAGE = "docs/security.md"
BODY = multipart(file_part(b"data", name="photo"), file_part(b"data", name="file"))
ADA = {"cookie": "session=session-of-ada"}


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run the page where a reader would, in a directory of their own."""
    monkeypatch.chdir(tmp_path)
    return run(PAGE)


@asynccontextmanager
async def client(page: Any) -> AsyncGenerator[httpx.AsyncClient, None]:
    with anyio.fail_after(20):
        async with page.uploads.running(), client_of(page.app) as http:
            http.headers.update(ADA)
            yield http


async def received(app: Any, path: str = "/files", **headers: str) -> tuple[Answer, int]:
    """Send a form. Give the answer, and how many messages of the body were received by then."""
    answer, messages = Answer(), in_messages(BODY, 10)
    count = 0

    async def receive() -> Message:
        nonlocal count
        count += 1
        return messages[count - 1]

    async def note(message: Message) -> None:
        answer.messages.append(message)

    scope = http_scope(path)
    scope["headers"] += [
        (name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()
    ]
    with anyio.fail_after(20):
        await app(scope, receive, note)
    return answer, count


# Before the body is read


def refuse() -> None:
    raise HTTPException(401)


@pytest.mark.parametrize(("path", "early"), [("/parameter", False), ("/request", True)])
async def test_fastapi_reads_a_form_parameter_before_dependencies(path: str, early: bool) -> None:
    async def parameter(photo: UploadFile) -> None: ...

    async def request_only(request: Request) -> None: ...

    api = FastAPI(dependencies=[Depends(refuse)])
    api.add_api_route("/parameter", parameter, methods=["POST"])
    api.add_api_route("/request", request_only, methods=["POST"])
    answer, count = await received(UploadKeepAliveMiddleware(api), path)
    assert answer.status == 401
    assert count == (0 if early else len(in_messages(BODY, 10)))


async def test_dependencies_come_in_order_and_before_other_parameters() -> None:
    called: list[str] = []

    def first() -> None:
        called.append("first")

    def second() -> None:
        called.append("second")

    async def add(
        photo: UploadFile,
        a: None = Depends(first),
        b: None = Depends(second),
        *,
        needed: int,
    ) -> None: ...

    api = FastAPI()
    api.add_api_route("/files", add, methods=["POST"])
    answer, _ = await received(UploadKeepAliveMiddleware(api))
    assert (answer.status, called) == (422, ["first", "second"])


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"cookie": "session=guessed"}, 401),
        (ADA | {"sec_fetch_site": "cross-site"}, 403),
        (ADA | {"sec_fetch_site": "same-site"}, 403),
    ],
)
async def test_the_guard_refuses_before_the_body(
    page: Any, headers: dict[str, str], status: int
) -> None:
    answer, count = await received(page.app, **headers)
    assert (answer.status, count) == (status, 0)


@pytest.mark.parametrize("site", ["same-origin", "none"])
async def test_the_guard_lets_users_pass(page: Any, site: str) -> None:
    async with client(page) as http:
        answer = await http.post("/files", files={"file": b"x"}, headers={"sec-fetch-site": site})
        from_elsewhere = await http.get(
            f"/files/{answer.json()}", headers={"sec-fetch-site": "cross-site"}
        )
    assert (answer.status_code, from_elsewhere.status_code) == (201, 200)


# Limits


@pytest.mark.parametrize(
    ("content_type", "size", "status"),
    [("text/html", 1, 415), ("image/png", 20 * MIB + 1, 413), ("image/png", 20 * MIB, 202)],
)
async def test_the_limits_hold(page: Any, content_type: str, size: int, status: int) -> None:
    scope = http_scope("/photos")
    scope["headers"].append((b"cookie", ADA["cookie"].encode()))
    data = b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR".ljust(size, b"\0")[:size]
    body = multipart(file_part(data, content_type=content_type))
    async with page.uploads.running():
        answer = await send_request(page.app, body, scope)
        await finish_jobs(page.uploads)
    assert answer.status == status


# Store and serve


@pytest.mark.parametrize("size", [10, 2 * 1024 * 1024])
async def test_what_is_stored_and_served_does_no_harm(page: Any, size: int) -> None:
    data = b"<script>".ljust(size)
    before = os.umask(0o077)
    try:
        async with client(page) as http:
            added = await send(http, "/files", file=("../evil.html", data, "text/html"))
            file_id = added.json()
            shown = await http.get(f"/files/{file_id}")
            page.SESSIONS["session-of-eve"] = "eve"
            eve = {"cookie": "session=session-of-eve"}
            others = await http.get(f"/files/{file_id}", headers=eve)
            unknown = await http.get("/files/../security")
    finally:
        os.umask(before)

    assert re.fullmatch(r"[0-9a-f]{32}", file_id)
    assert (page.FILES / file_id).stat().st_mode & 0o777 == 0o600
    assert page.FILES.stat().st_mode & 0o777 == 0o700
    assert shown.content == data
    assert shown.headers["content-type"] == "application/octet-stream"
    assert shown.headers["content-disposition"] == 'attachment; filename="evil.html"'
    assert shown.headers["x-content-type-options"] == "nosniff"
    assert shown.headers["content-security-policy"] == "sandbox; default-src 'none'"
    assert (others.status_code, unknown.status_code) == (404, 404)


# Handlers


async def job_of(page: Any, handler: Any, data: bytes) -> Job[Any]:
    with anyio.fail_after(20):
        async with page.uploads.running():
            with Upload.from_bytes(data, filename="a") as upload:
                job: Job[Any] = handler.submit(upload)
            await finish_jobs(page.uploads)
            return job


def picture(size: tuple[int, int], form: str, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, "red").save(file, form, **options)
    return file.getvalue()


async def test_a_picture_is_written_anew(page: Any) -> None:
    exif = Image.Exif()
    exif[0x010F] = "the camera"
    data = picture((30, 20), "JPEG", exif=exif, comment=b"<script>") + b"<script>"
    assert data.count(b"<script>") == 2
    async with client(page) as http:
        await send(http, "/photos", photo=("a.jpg", data, "image/jpeg"))
        (job,) = await finish_jobs(page.uploads)

    new = (page.PICTURES / job.result).read_bytes()
    assert Image.open(io.BytesIO(new)).size == (30, 20)
    assert b"<script>" not in new
    assert b"camera" not in new


async def test_a_picture_of_too_many_pixels_is_not_decoded(page: Any) -> None:
    bomb = bytearray(picture((1, 1), "PNG"))
    bomb[16:24] = struct.pack(">II", 8000, 8000)
    bomb[29:33] = struct.pack(">I", zlib.crc32(bomb[12:29]))
    job = await job_of(page, page.publish, bytes(bomb))
    assert (job.state.value, job.error) == ("discarded", "too many pixels")


async def test_a_picture_of_another_format_is_not_decoded(page: Any) -> None:
    for data in (picture((9, 9), "EPS"), picture((9, 9), "GIF"), b"<svg/>"):
        job = await job_of(page, page.publish, data)
        assert "UnidentifiedImageError" in (job.error or "")


def zipped(**entries: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return file.getvalue()


async def test_an_archive_is_unpacked_into_its_place(page: Any) -> None:
    link = zipfile.ZipInfo("link")
    link.external_attr = 0o120777 << 16
    file = io.BytesIO(zipped(**{"../../up.txt": b"up", "/root.txt": b"root"}))
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(link, "/etc/passwd")
    job = await job_of(page, page.unpack, file.getvalue())

    assert job.result == 3
    there = [path for path in page.UNPACKED.rglob("*") if not path.is_dir()]
    assert {path.relative_to(page.UNPACKED / job.id) for path in there} == {
        Path("up.txt"),
        Path("root.txt"),
        Path("link"),
    }
    assert not any(path.is_symlink() or path.stat().st_mode & 0o111 for path in there)


async def test_an_archive_that_claims_too_much_is_left_alone(page: Any) -> None:
    many = zipped(**{str(n): b"" for n in range(page.MOST_ENTRIES + 1)})
    large = zipped(a=bytes(page.MOST_BYTES), b=b"1")
    for data in (many, large):
        job = await job_of(page, page.unpack, data)
        assert (job.state.value, job.error) == ("discarded", "too large when unpacked")
    assert not list(page.UNPACKED.iterdir())


async def test_an_archive_that_claims_too_little_is_cut_off(page: Any) -> None:
    data = bytearray(zipped(a=bytes(1_000_000)))
    for offset in (22, data.index(b"PK\1\2") + 24):
        data[offset : offset + 4] = struct.pack("<I", 100)
    job = await job_of(page, page.unpack, bytes(data))

    assert "BadZipFile" in (job.error or "")
    assert sum(path.stat().st_size for path in page.UNPACKED.rglob("a")) <= 100


async def test_a_file_is_released_once_it_is_scanned(
    page: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scanner = tmp_path / "bin/clamdscan"
    scanner.parent.mkdir()
    scanner.write_text('#!/bin/sh\ngrep -q VIRUS "$3" && exit 1\ngrep -qv BROKEN "$3" || exit 2\n')
    scanner.chmod(0o755)
    monkeypatch.setenv("PATH", f"{scanner.parent}{os.pathsep}{os.environ['PATH']}")
    async with client(page) as http:
        for data in (b"good", b"a VIRUS", b"BROKEN"):
            await send(http, "/scanned", file=data)
        jobs = await finish_jobs(page.uploads)

    ends = [(job.handler, job.state.value, job.attempt) for job in jobs]
    assert ends[:3] == [("scan", "succeeded", 1), ("scan", "discarded", 1), ("scan", "failed", 5)]
    assert [end[:2] for end in ends[3:]] == [("release", "succeeded")]
    assert [path.read_bytes() for path in page.FILES.iterdir()] == [b"good"]
