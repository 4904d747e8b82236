"""A spool that fails, or is shared: what is told, and what becomes of jobs."""

from __future__ import annotations

import errno
import time
from pathlib import Path
from typing import Any

import anyio
import pytest
from starlette.responses import Response

from starlette_upload_keepalive import (
    DirectorySpool,
    JobState,
    NotRunning,
    Retry,
    Upload,
    UploadKeepAliveMiddleware,
    Uploads,
)
from starlette_upload_keepalive.jobs import parking as parking_module
from starlette_upload_keepalive.jobs.accepting import Accept
from starlette_upload_keepalive.jobs.record import Standing, handler_key
from starlette_upload_keepalive.jobs.spool import Ending
from tests.asgi import send_request
from tests.running import at_work
from tests.sites import BODY, reading, starlette
from tests.spooled import (
    durable,
    enqueue,
    entries,
    names,
    parking,
    states,
    until,
)

pytestmark = pytest.mark.anyio


def fail(*_: object, **__: object) -> None:
    raise OSError(errno.EIO, "of the test")


async def let_spool_fail(
    root: Path, monkeypatch: pytest.MonkeyPatch, step: str, handler: Any = None
) -> tuple[Uploads, Any]:
    """Run one job while a step of the spool fails, and return it."""
    uploads = durable(root, grace_period=0)
    registered = uploads.handler(name="work")(handler or reading)
    async with at_work(uploads):
        with monkeypatch.context() as patch:
            patch.setattr(DirectorySpool, step, fail)
            job = await enqueue(registered)
            await job.wait()
        # What could not be noted is noted by hand, so that the spool can be closed.
        spool = uploads._spool
        assert isinstance(spool, DirectorySpool)
        for job_id in list(spool._owned._jobs):
            await anyio.to_thread.run_sync(
                spool.finish, job_id, Ending(JobState.DISCARDED, time.time())
            )
    return uploads, job


