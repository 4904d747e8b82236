"""P9: no accepted answer starts before all of the request's bytes and jobs are on disk together."""

from __future__ import annotations

import errno
import logging
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from starlette_upload_keepalive import (
    DirectorySpool,
    JobState,
    NotDurable,
    StorageError,
    StorageFull,
    Upload,
    Uploads,
)
from starlette_upload_keepalive.quantities import MIB
from starlette_upload_keepalive.spool.disk import Disk
from tests.asgi import Answer, file_part, multipart, send_request
from tests.running import at_work
from tests.sites import BODY, reading, starlette
from tests.spooled import durable, entries, names, states, until
from tests.stored import CANCELS, Gate, cancel

pytestmark = pytest.mark.anyio


async def parsing(request: Request) -> Response:
    await request.form()
    return PlainTextResponse("accepted", 202)


async def measuring(photo: Upload) -> int:
    return len(await photo.read())


async def test_answer_waits_for_the_commit(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate()
    monkeypatch.setattr(DirectorySpool, "accept", gate.before(DirectorySpool.accept))
    uploads = durable(root)
    uploads.handler("photo")(reading)
    answer = Answer()
    async with at_work(uploads):
        async with anyio.create_task_group() as tasks:

            async def post() -> None:
                await send_request(starlette(parsing, uploads), BODY, answer=answer)

            tasks.start_soon(post)
            await gate.entered()
            await anyio.wait_all_tasks_blocked()
            assert answer.messages == []
            gate.open()
        assert (answer.status, answer.text) == (202, "accepted")
        await uploads.drain()
    assert [job.result for job in uploads.jobs] == ["data"]
    assert states(root, "done") == "s"
    assert names(root, "claimed") == names(root, "ready") == names(root, "owners") == []


async def test_all_jobs_of_a_request_are_one_accept(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Equal bytes are one file, for our eyes only."""
    seen: list[Any] = []

    def look(spool: DirectorySpool, jobs: Any) -> None:
        accept(spool, jobs)
        (owner,) = (root / "claimed").iterdir()
        (together,) = (path for path in owner.iterdir() if path.name.startswith("accept-"))
        files = [path for path in together.rglob("*") if path.is_file() and path.name == "0"]
        seen.append({path.stat().st_ino for path in files})
        seen.extend(oct(path.stat().st_mode & 0o777) for path in files)

    accept = DirectorySpool.accept
    monkeypatch.setattr(DirectorySpool, "accept", look)
    uploads = durable(root)
    for name in ("one", "two", "three"):
        uploads.handler("photo", name=name)(measuring)
    body = multipart(file_part(b"small"), file_part(b"x" * 2 * MIB))
    async with at_work(uploads):
        await send_request(starlette(parsing, uploads), body)
        await uploads.drain()
    inodes, *modes = seen
    assert len(inodes) == 2
    assert set(modes) == {"0o400"}
    assert states(root, "done") == "ssssss"
    results: list[Any] = [job.result for job in uploads.jobs]
    assert sorted(results) == [5] * 3 + [2 * MIB] * 3


@pytest.mark.parametrize("status", [303, 400, 500])
async def test_what_is_not_accepted_is_not_kept(root: Path, status: int) -> None:
    """P4."""
    uploads = durable(root)
    uploads.handler("photo")(reading)

    async def endpoint(request: Request) -> Response:
        await request.form()
        return Response(status_code=status)

    async with at_work(uploads):
        answer = await send_request(starlette(endpoint, uploads), BODY)
        assert names(root, "claimed") == []
    assert answer.status == status
    assert names(root, "done") == []


FAILURES = [
    (errno.ENOSPC, 507, "There is no space left to store the upload."),
    (errno.EMFILE, 503, "Too many uploads are open. Try again in a moment."),
    (errno.EIO, 500, "The upload could not be stored."),
]


@pytest.mark.parametrize(("number", "status", "detail"), FAILURES)
@pytest.mark.parametrize("step", ["make_directory", "write_file", "sync_directory", "rename"])
async def test_commit_that_fails_is_the_answer(
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    step: str,
    number: int,
    status: int,
    detail: str,
) -> None:
    """P4, P9: the client is told, and no job is left; the app is told nothing."""
    uploads = durable(root)
    for name in ("one", "two"):
        uploads.handler("photo", name=name)(reading)
    ended: list[str] = []

    async def endpoint(request: Request) -> Response:
        await request.form()
        return PlainTextResponse("accepted", background=BackgroundTask(ended.append, "answered"))

    def fail(*_: object, **__: object) -> None:
        raise OSError(number, "of the test")

    async with at_work(uploads):
        with monkeypatch.context() as patch:
            patch.setattr(Disk, step, fail)
            # What is thrown away is renamed, too.
            patch.setattr("starlette_upload_keepalive.spool.directory_spool.throw_away", _nothing)
            answer = await send_request(starlette(endpoint, uploads), BODY)
        assert (answer.status, answer.text) == (status, detail)
        assert answer.complete
        assert [job.state for job in uploads.jobs] == [JobState.DISCARDED] * 2
        assert entries(root, "ready") == []
    assert names(root, "done") == []
    assert "could not be kept" in caplog.text
    assert uploads.stats().open_uploads == 0


def _nothing(*_: object) -> None:
    pass


async def test_disk_that_has_failed_is_trusted_no_more(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an fsync has lost, the next one does not write, and tells of success."""
    uploads = durable(root)
    uploads.handler("photo")(reading)

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "of the test")

    async with at_work(uploads):
        with monkeypatch.context() as patch:
            patch.setattr(Disk, "sync_directory", fail)
            assert (await send_request(starlette(parsing, uploads), BODY)).status == 500
        assert (await send_request(starlette(parsing, uploads), BODY)).status == 500
    assert names(root, "done") == []


async def test_full_disk_is_trusted_when_there_is_space(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploads = durable(root)
    uploads.handler("photo")(reading)

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "of the test")

    async with at_work(uploads):
        with monkeypatch.context() as patch:
            patch.setattr(Disk, "write_file", fail)
            assert (await send_request(starlette(parsing, uploads), BODY)).status == 507
        assert (await send_request(starlette(parsing, uploads), BODY)).status == 202
        await uploads.drain()
    assert states(root, "done") == "s"


async def test_without_a_runner_nothing_is_accepted(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a lifespan nobody owns the spool, so that nothing can be promised."""
    uploads = durable(root)
    uploads.handler("photo")(reading)
    answer = await send_request(starlette(parsing, uploads), BODY)
    assert answer.status == 503
    assert "No runner is there" in caplog.text
    assert [job.state for job in uploads.jobs] == [JobState.DISCARDED]


@pytest.mark.parametrize(("anyio_backend", "how"), CANCELS)
async def test_cancelled_while_it_is_kept(
    root: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """P4: by anyio, the commit counts and the jobs run; natively nobody waits, and none does."""
    gate = Gate()
    monkeypatch.setattr(DirectorySpool, "accept", gate.before(DirectorySpool.accept))
    uploads = durable(root)
    for name in ("one", "two"):
        uploads.handler("photo", name=name)(reading)
    async with at_work(uploads):
        await cancel(how, gate, lambda: send_request(starlette(parsing, uploads), BODY))
        await until(lambda: names(root, "done") and not names(root, "claimed"))
        await uploads.drain()
        await until(lambda: uploads.stats().open_uploads == 0)
    assert states(root, "done") == ("dd" if how == "native" else "ss")
    state = JobState.DISCARDED if how == "native" else JobState.SUCCEEDED
    assert [job.state for job in uploads.jobs] == [state] * 2


# Submitting


async def test_submit_after_the_answer_has_begun(root: Path) -> None:
    uploads = durable(root)
    handler = uploads.handler()(reading)
    raised: list[BaseException] = []

    async def endpoint(request: Request) -> Response:
        photo: Any = (await request.form())["photo"]

        async def afterwards() -> None:
            try:
                handler.submit(photo)
            except NotDurable as error:
                raised.append(error)
            await handler.enqueue(photo)

        return Response(status_code=202, background=BackgroundTask(afterwards))

    async with at_work(uploads):
        await send_request(starlette(endpoint, uploads), BODY)
        await uploads.drain()
    (error,) = raised
    assert "await handler.enqueue" in str(error)
    assert states(root, "done") == "s"


async def test_submit_elsewhere(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    uploads = durable(root)
    handler = uploads.handler()(reading)
    async with at_work(uploads):
        with Upload.from_bytes(b"data") as upload:
            for submit in (handler.submit, handler.submit_now):
                with pytest.raises(NotDurable, match=r"await handler\.enqueue"):
                    submit(upload)
            job = await handler.enqueue(upload)
            assert len(entries(root, "claimed")) + len(entries(root, "done")) == 1
        assert (await job.wait()).result == "data"
    assert uploads.stats().open_uploads == 0


async def test_enqueue_in_a_thread(root: Path) -> None:
    uploads = durable(root)
    handler = uploads.handler()(reading)

    def in_thread() -> str:
        with Upload.from_bytes(b"data") as upload:
            return anyio.from_thread.run(handler.enqueue, upload).id

    async with at_work(uploads):
        job = uploads.jobs.get(await anyio.to_thread.run_sync(in_thread))
        assert job is not None
        assert (await job.wait()).result == "data"


async def test_enqueue_that_fails(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uploads = durable(root)
    handler = uploads.handler()(reading)

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "of the test")

    async with at_work(uploads):
        with Upload.from_bytes(b"data") as upload:
            with monkeypatch.context() as patch:
                patch.setattr(Disk, "write_file", fail)
                with pytest.raises(StorageFull):
                    await handler.enqueue(upload)
            assert list(uploads.jobs) == []
            assert issubclass(StorageFull, StorageError)
    assert uploads.stats().open_uploads == 0


async def test_enqueue_in_memory_starts_at_once() -> None:
    """Code that waits for a spool works without one."""
    uploads = Uploads()
    handler = uploads.handler()(reading)
    async with at_work(uploads):
        with Upload.from_bytes(b"data") as upload:
            job = await handler.enqueue(upload)
        assert (await job.wait()).result == "data"


async def test_veto_after_the_commit(root: Path) -> None:
    """An upload may be discarded until its request has ended."""
    uploads = durable(root)
    uploads.handler("photo")(reading)

    async def endpoint(request: Request) -> Response:
        photo: Any = (await request.form())["photo"]
        return Response(status_code=202, background=BackgroundTask(photo.discard))

    async with at_work(uploads):
        await send_request(starlette(endpoint, uploads), BODY)
        await uploads.drain()
    assert [job.state for job in uploads.jobs] == [JobState.DISCARDED]
    assert states(root, "done") == "d"
