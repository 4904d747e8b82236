"""Bad bodies and full disks, through a whole app: a clear error, and nothing is left behind."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator, Generator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from starlette_upload_keepalive import JobState, Limits, Upload, UploadKeepAliveMiddleware, Uploads
from starlette_upload_keepalive.files.private_file import PrivateFile
from starlette_upload_keepalive.quantities import KIB, MIB
from tests.asgi import (
    BOUNDARY,
    Answer,
    Part,
    file_part,
    http_scope,
    in_messages,
    lifespan,
    multipart,
    send_request,
)
from tests.leak_checks import open_descriptors

pytestmark = pytest.mark.anyio

DISPOSITION = b'Content-Disposition: form-data; name="a"'
CLOSING = f"\r\n--{BOUNDARY}--\r\n".encode()
INVALID = "Invalid multipart data."
INCOMPLETE = "Incomplete multipart data: the body ended before its closing boundary."
NO_NAME = 'The Content-Disposition header field "name" must be provided.'


class App:
    """An app that answers with the names and sizes of a form's values."""

    def __init__(self, uploads: Uploads | None = None) -> None:
        self.uploads = uploads or Uploads()
        self.handled: list[bytes] = []
        self.uploads.handler("photo")(self.work)
        self.app = Starlette(routes=[Route("/", self.endpoint, methods=["POST"])])
        self.app.add_middleware(UploadKeepAliveMiddleware, uploads=self.uploads)

    async def work(self, photo: Upload) -> None:
        self.handled.append(await photo.read())

    async def endpoint(self, request: Request) -> Response:
        form = await request.form()
        values = [
            f"{name}={value if isinstance(value, str) else value.size}"
            for name, value in form.multi_items()
        ]
        return PlainTextResponse(" ".join(values))

    async def post(self, body: bytes, *, content_type: str | None = None) -> Answer:
        scope = http_scope(content_type=content_type) if content_type else http_scope()
        return await send_request(self.app, in_messages(body), scope)


@asynccontextmanager
async def healthy_again(uploads: Uploads | None = None) -> AsyncGenerator[App, None]:
    """Give an app, and check afterwards that nothing of what it was sent is left behind."""
    app = App(uploads)
    async with lifespan(app.app):
        before = open_descriptors()
        yield app
        assert open_descriptors() == before
        stats = app.uploads.stats()
        assert (stats.open_uploads, stats.memory_bytes) == (0, 0)
        assert app.handled == []
        assert all(job.state is JobState.DISCARDED for job in app.uploads.jobs)
        assert os.listdir(tempfile.gettempdir()) == []

        answer = await app.post(multipart(file_part(b"healthy")))
        assert (answer.status, answer.text) == (200, "photo=7")
        await app.uploads.drain()
        assert app.handled == [b"healthy"]


def whole(size: int) -> bytes:
    return multipart(file_part(bytes(size)))


