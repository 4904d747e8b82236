"""`uploads.stats().owned` names each upload that is owned, by whom and for how long."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from starlette.requests import Request
from starlette.responses import Response

from starlette_upload_keepalive import (
    Job,
    OwnedUpload,
    Retry,
    Upload,
    UploadKeepAliveMiddleware,
    Uploads,
    detach,
)
from starlette_upload_keepalive.files import owner as owner_module
from starlette_upload_keepalive.files.blob import Blob
from starlette_upload_keepalive.jobs import owned_upload
from starlette_upload_keepalive.jobs.memory_spool import MemorySpool
from tests.asgi import file_part, http_scope, in_messages, multipart, receiving, send_request
from tests.ends import Gate, at_work, both_kinds, new_upload
from tests.finishing import DAY, app_of, photo_of, post
from tests.spooled import durable
from tests.stored import gate_of_writes

pytestmark = pytest.mark.anyio


@pytest.fixture
def uploads() -> Uploads:
    return Uploads(grace_period=0)


def owners(uploads: Uploads) -> list[tuple[str, str]]:
    """Return what owns each upload, and who."""
    return sorted((each.owner_kind, each.owner) for each in uploads.stats().owned)


def in_a_form(uploads: Uploads, data: bytes = b"data", **names: Any) -> Upload:
    """Make an upload as a form brings it."""
    blob = Blob(uploads.storage)
    upload = Upload(blob, owner="the request POST /photos", **names)
    blob.fill([data])
    return upload


async def test_the_request_owns_its_uploads(uploads: Uploads) -> None:
    seen: list[OwnedUpload] = []

    async def endpoint(request: Request) -> Response:
        await request.form()
        seen.extend(uploads.stats().owned)
        return Response()

    await post(app_of(uploads, endpoint))
    (owned,) = seen
    assert (owned.field_name, owned.filename, owned.size) == ("photo", "a.png", 4)
    assert owned.in_memory
    assert (owned.owner_kind, owned.owner) == ("request", "the request POST /photos")
    assert 0 <= owned.owned_seconds < 60
    assert uploads.stats().owned == ()


async def test_an_upload_that_arrives_is_owned(uploads: Uploads) -> None:
    async def endpoint(request: Request) -> Response:
        await request.form()
        pytest.fail("not reached")  # pragma: no cover

    first, *_ = in_messages(multipart(file_part(bytes(500))), 300)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(send_request, app_of(uploads, endpoint), [first], http_scope("/photos"))
        await anyio.wait_all_tasks_blocked()
        (owned,) = uploads.stats().owned
        assert (owned.filename, owned.owner) == ("a.png", "the request POST /photos")
        assert 0 < owned.size < 300
        tasks.cancel_scope.cancel()
    assert owners(uploads) == []


async def test_a_job_owns_its_uploads_between_two_attempts(uploads: Uploads) -> None:
    @uploads.handler(retry=Retry(attempts=2, wait_initial=DAY, wait_max=DAY))
    async def work(upload: Upload) -> None:
        raise ValueError

    with new_upload(uploads) as upload:
        async with at_work(uploads):
            job = work.submit(upload)
            await anyio.wait_all_tasks_blocked()
            upload._let_go()
            assert owners(uploads) == [("job", f"the job {job.id} of work, delayed")]


@both_kinds
@pytest.mark.parametrize("spool", ["none", "memory", "directory"])
async def test_a_job_that_runs_owns_its_uploads_once(root: Path, run_in: str, spool: str) -> None:
    """The attempt's own view is not counted besides; a spool in memory has them, too."""
    made: dict[str, Callable[[], Uploads]] = {
        "none": Uploads,
        "memory": lambda: Uploads(spool=MemorySpool()),
        "directory": lambda: durable(root),
    }
    uploads = made[spool]()
    gate = Gate(uploads, run_in)
    async with at_work(uploads):
        with new_upload(uploads) as upload:
            job = await gate.handler.enqueue(upload)
        await gate.started()
        kept = [("job", f"the spool, for the job {job.id} of work, running")]
        expected = [("job", f"the job {job.id} of work, running")]
        assert owners(uploads) == expected + kept * (spool == "memory")
        (owned, *_) = uploads.stats().owned
        assert (owned.filename, owned.field_name) == ("a.png", "photo")
        gate.open()
        await job.wait()
        assert owners(uploads) == []


