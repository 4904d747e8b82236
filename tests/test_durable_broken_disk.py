"""P9: a disk that fails or goes away under an app: what clients get, and that nothing is lost."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Generator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from starlette_upload_keepalive import DirectorySpool, JobContext, SpoolUnusable, Upload
from tests.asgi import file_part, lifespan, multipart, send_request
from tests.leak_checks import busy_threads, open_descriptors
from tests.running import PATIENCE
from tests.sites import starlette
from tests.spooled import durable, files_left, make_root, names, states, until
from tests.spooling import die

pytestmark = pytest.mark.anyio

SMALL, LARGE = b"data", b"x" * 2_000_000  # in memory, and on the disk
each_size = pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
# For each file, its record, its directory and its name.
SYNCS = 4


class Life:
    """An app from its start to its end, whose handlers wait until they are let go.

    Attributes:
        app: It.
        uploads: Its.
        started: The files whose handler has started, in that order.
        ran: The digest of what each handler has read, by the name of its file.
    """

    def __init__(self, root: Path, *, waiting: bool = False) -> None:
        self.uploads = uploads = durable(root, handler_tasks=1, grace_period=PATIENCE)
        self._opened = anyio.Event()
        self.started: list[str] = []
        self.ran: dict[str, tuple[str, int]] = {}
        if not waiting:
            self.let_go()

        @uploads.handler("photo", name="digest")
        async def digest(photo: Upload, job: JobContext) -> None:
            name = str(photo.filename)
            self.started.append(name)
            await self._opened.wait()
            self.ran[name] = sha256(await photo.read()).hexdigest(), job.attempt

        async def accept(request: Request) -> Response:
            await request.form()
            return Response(status_code=202)

        self.app: ASGIApp = starlette(accept, uploads)

    @contextmanager
    def _patience(self) -> Generator[None]:
        with anyio.fail_after(PATIENCE):
            yield

    async def post(self, name: str, data: bytes) -> int | None:
        body = multipart(file_part(data, filename=name))
        with self._patience():
            return (await send_request(self.app, body)).status

    def let_go(self) -> None:
        self._opened.set()

    async def drain(self) -> None:
        with self._patience():
            await self.uploads.drain()

    def die(self) -> None:
        """Let go of what it has, as the end of its process would."""
        spool = self.uploads._spool
        assert isinstance(spool, DirectorySpool)
        die(spool)


def digest_of(data: bytes) -> str:
    return sha256(data).hexdigest()


def in_use() -> tuple[Any, ...]:
    """What would grow if each request left something."""
    return open_descriptors(), len(busy_threads())


def fail_once(monkeypatch: pytest.MonkeyPatch, number: int) -> list[int]:
    """Have the fsync of an accept fail that has this number, and return those there were."""
    fsync, calls = os.fsync, list[int]()

    def failing(fd: int) -> None:
        if "/claimed/" not in os.readlink(f"/proc/self/fd/{fd}"):  # a sweep's
            fsync(fd)
            return
        calls.append(fd)
        if len(calls) == number:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", failing)
    return calls


@contextmanager
def read_only() -> Generator[None]:
    """Refuse all that changes a file, as a filesystem does that the kernel mounts anew."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    real: Callable[..., int] = os.open

    def open_to_read(path: str, flags: int, *more: Any, **options: Any) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            refuse()
        return real(path, flags, *more, **options)

    def access(_path: Path, mode: int) -> bool:
        return not mode & os.W_OK

    with pytest.MonkeyPatch.context() as patch:
        for name in ("mkdir", "rename", "link", "unlink", "rmdir"):
            patch.setattr(os, name, refuse)
        patch.setattr(os, "open", open_to_read)
        patch.setattr(os, "access", access)
        yield


