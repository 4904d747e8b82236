"""What the docs tell of the directory spool is so."""

from __future__ import annotations

import errno
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from fastapi import FastAPI

from starlette_upload_keepalive import (
    DirectorySpool,
    Discard,
    Retry,
    RetryLater,
    Upload,
    UploadKeepAliveMiddleware,
    Uploads,
)
from starlette_upload_keepalive.jobs.spool import KeptJob, NewJob
from starlette_upload_keepalive.testing import finish_jobs
from tests.asgi import lifespan
from tests.pages import client_of, examples_of, send

pytestmark = pytest.mark.usefixtures("no_syncing")


@asynccontextmanager
async def running(uploads: Uploads) -> AsyncGenerator[None, None]:
    with anyio.fail_after(20):
        async with uploads.running():
            yield


def kept_in(root: Path) -> KeptJob:
    """Look into a spool that nobody uses."""
    spool = DirectorySpool(root)
    spool.open(Uploads().storage)
    (job,) = spool.jobs()
    spool.close()
    return job


# Jobs


@pytest.mark.anyio
async def test_the_page_of_jobs_with_a_spool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its app is right with a spool, too."""
    monkeypatch.chdir(tmp_path)
    shown = "\n\n".join(str(example.parsed) for example in examples_of("docs/jobs.md"))
    assert "keep_failed=10" in shown
    page: Any = ModuleType("page")
    page.DirectorySpool = DirectorySpool
    exec(shown.replace("keep_failed=10", "spool=DirectorySpool('.')"), page.__dict__)

    async with running(page.uploads), client_of(page.app) as client:
        good = (await send(client, "/files", file=("a.txt", b"data"))).json()
        bad = (await send(client, "/files", file=("b.txt", b""))).json()
        await finish_jobs(page.uploads)
        states = [(await client.get(f"/jobs/{each}")).json()["state"] for each in (good, bad)]
        retried = await client.post(f"/jobs/{bad}/retry")
        while (again := await page.uploads.jobs.find(bad)).attempt == 1 or not again.done:
            await anyio.lowlevel.checkpoint()
        too_late = await client.post(f"/jobs/{good}/retry")
        unknown = await client.post(f"/jobs/{'0' * 32}/retry")
        purged = await page.uploads.jobs.purge()

    assert states == ["succeeded", "failed"]
    assert retried.json() is True
    assert (again.state, again.attempt) == ("failed", 2)
    assert (too_late.status_code, unknown.status_code) == (410, 404)
    assert purged == 2


@pytest.mark.anyio
async def test_what_is_counted(tmp_path: Path) -> None:
    uploads = Uploads(spool=DirectorySpool(tmp_path))

    @uploads.handler(retry=Retry(2))
    def fail(file: Upload) -> None:
        if not later:
            later.append(True)
            raise RetryLater(0)
        raise ValueError

    later: list[bool] = []
    async with running(uploads):
        with Upload.from_bytes(b"data") as upload:
            job = await fail.enqueue(upload)
        await finish_jobs(uploads)

    assert (job.state, job.attempt) == ("failed", 3)
    standing = kept_in(tmp_path).standing
    assert (standing.attempts, standing.failures, standing.crashes) == (3, 1, 0)


# Changed handlers


@pytest.fixture
async def submitted(tmp_path: Path) -> str:
    """Have a job wait in a spool whose app has ended."""
    uploads = Uploads(spool=DirectorySpool(tmp_path), grace_period=0)

    @uploads.handler(name="index")
    async def index(file: Upload, *, user: int) -> None:
        await anyio.sleep_forever()

    async with running(uploads):
        with Upload.from_bytes(b"data") as upload:
            return (await index.enqueue(upload, user=7)).id


@pytest.mark.anyio
async def test_a_handler_of_the_old_name_takes_what_waits(submitted: str, tmp_path: Path) -> None:
    uploads = Uploads(spool=DirectorySpool(tmp_path))

    @uploads.handler(name="index")
    def renamed(file: Upload, *, user: int) -> int:
        return user

    async with running(uploads):
        (job,) = await finish_jobs(uploads)
    assert (job.id, job.result) == (submitted, 7)


@pytest.mark.anyio
async def test_jobs_of_a_handler_that_is_gone_are_discarded(submitted: str, tmp_path: Path) -> None:
    uploads = Uploads(spool=DirectorySpool(tmp_path))

    @uploads.handler(name="index")
    def gone(file: Upload, *, user: int) -> None:
        raise Discard("no more")

    async with running(uploads):
        (job,) = await finish_jobs(uploads)
    assert (job.id, job.state, job.error) == (submitted, "discarded", "no more")


@pytest.mark.anyio
async def test_a_parameter_of_another_name_fails_and_may_be_mended(
    submitted: str, tmp_path: Path
) -> None:
    broken, mended = (Uploads(spool=DirectorySpool(tmp_path)) for _ in range(2))

    @broken.handler(name="index")
    def other(file: Upload, *, owner: int) -> None: ...

    @mended.handler(name="index")
    def both(file: Upload, *, owner: int = 0, user: int = 0) -> int:
        return owner or user

    async with running(broken):
        (job,) = await finish_jobs(broken)
    assert job.state == "failed"
    assert str(job.error).startswith("TypeError")
    async with running(mended):
        assert await mended.jobs.retry_kept(submitted)
        while not (found := await mended.jobs.find(submitted)) or not found.done:
            await anyio.lowlevel.checkpoint()
    assert (found.state, found.result) == ("succeeded", 7)


# Faults


class FailingSpool(DirectorySpool):
    """Accepts nothing."""

    error: int = 0

    def accept(self, jobs: Sequence[NewJob]) -> None:
        raise OSError(self.error, "injected")


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (errno.ENOSPC, 507, "There is no space left to store the upload."),
        (errno.EMFILE, 503, "Too many uploads are open. Try again in a moment."),
        (errno.EIO, 500, "The upload could not be stored."),
    ],
)
async def test_what_a_client_reads(tmp_path: Path, error: int, status: int, text: str) -> None:
    spool = FailingSpool(tmp_path)
    spool.error = error
    uploads, app = Uploads(spool=spool), FastAPI()

    @uploads.handler()
    def work(file: Upload) -> None: ...

    @app.post("/staged")
    async def stage(file: Upload) -> str:
        return work.submit(file).id

    @app.post("/enqueued")
    async def enqueue(file: Upload) -> str:
        return (await work.enqueue(file)).id

    app.add_middleware(UploadKeepAliveMiddleware, uploads=uploads)
    async with lifespan(app), client_of(app) as client:
        staged = await send(client, "/staged", file=b"data")
        enqueued = await send(client, "/enqueued", file=b"data")

    assert (staged.status_code, staged.text) == (status, text)
    assert staged.headers["content-type"].startswith("text/plain")
    assert (enqueued.status_code, enqueued.json()) == (status, {"detail": text})


# Backup


@pytest.mark.anyio
async def test_a_copy_shares_what_the_spool_shares(tmp_path: Path) -> None:
    root, copy = tmp_path / "spool", tmp_path / "copy"
    root.mkdir(mode=0o700)
    uploads, app = Uploads(spool=DirectorySpool(root), grace_period=0), FastAPI()

    @uploads.handler("file", name="one")
    @uploads.handler("file", name="other")
    async def wait(file: Upload) -> None:
        await anyio.sleep_forever()

    @app.post("/")
    async def add(file: Upload) -> None: ...

    app.add_middleware(UploadKeepAliveMiddleware, uploads=uploads)
    async with lifespan(app), client_of(app) as client:
        await send(client, "/", file=b"data")
    await anyio.run_process(["cp", "-a", str(root), str(copy)])

    files = [list(folder.glob("ready/*/0")) for folder in (root, copy)]
    assert [[file.stat().st_nlink for file in each] for each in files] == [[2, 2], [2, 2]]
    assert copy.stat().st_mode == root.stat().st_mode