BAD = {
    # Truncated
    "a whole file, no end": (whole(10)[: -len(CLOSING)], INCOMPLETE),
    "a large file, no end": (whole(3 * MIB)[: -len(CLOSING)], INCOMPLETE),
    "a file and a half": (
        multipart(file_part(b"x" * 10)).removesuffix(CLOSING) + b"\r\n" + whole(2 * MIB)[:MIB],
        INCOMPLETE,
    ),
    "half a large file": (whole(3 * MIB)[: 2 * MIB], INCOMPLETE),
    "an open boundary at the end": (
        whole(10).removesuffix(CLOSING) + f"\r\n--{BOUNDARY}\r\n".encode(),
        INCOMPLETE,
    ),
    "one hyphen short": (whole(10).removesuffix(b"-\r\n"), INCOMPLETE),
    # Boundaries
    "empty": (b"", INCOMPLETE),
    "another boundary": (multipart(file_part(b"x"), boundary="another"), INVALID),
    "junk before the first boundary": (b"j" * MIB + whole(10), INVALID),
    # Headers
    "nine headers": (
        multipart(DISPOSITION + b"\r\n" + b"X: y\r\n" * 8 + b"\r\n1"),
        INVALID,
    ),
    "a long header": (multipart(DISPOSITION + b"\r\nX: " + b"y" * 5000 + b"\r\n\r\n1"), INVALID),
    "a header never ended": (
        f"--{BOUNDARY}\r\n".encode() + DISPOSITION + b"\r\nX: " + b"y" * 100 * KIB,
        INVALID,
    ),
    "a short header never ended": (
        f"--{BOUNDARY}\r\n".encode() + DISPOSITION + b"\r\nX: y",
        INCOMPLETE,
    ),
    "no disposition": (multipart(b"X: y\r\n\r\n1"), NO_NAME),
    "no name": (multipart(b"Content-Disposition: form-data\r\n\r\n1"), NO_NAME),
    "bad headers after a large file": (multipart(file_part(bytes(2 * MIB)), b"bad"), INVALID),
    # Limits
    "1001 files": (
        multipart(*[file_part(b"x")] * 1001),
        "Too many files. Maximum number of files is 1000.",
    ),
    "1001 fields": (
        multipart(file_part(b"x"), *[Part("a")] * 1001),
        "Too many fields. Maximum number of fields is 1000.",
    ),
    "a field of more than 1 MiB": (
        multipart(file_part(bytes(2 * MIB)), Part("a", bytes(MIB + 1))),
        "Part exceeded maximum size of 1024KB.",
    ),
}


@pytest.mark.parametrize(("body", "message"), BAD.values(), ids=BAD)
async def test_a_bad_body_is_a_clear_error(body: bytes, message: str) -> None:
    """P2, P4, P7: no handler runs, nothing stays open, and the next request is served."""
    async with healthy_again() as app:
        answer = await app.post(body)
        assert (answer.status, answer.text) == (400, message)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ("", "Missing boundary in multipart."),
        ("; boundary=" + "b" * 257, INVALID),
        ('; boundary=""', INVALID),
    ],
    ids=["missing", "257 bytes", "empty"],
)
async def test_a_bad_boundary_is_a_clear_error(parameters: str, message: str) -> None:
    async with healthy_again() as app:
        answer = await app.post(whole(10), content_type="multipart/form-data" + parameters)
        assert (answer.status, answer.text) == (400, message)


ODD = {
    "an empty name": (multipart(b'Content-Disposition: form-data; name=""\r\n\r\n1'), "=1"),
    "a boundary at the limit": (multipart(Part("a", b"1")), "a=1"),
    "8 MB after the last boundary": (multipart(Part("a", b"1")) + b"j" * 8 * MIB, "a=1"),
    "base64 stays as it is": (
        multipart(DISPOSITION + b"\r\nContent-Transfer-Encoding: base64\r\n\r\nYQ=="),
        "a=YQ==",
    ),
    "nested multipart is a plain field": (
        multipart(DISPOSITION + b"\r\nContent-Type: multipart/mixed; boundary=i\r\n\r\n--i--"),
        "a=--i--",
    ),
    "an empty file": (multipart(file_part(b"", name="other")), "other=0"),
    "a file input left blank": (
        multipart(file_part(b"", filename="", content_type="application/octet-stream")),
        "photo=0",
    ),
}


@pytest.mark.parametrize(("body", "text"), ODD.values(), ids=ODD)
async def test_an_odd_body_is_taken_as_it_is(body: bytes, text: str) -> None:
    """P4: and a file input that was left blank runs no handler."""
    async with healthy_again() as app:
        answer = await app.post(body)
        assert (answer.status, answer.text) == (200, text)


async def test_an_empty_file_with_a_name_runs_its_handler() -> None:
    app = App()
    async with lifespan(app.app):
        answer = await app.post(whole(0))
    assert answer.text == "photo=0"
    assert app.handled == [b""]


# Faults of the machine