@each_size
@pytest.mark.parametrize("number", range(1, SYNCS + 1))
async def test_an_fsync_that_fails_once(
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    number: int,
    data: bytes,
) -> None:
    """From then on nothing is accepted, and all that was is run."""
    life = Life(root, waiting=True)
    async with lifespan(life.app):
        assert [await life.post(name, data) for name in ("runs", "waits")] == [202, 202]
        await until(lambda: life.started == ["runs"])
        calls = fail_once(monkeypatch, number)
        assert await life.post("first", data) == 500
        assert len(calls) == number
        assert "start the app again" in caplog.text
        before = in_use()
        for _ in range(3):
            assert await life.post("refused", data) == 500
        assert in_use() == before
        life.let_go()
        await life.drain()
        assert life.ran == dict.fromkeys(["runs", "waits"], (digest_of(data), 1))
    for folder in ("ready", "claimed", "owners", "dead", "corrupt"):
        assert names(root, folder) == []
    assert states(root, "done") == "ss"

    later = Life(root)
    async with lifespan(later.app):
        assert await later.post("later", data) == 202
        await later.drain()
        assert later.ran == {"later": (digest_of(data), 1)}
    assert states(root, "done") == "sss"
    assert files_left(root) == []


@each_size
async def test_a_root_that_is_mounted_read_only_meanwhile(
    root: Path, caplog: pytest.LogCaptureFixture, data: bytes
) -> None:
    """What runs goes on, but its end is not noted: it runs again at the next start."""
    life = Life(root, waiting=True)
    async with lifespan(life.app):
        assert [await life.post(name, data) for name in ("runs", "waits")] == [202, 202]
        await until(lambda: life.started == ["runs"])
        with read_only():
            assert await life.post("refused", data) == 500
            before = in_use()
            for _ in range(3):
                assert await life.post("refused", data) == 500
            assert in_use() == before
            if data is SMALL:  # the other is not even parsed
                assert "start the app again: The spool's directory" in caplog.text
                assert "mounted read-only" in caplog.text
            life.let_go()
            await life.drain()
            assert life.ran == dict.fromkeys(["runs", "waits"], (digest_of(data), 1))
            assert "it will be run again when this process has ended" in caplog.text
    life.die()

    later = Life(root)
    async with lifespan(later.app):
        assert await later.post("later", data) == 202
        await until(lambda: len(later.ran) == 3)
        assert set(later.ran) == {"runs", "waits", "later"}
        assert {digest for digest, _ in later.ran.values()} == {digest_of(data)}
        await later.drain()
    assert states(root, "done") == "sss"
    assert files_left(root) == []


@each_size
async def test_a_root_that_is_removed_meanwhile(
    root: Path, caplog: pytest.LogCaptureFixture, data: bytes
) -> None:
    """What runs has its bytes still; the next start is refused until there is a directory."""
    life = Life(root, waiting=True)
    async with lifespan(life.app):
        assert [await life.post(name, data) for name in ("runs", "waits")] == [202, 202]
        await until(lambda: life.started == ["runs"])
        await anyio.to_thread.run_sync(shutil.rmtree, root)
        assert await life.post("refused", data) == 500
        before = in_use()
        for _ in range(3):
            assert await life.post("refused", data) == 500
        assert in_use() == before
        if data is SMALL:  # the other has no place to be parsed
            assert "start the app again: The spool's directory" in caplog.text
        assert str(root) in caplog.text
        life.let_go()
        await life.drain()
        assert life.ran["runs"] == (digest_of(data), 1)
    life.die()

    with pytest.raises(SpoolUnusable, match="mkdir -p -m 700"):
        async with Life(root).uploads.running():
            pass
    make_root(root.parent)
    later = Life(root)
    async with lifespan(later.app):
        assert await later.post("later", data) == 202
        await later.drain()
        assert later.ran == {"later": (digest_of(data), 1)}
    assert files_left(root) == []


async def test_an_idle_app_ends_although_its_root_is_removed(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    life = Life(root)
    async with life.uploads.running():
        await anyio.to_thread.run_sync(shutil.rmtree, root)
    told = [record.getMessage() for record in caplog.records][-1]
    assert told.startswith(f"The spool in {root} is closed, but its own files could not be removed")
    assert f"mkdir -p -m 700 {root}" in told

    make_root(root.parent)
    async with life.uploads.running():
        await anyio.to_thread.run_sync(shutil.rmtree, root)
        make_root(root.parent)
    told = [record.getMessage() for record in caplog.records][-1]
    assert told.endswith("Whoever uses it next does so, if the directory is still there.")