async def test_a_start_that_is_not_noted(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It would only have told a crash from a wait."""
    _, job = await let_spool_fail(root, monkeypatch, "start")
    assert job.result == "data"
    assert f"the job {job.id} starts could not be noted" in caplog.text


async def test_an_end_that_is_not_noted(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Here it is done; its children are not, for it will be run again."""
    uploads = durable(root)
    child = uploads.handler(name="child")(reading)

    @uploads.handler(name="parent")
    async def parent(upload: Upload) -> None:
        child.submit(upload)

    async with at_work(uploads):
        with monkeypatch.context() as patch:
            patch.setattr(DirectorySpool, "finish", fail)
            job = await (await enqueue(parent)).wait()
            await until(lambda: all(each.done for each in uploads.jobs))
        spool = uploads._spool
        assert isinstance(spool, DirectorySpool)
        await anyio.to_thread.run_sync(
            spool.finish, job.id, Ending(JobState.DISCARDED, time.time())
        )
    assert "it will be run again" in caplog.text
    assert {each.handler: each.state for each in uploads.jobs} == {
        "parent": JobState.SUCCEEDED,
        "child": JobState.DISCARDED,
    }


async def test_a_veto_that_is_not_noted(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    uploads = durable(root)
    handler = uploads.handler(name="work")(reading)
    async with at_work(uploads):
        with Upload.from_bytes(b"data") as upload:
            job = handler._made(upload, (), {})
        assert uploads._keeper is not None
        await uploads._keeper.accept([job])
        job._discard("of the test")
        with monkeypatch.context() as patch:
            patch.setattr(DirectorySpool, "finish", fail)
            await uploads._keeper.note_end(job)
        spool = uploads._spool
        assert isinstance(spool, DirectorySpool)
        await anyio.to_thread.run_sync(
            spool.finish, job.id, Ending(JobState.DISCARDED, time.time())
        )
    assert f"The end of the job {job.id} could not be noted" in caplog.text


async def test_what_is_not_taken_back_waits_here(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    uploads = durable(root, handler_tasks=1)
    opened = anyio.Event()

    @uploads.handler()
    async def handler(upload: Upload) -> None:
        await opened.wait()

    async with at_work(uploads):
        first = await enqueue(handler)
        with monkeypatch.context() as patch:
            patch.setattr(DirectorySpool, "release", fail)
            second = await enqueue(handler)
            await until(lambda: "its spool did not take it back" in caplog.text)
        assert second._has_uploads
        opened.set()
        await first.wait()
        await second.wait()
    assert states(root, "done") == "ss"


async def test_cancelled_while_it_is_given_back(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploads = durable(root, handler_tasks=1)
    opened = anyio.Event()

    @uploads.handler()
    async def handler(upload: Upload) -> None:
        await opened.wait()

    async with at_work(uploads):
        first = await enqueue(handler)
        second = await enqueue(handler)
        parking(uploads)._give_back_all()  # it is on its way to the spool
        assert second in parking(uploads)._giving_back
        assert uploads.jobs.cancel(second.id)
        await until(lambda: second.done)
        opened.set()
        await first.wait()
    assert (second.state, states(root, "done")) == (JobState.CANCELLED, "cs")


async def test_a_spool_that_can_not_be_looked_at(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is looked at again, which is told once, and what waits there is run then."""
    uploads = durable(root)
    handler = uploads.handler()(reading)
    monkeypatch.setattr(parking_module, "_LOOK", 0.01)
    looks: list[int] = []

    def waiting(*_: object) -> None:
        looks.append(1)
        fail()

    async with at_work(uploads):
        with monkeypatch.context() as patch:
            patch.setattr(DirectorySpool, "waiting", waiting)
            await until(lambda: len(looks) > 3)
            job = await (await enqueue(handler)).wait()
        await until(lambda: "can be looked at again" in caplog.text)
    assert job.result == "data"
    assert caplog.text.count("that is tried again") == 1


async def test_a_claim_that_fails(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    uploads = durable(root, handler_tasks=1)
    opened = anyio.Event()

    @uploads.handler()
    async def handler(upload: Upload) -> int:
        await opened.wait()
        return 1

    async with at_work(uploads):
        first = await enqueue(handler)
        second = await enqueue(handler)
        await until(lambda: len(entries(root, "ready")) == 1)
        with monkeypatch.context() as patch:
            patch.setattr(DirectorySpool, "claim", fail)
            opened.set()
            await first.wait()
            await until(lambda: "could not be claimed" in caplog.text)
        parking(uploads).look_soon()
        with anyio.fail_after(10):
            assert (await second.wait()).result == 1


async def test_a_job_that_another_process_has_run(root: Path) -> None:
    """Who waits for it here is told what came of it there."""
    uploads = durable(root, handler_tasks=1)
    opened = anyio.Event()

    @uploads.handler(name="work")
    async def handler(upload: Upload) -> str:
        await opened.wait()
        return "here"

    other = durable(root)

    @other.handler(name="work")
    async def elsewhere(upload: Upload) -> str:
        return "there"

    async with at_work(uploads):
        first = await enqueue(handler)
        second = await enqueue(handler)
        await until(lambda: len(entries(root, "ready")) == 1)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(second.wait)
            async with at_work(other):
                await until(lambda: states(root, "done") == "s")
            opened.set()
            await first.wait()
            parking(uploads).look_soon()
        assert (first.result, second.result) == ("here", "there")
        assert uploads.jobs.get(second.id) is second


async def test_few_of_many_are_known(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """P7: the others are only on the disk."""
    monkeypatch.setattr(parking_module, "_MOST_KNOWN", 3)
    monkeypatch.setattr(parking_module, "_MOST", 2)
    uploads = durable(root, handler_tasks=1)
    opened = anyio.Event()

    @uploads.handler()
    async def handler(upload: Upload, number: int) -> int:
        await opened.wait()
        return number

    async with at_work(uploads):
        jobs = [await enqueue(handler, number=number) for number in range(10)]
        await until(lambda: len(entries(root, "ready")) == 9)
        assert len(parking(uploads)._known) <= 3
        opened.set()
        with anyio.fail_after(10):
            for job in jobs:
                await job.wait()
    assert states(root, "done") == "s" * 10


async def test_a_handler_whose_key_another_has(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight digits can be the same. The job waits for its own."""
    uploads = durable(root, grace_period=0)

    @uploads.handler(name="first")
    async def endless(upload: Upload) -> None:
        await anyio.sleep_forever()

    async with at_work(uploads):
        await enqueue(endless)
        await until(lambda: states(root, "claimed") == "r")
    before = entries(root, "ready")
    later = durable(root)
    handler = later.handler(name="second")(reading)
    monkeypatch.setattr(handler, "key", handler_key("first"))
    given_back: list[str] = []
    release = DirectorySpool.release

    def noting(spool: DirectorySpool, job_id: str, standing: Standing) -> None:
        release(spool, job_id, standing)
        given_back.append(job_id)

    monkeypatch.setattr(DirectorySpool, "release", noting)
    async with at_work(later):
        await until(lambda: given_back)
        assert list(later.jobs) == []
    assert entries(root, "ready") == before
    assert names(root, "claimed") == []


def test_how_often_a_job_may_end_with_its_process(root: Path) -> None:
    uploads = durable(root)
    uploads.handler(name="often", retry=Retry(attempts=9))(reading)
    uploads.handler(name="plain")(reading)
    uploads.handler(name="never", on_crash="fail")(reading)
    limits = {name: handler.options.most_crashes for name, handler in uploads._handlers.items()}
    assert limits == {"often": 9, "plain": 3, "never": 1}
    wrong: Any = "later"
    with pytest.raises(ValueError, match="on_crash"):
        uploads.handler(on_crash=wrong)


async def test_children_of_another_spool(root: Path, tmp_path: Path) -> None:
    """Each job is kept by the spool of its own handler."""
    elsewhere = tmp_path / "other"
    elsewhere.mkdir(mode=0o700)
    first, second = durable(root), durable(elsewhere)
    child = second.handler(name="child")(reading)

    @first.handler(name="parent")
    async def parent(upload: Upload) -> None:
        child.submit(upload)

    async with at_work(first), at_work(second):
        await (await enqueue(parent)).wait()
        await until(lambda: states(elsewhere, "done") == "s")
    assert states(root, "done") == "s"


async def test_two_middlewares_with_a_spool_each(root: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "other"
    elsewhere.mkdir(mode=0o700)
    outer, inner = durable(root), durable(elsewhere)
    outer.handler("photo")(reading)
    inner.handler("photo")(reading)

    async def endpoint(request: Any) -> Any:
        await request.form()
        return Response(status_code=202)

    app = UploadKeepAliveMiddleware(starlette(endpoint, inner), uploads=outer)
    async with at_work(outer), at_work(inner):
        answer = await send_request(app, BODY)
        await until(lambda: states(root, "done") + states(elsewhere, "done") == "ss")
    assert answer.status == 202


# Without a spool, and beside it


async def test_without_a_spool_there_is_nothing_to_find_or_purge() -> None:
    uploads = Uploads()
    handler = uploads.handler()(reading)
    with Upload.from_bytes(b"data") as upload:
        with pytest.raises(NotRunning):
            await handler.enqueue(upload)
        async with at_work(uploads):
            job = await (await handler.enqueue(upload)).wait()
            assert await uploads.jobs.find_all() == [job]
            assert await uploads.jobs.find(job.id) is job
            assert not await uploads.jobs.retry_kept(job.id)
            assert await uploads.jobs.purge() == 0


async def test_files_lie_where_the_user_has_said(root: Path, tmp_path: Path) -> None:
    """Another filesystem costs a copy, and the user may want it so."""
    there = tmp_path / "there"
    there.mkdir()
    uploads = durable(root, directory=there)
    handler = uploads.handler()(reading)
    async with at_work(uploads):
        assert uploads.storage.directory == str(there)
        assert (await (await enqueue(handler)).wait()).result == "data"


async def test_an_accept_that_ends_as_nobody_waits_for_it_any_more(root: Path) -> None:
    """A native cancel may come between its end and the event loop's next look."""
    uploads = durable(root)
    handler = uploads.handler(name="work")(reading)
    async with at_work(uploads):
        with Upload.from_bytes(b"data") as upload:
            job = handler._made(upload, (), {})
        spool = uploads._spool
        assert spool is not None
        accept = Accept(spool, [job])
        await anyio.to_thread.run_sync(accept._accept)
        accept._abandon()
        accept._let_go()
        await until(lambda: states(root, "done") == "d")
        job._discard("of the test")