@pytest.fixture
def full_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory with room for 1 MiB: a real one where we may mount it, else a feigned one."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path)]
    if sys.platform == "linux" and os.geteuid() == 0:
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    else:
        mounted = False
    if mounted:
        yield tmp_path
        subprocess.run(["umount", str(tmp_path)], check=True)
        return

    def no_space(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(PrivateFile, "write", no_space)
        yield tmp_path


@contextmanager
def no_descriptor_left() -> Generator[None, None, None]:
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def causes(caplog: pytest.LogCaptureFixture) -> list[int | None]:
    """The numbers of the operating system's errors that were logged as causes."""
    errors = [
        record.exc_info[1] if record.exc_info else None
        for record in caplog.records
        if record.name == "starlette_upload_keepalive" and record.levelname == "ERROR"
    ]
    return [getattr(error and error.__cause__, "errno", None) for error in errors]


@pytest.mark.parametrize("size", [2 * MIB, 5 * MIB])
async def test_a_full_disk_is_507_with_the_cause_logged(
    size: int, full_device: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """P7, divergence 3."""
    uploads = Uploads(directory=full_device, limits=Limits(min_free_space=0))
    async with healthy_again(uploads) as app:
        answer = await app.post(multipart(file_part(b"small"), file_part(bytes(size))))
        assert (answer.status, answer.text) == (507, "There is no space left to store the upload.")
    assert causes(caplog) == [errno.ENOSPC]


async def test_a_quota_that_is_used_up_is_507(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """P7, divergence 3."""

    def used_up(*_: object) -> None:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    async with healthy_again() as app:
        with monkeypatch.context() as patch:
            patch.setattr(PrivateFile, "write", used_up)
            answer = await app.post(multipart(file_part(bytes(2 * MIB))))
        assert answer.status == 507
    assert causes(caplog) == [errno.EDQUOT]


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
async def test_no_descriptor_left_is_503_with_the_cause_logged(
    number: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P7, divergence 3."""
    async with healthy_again() as app:
        body = multipart(file_part(b"small"), file_part(bytes(2 * MIB)))
        if number == errno.EMFILE:
            with no_descriptor_left():
                answer = await app.post(body)
        else:

            def table_full(_: str) -> PrivateFile:
                raise OSError(number, os.strerror(number))

            with monkeypatch.context() as patch:
                patch.setattr(PrivateFile, "create", table_full)
                answer = await app.post(body)
        assert answer.status == 503
        assert answer.text == "Too many uploads are open. Try again in a moment."
        assert answer.headers["retry-after"] == "1"
    assert causes(caplog) == [number]


async def test_small_files_need_neither_disk_nor_descriptor(full_device: Path) -> None:
    async with healthy_again(Uploads(directory=full_device)) as app:
        with no_descriptor_left():
            answer = await app.post(multipart(file_part(bytes(MIB), name="other")))
        assert answer.text == f"other={MIB}"


async def test_in_fastapi_they_are_told_apart_from_a_bad_request(full_device: Path) -> None:
    """Divergence 3: FastAPI makes "400 There was an error parsing the body" of what it can."""
    app = pytest.importorskip("fastapi").FastAPI()

    async def endpoint(photo: Upload) -> None: ...

    app.post("/")(endpoint)
    app.add_middleware(UploadKeepAliveMiddleware, uploads=Uploads(directory=full_device))
    answer = await send_request(app, whole(3 * MIB))
    assert answer.status == 507
    answer = await send_request(app, b"junk")
    assert (answer.status, answer.json) == (400, {"detail": INVALID})


@pytest.mark.parametrize("length", [b"9" * 5000, b"9" * 20, b"-1", b"ten", b""])
async def test_a_content_length_that_means_nothing_is_none(length: bytes) -> None:
    """A server may hand on what it does not understand. Stock Starlette does not look at it."""
    app = App()
    scope = http_scope()
    scope["headers"].append((b"content-length", length))
    answer = await send_request(app.app, in_messages(whole(2 * MIB)), scope)
    assert (answer.status, answer.text) == (200, f"photo={2 * MIB}")