async def test_a_job_that_is_forgotten_is_named_by_its_id() -> None:
    uploads = Uploads(grace_period=0, job_history=0)
    gate = Gate(uploads, "thread")
    async with at_work(uploads):
        with new_upload(uploads) as upload:
            job = gate.handler.submit(upload)
        await gate.started()
    attempt = f"attempt 1 of the job {job.id} (its thread goes on)"
    assert owners(uploads) == [("job", attempt)]
    gate.open()
    await until_closed(uploads)


async def test_code_that_detaches_is_named_with_its_place(uploads: Uploads) -> None:
    kept: list[Upload] = []

    async def endpoint(request: Request) -> Response:
        kept.append(detach(await photo_of(request)))
        return Response()

    await post(app_of(uploads, endpoint))
    line = endpoint.__code__.co_firstlineno + 1
    detached = ("code", f"the code that called detach() in {__file__}, line {line}")
    assert owners(uploads) == [detached]
    (owned,) = uploads.stats().owned
    assert (owned.field_name, owned.filename) == ("photo", "a.png")
    with pytest.warns(ResourceWarning, match=rf"detach\(\) in .*, line {line}\."):  # noqa: PT031
        kept.clear()
        gc.collect()
    assert owners(uploads) == []


async def test_code_that_makes_an_upload_is_named(uploads: Uploads, tmp_path: Path) -> None:
    path = tmp_path / "b.txt"
    path.write_bytes(b"12345")
    async with await Upload.from_path(path, storage=uploads.storage):
        assert owners(uploads) == [("code", "the code that made it")]
        (owned,) = uploads.stats().owned
        assert (owned.field_name, owned.filename, owned.size) == (None, "b.txt", 5)


async def test_a_private_copy_bears_the_same_name(uploads: Uploads) -> None:
    with in_a_form(uploads, filename="a.png", field_name="photo") as upload:
        await upload.write(b"x")
        (owned,) = uploads.stats().owned
        assert (owned.field_name, owned.filename, owned.in_memory) == ("photo", "a.png", False)


async def test_what_was_put_in_the_place_of_a_file_bears_the_same_name(
    uploads: Uploads, tmp_path: Path
) -> None:
    path = tmp_path / "mine"
    path.write_bytes(b"mine")
    with in_a_form(uploads, b"theirs", filename="a.png", field_name="photo") as upload:
        upload.file = path.open("rb")
        upload.as_path()  # for which it is stored
        (owned,) = uploads.stats().owned
        assert (owned.field_name, owned.filename, owned.size) == ("photo", "a.png", 4)


async def test_an_operation_answers_for_what_nobody_else_owns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    uploads = Uploads(memory_max_size=0)
    gate = gate_of_writes(monkeypatch)

    async def read_form(request: Request) -> Response:
        await request.form()
        return Response()

    body = multipart(file_part(bytes(3_000_000)))
    messages = in_messages(body)[:40]
    app = app_of(uploads, read_form)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(send_request, app, messages, http_scope("/photos"))
        await gate.entered()
        assert owners(uploads) == [("request", "the request POST /photos")]
        tasks.cancel_scope.cancel()
        gate.open()
    with in_a_form(uploads) as upload:
        operation = upload._view.blob.own("a write in progress")
        assert [kind for kind, _ in owners(uploads)] == ["request"]
    assert owners(uploads) == [("operation", "a write in progress")]
    (blob,) = uploads.storage.blobs
    assert isinstance(blob, Blob)
    other = blob.own("a use in progress", lender=operation)
    assert owners(uploads) == [("operation", "a write in progress")]
    operation.let_go()
    another = blob.own("a copy in progress")
    both = [("operation", "a copy in progress"), ("operation", "a use in progress")]
    assert owners(uploads) == both
    other.let_go()
    another.let_go()
    assert owners(uploads) == []


