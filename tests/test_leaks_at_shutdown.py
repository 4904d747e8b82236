"""At shutdown the log names each upload that is still owned, and is silent if none is."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import anyio
import pytest
from starlette.requests import Request
from starlette.responses import Response

from starlette_upload_keepalive import Retry, Upload, Uploads, detach
from starlette_upload_keepalive.files.upload import let_go_of_all
from starlette_upload_keepalive.jobs.memory_spool import MemorySpool
from tests.asgi import file_part, http_scope, lifespan, multipart, send_request
from tests.ends import Gate, at_work, new_upload
from tests.finishing import DAY, app_of, photo_of, post
from tests.spooled import durable, until
from tests.test_owned_upload import in_a_form

pytestmark = pytest.mark.anyio


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what was warned of when the app had ended."""
    return [
        record.getMessage()
        for record in caplog.records
        if record.levelno == logging.WARNING and "still owned" in record.getMessage()
    ]


@pytest.mark.parametrize("spool", ["none", "memory", "directory"])
async def test_not_a_word_if_none_is(
    root: Path, caplog: pytest.LogCaptureFixture, spool: str
) -> None:
    """Jobs that are lost, wait for their next attempt, or have failed, are let go of before."""
    made = {
        "none": lambda: Uploads(grace_period=0, keep_failed=5),
        "memory": lambda: Uploads(grace_period=0, spool=MemorySpool()),
        "directory": lambda: durable(root, grace_period=0),
    }
    uploads = made[spool]()

    @uploads.handler("photo")
    async def never_ends(photo: Upload) -> None:
        await anyio.sleep_forever()

    @uploads.handler("photo", retry=Retry(attempts=2, wait_initial=DAY, wait_max=DAY))
    async def is_tried_again(photo: Upload) -> None:
        raise ValueError

    @uploads.handler("photo")
    async def fails(photo: Upload) -> None:
        raise ValueError

    async def endpoint(request: Request) -> Response:
        await request.form()
        return Response()

    app = app_of(uploads, endpoint)
    async with lifespan(app):
        await post(app)
        await until(lambda: {"delayed", "failed", "running"} <= {job.state for job in uploads.jobs})
        assert uploads.stats().open_uploads
    assert uploads.stats().owned == ()
    assert warnings(caplog) == []


async def test_an_upload_that_was_detached_and_never_closed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    uploads = Uploads()
    kept: list[Upload] = []

    async def endpoint(request: Request) -> Response:
        kept.append(detach(await photo_of(request)))
        return Response()

    app = app_of(uploads, endpoint)
    async with lifespan(app):
        await post(app)
        assert warnings(caplog) == []
    (told,) = warnings(caplog)
    assert re.fullmatch(
        r"The app has ended, and 1 upload is still owned: 'a\.png' of field 'photo' "
        r"\(4 bytes in memory\), owned by the code that called detach\(\) in .*\.py, line \d+ "
        r"for [\d.]+ s\.",
        told,
    )
    let_go_of_all(kept)
    async with lifespan(app):
        pass
    assert len(warnings(caplog)) == 1


@pytest.mark.parametrize("spool", ["none", "directory"])
async def test_a_thread_that_goes_on(
    root: Path, caplog: pytest.LogCaptureFixture, spool: str
) -> None:
    uploads = Uploads(grace_period=0) if spool == "none" else durable(root, grace_period=0)
    gate = Gate(uploads, "thread")
    async with at_work(uploads):
        with new_upload(uploads) as upload:
            job = await gate.handler.enqueue(upload)
        await gate.started()
    (told,) = warnings(caplog)
    state = "cancelled" if spool == "none" else "waiting"
    assert f"owned by attempt 1 of the job {job.id} of work, {state} (its thread goes on)" in told
    assert "1 upload is still owned" in told
    gate.open()
    await until(lambda: not uploads.storage.blobs)


async def test_a_request_that_is_under_way(caplog: pytest.LogCaptureFixture) -> None:
    """Some servers send the shutdown before their requests have ended."""
    uploads = Uploads()

    async def endpoint(request: Request) -> Response:
        await request.form()
        await anyio.sleep_forever()
        raise AssertionError("unreachable")

    app = app_of(uploads, endpoint)
    async with anyio.create_task_group() as tasks:
        async with uploads.running():
            body = multipart(file_part(b"data"))
            tasks.start_soon(send_request, app, body, http_scope("/photos"))
            await anyio.wait_all_tasks_blocked()
        (told,) = warnings(caplog)
        assert "owned by the request POST /photos for" in told
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize(("count", "named"), [(20, 20), (21, 20), (1025, 20)])
async def test_the_message_is_bounded(
    caplog: pytest.LogCaptureFixture, count: int, named: int
) -> None:
    uploads = Uploads()
    kept: list[Upload] = []
    hostile: dict[str, Any] = {"filename": "\n" * 5000, "field_name": "\x1b" * 5000}
    async with uploads.running():
        kept.extend(in_a_form(uploads, **hostile) for _ in range(count))
    (told,) = warnings(caplog)
    assert told.startswith(f"The app has ended, and {count:,} uploads are still owned: ")
    assert told.count("owned by the request POST /photos") == named
    assert told.endswith(f"; and {count - named:,} more." if count > named else " s.")
    assert told.isprintable()
    assert len(told) < 20_000
    let_go_of_all(kept)


async def test_it_is_told_once_where_several_share_the_lifespan(
    caplog: pytest.LogCaptureFixture,
) -> None:
    uploads = Uploads()
    async with uploads.running():
        async with uploads.running():
            upload = in_a_form(uploads)
        assert warnings(caplog) == []
    assert len(warnings(caplog)) == 1
    upload._let_go()


@pytest.mark.parametrize("error", [ValueError(), KeyboardInterrupt()])
async def test_it_is_told_although_the_app_ends_by_an_exception(
    caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    uploads = Uploads()
    kept: list[Upload] = []
    with pytest.raises(type(error)):  # noqa: PT012
        async with uploads.running():
            kept.append(in_a_form(uploads))
            raise error
    assert len(warnings(caplog)) == 1
    let_go_of_all(kept)