async def until_closed(uploads: Uploads) -> None:
    with anyio.fail_after(20):
        while uploads.storage.blobs:
            await anyio.to_thread.run_sync(threading.Event().wait, 0.001)


@pytest.fixture
def tick(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Stop the clock, and return what advances it."""
    now = [1000.0]
    for module in (owner_module, owned_upload):
        monkeypatch.setattr(module, "monotonic", lambda: now[0])

    def advance(seconds: float) -> None:
        now[0] += seconds

    return advance


def test_each_owner_has_a_time_of_its_own(uploads: Uploads, tick: Callable[[float], None]) -> None:
    with in_a_form(uploads) as first:
        tick(5)
        with detach(first), in_a_form(uploads):
            tick(2)
            owned = uploads.stats().owned
            assert [each.owned_seconds for each in owned] == [7, 2, 2]
            assert owned[0].owner_kind == "request"
            assert {each.owner_kind for each in owned[1:]} == {"request", "code"}


def test_it_is_looked_up_when_it_is_first_asked_for(uploads: Uploads) -> None:
    early, late = uploads.stats(), uploads.stats()
    with in_a_form(uploads):
        assert len(early.owned) == 1
    assert len(early.owned) == 1
    assert late.owned == ()


def test_stats_tell_the_world_no_names(uploads: Uploads) -> None:
    """What answers with all fields, or logs them, has no name of a client's in it."""
    with in_a_form(uploads, filename="private.png"):
        stats = uploads.stats()
        assert stats.owned
        assert "owned" not in asdict(stats)
        assert "private" not in repr(stats)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a\nERROR forged\r\x1b[2J\u2028.png", r"a\nERROR forged\r\x1b[2J\u2028.png"),
        ("x" * 5000, "x" * 100 + "…"),
        ("ü-日.txt", "ü-日.txt"),
        ("", ""),
        (None, None),
    ],
)
def test_what_a_client_has_chosen_may_be_logged(
    uploads: Uploads, name: str | None, shown: str | None
) -> None:
    with in_a_form(uploads, filename=name, field_name=name):
        (owned,) = uploads.stats().owned
        assert (owned.filename, owned.field_name) == (shown, shown)
        assert str(owned).isprintable()


def test_an_owned_upload_as_text() -> None:
    told: dict[str, Any] = {
        "size": 12345, "owner": "the job 1 of work", "owner_kind": "job", "owned_seconds": 3600.04,
    }  # fmt: skip
    assert str(OwnedUpload(field_name="photo", filename="a.png", in_memory=True, **told)) == (
        "'a.png' of field 'photo' (12,345 bytes in memory), owned by the job 1 of work "
        "for 3,600.0 s"
    )
    assert str(OwnedUpload(field_name=None, filename=None, in_memory=False, **told)) == (
        "a file without a name (12,345 bytes on disk), owned by the job 1 of work for 3,600.0 s"
    )


async def test_a_path_that_looks_like_an_owner_is_none(uploads: Uploads) -> None:
    """A client can't make its request count as another's."""
    job: list[Job[Any]] = []
    seen: list[tuple[str, str]] = []

    @uploads.handler()
    async def work(upload: Upload) -> None: ...

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await Request(scope, receive).form()
        seen.extend(owners(uploads))

    async with at_work(uploads):
        with new_upload(uploads) as upload:
            job.append(await work.submit(upload).wait())
        path = f"/of the job {job[0].id}"
        messages = in_messages(multipart(file_part(b"data")))
        middleware = UploadKeepAliveMiddleware(app, uploads)
        await middleware(http_scope(path), receiving(messages), not_to_be_sent)
    assert seen == [("request", f"the request POST {path}")]


async def not_to_be_sent(_: Any) -> None:
    pytest.fail("not reached")  # pragma: no cover
