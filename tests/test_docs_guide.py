"""What the pages of the guide show does what they say."""

from __future__ import annotations

import hashlib
import re
import secrets
import shlex
import subprocess
import tempfile
import warnings
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from starlette.applications import Starlette

from starlette_upload_keepalive import Job, JobState, Upload
from starlette_upload_keepalive.files.blob import Blob
from starlette_upload_keepalive.files.change_mark import marks_tell
from starlette_upload_keepalive.files.exposed_path import ExposedPath
from starlette_upload_keepalive.files.storage import Storage
from starlette_upload_keepalive.testing import finish_jobs
from tests.asgi import lifespan
from tests.pages import ROOT, client_of, examples_of, python_path, run, send


@pytest.fixture(autouse=True)
def own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each page where a reader would, in a directory of their own."""
    monkeypatch.chdir(tmp_path)


@asynccontextmanager
async def running(uploads: Any) -> AsyncGenerator[None, None]:
    with anyio.fail_after(20):
        async with uploads.running():
            yield


def submit(handler: Any, data: bytes = b"data", name: str = "a.mp4", **arguments: Any) -> Job[Any]:
    with Upload.from_bytes(data, filename=name, content_type="video/mp4") as upload:
        job: Job[Any] = handler.submit(upload, **arguments)
        return job


def ends(jobs: list[Job[Any]]) -> dict[str, tuple[str, Any]]:
    return {job.handler: (job.state.value, job.result or job.error) for job in jobs}


@pytest.mark.anyio
async def test_submitting() -> None:
    page = run("docs/submitting.md")

    async with page.uploads.running(), client_of(page.app) as client:
        await send(client, "/photos", photo=("a.png", b"photo"))
        await send(client, "/videos", video=("a.mp4", b"video"))
        refused = await send(client, "/signup", photo=("a.png", b"photo"))
        welcome = await client.post("/signup?name=Ada", files={"photo": ("b.png", b"photo")})
        for job in page.uploads.jobs:
            await job.wait()

    assert (refused.status_code, refused.json()) == (200, "Please tell us your name.")
    assert welcome.json() == "Welcome!"
    assert [(job.handler, job.result, job.state) for job in page.uploads.jobs] == [
        ("index", len(b"photo"), JobState.SUCCEEDED),
        ("transcode", "a.mp4 of user 7", JobState.SUCCEEDED),
        ("portrait", None, JobState.DISCARDED),
        ("portrait", "portrait from b.png", JobState.SUCCEEDED),
    ]


@pytest.mark.anyio
async def test_files() -> None:
    page = run("docs/files.md")
    handlers = [
        page.keep,
        page.collect,
        page.collect_in_a_thread,
        page.sign,
        page.measure,
        page.checksum,
    ]

    async with running(page.uploads), client_of(page.app) as client:
        jobs = [submit(handler, name="../holiday.jpg") for handler in handlers]
        for job in jobs:
            await job.wait()
        added = await send(client, "/files", file=("../holiday.jpg", b"data"))

    kept, collected, in_a_thread, signed, measured, checksum = [job.result for job in jobs]
    assert (page.FILES / kept).read_bytes() == b"data"
    for name in (collected, in_a_thread, added.json()):
        assert re.fullmatch(r"holiday-[0-9a-f]{16}\.jpg", str(name))
        assert (page.FILES / name).read_bytes() == b"data"
    assert (page.FILES / signed).read_bytes() == b"datasigned"
    assert measured == len(b"data")
    assert checksum == hashlib.sha256(b"data").hexdigest()
    assert page.safe == "Été 2024_.JPG"


@pytest.mark.anyio
async def test_handlers() -> None:
    page = run("docs/handlers.md")
    async with running(page.uploads):
        submit(page.in_a_thread)
        submit(page.on_the_event_loop, user_id=7)
        submit(page.send_on)
        submit(page.encode)
        submit(page.count)
        submit(page.count, b"", "b.mp4")
        with Upload.from_bytes(b"data") as one, Upload.from_bytes(b"data") as other:
            page.compare.submit([one, other])
        for handler in (page.fetch_subtitles, page.hungry, page.thumbnail, page.statistics):
            submit(handler)
        jobs = await finish_jobs(page.uploads)

    empty = next(job for job in jobs if job.filenames == ["b.mp4"])
    assert empty.error == "ValueError: it is empty"
    assert sorted(page.mails) == ["a.mp4 has 4 bytes", "b.mp4: it is empty"]
    assert ends([job for job in jobs if job is not empty]) == {
        "in_a_thread": ("succeeded", 4),
        "on_the_event_loop": ("succeeded", "attempt 1 for user 7"),
        "send_on": ("failed", "ServiceDown"),
        "encode": ("succeeded", 4),
        "count": ("succeeded", 4),
        "compare": ("succeeded", True),
        "fetch_subtitles": ("succeeded", None),
        "hungry": ("succeeded", None),
        "thumbnail": ("succeeded", None),
        "statistics": ("succeeded", None),
    }
    assert next(job for job in jobs if job.handler == "send_on").attempt == 5
    with Upload.from_bytes(b"data") as upload:
        assert page.in_a_thread(upload) == 4
        assert page.album([upload]) == [None]


@pytest.mark.anyio
async def test_handlers_say_what_shall_happen() -> None:
    page = run("docs/handlers.md")
    async with running(page.uploads):
        later = submit(page.transcode)
        while later.state != JobState.DELAYED:
            await anyio.lowlevel.checkpoint()
        page.busy["encoder"] = False
        with Upload.from_bytes(b"data") as upload:
            given_up = page.transcode.submit(upload)
        await finish_jobs(page.uploads)

    assert (later.state, later.result, later.attempt) == ("succeeded", "done", 2)
    assert (given_up.state, given_up.error) == ("discarded", "not a video")


@pytest.mark.anyio
async def test_jobs() -> None:
    page = run("docs/jobs.md")

    async with running(page.uploads), client_of(page.app) as client:
        good = (await send(client, "/files", file=("a.txt", b"data"))).json()
        bad = (await send(client, "/files", file=("b.txt", b""))).json()
        await finish_jobs(page.uploads)
        shown = (await client.get(f"/jobs/{good}")).json()
        failed = (await client.get("/jobs?state=failed")).json()
        stats = (await client.get("/stats")).json()
        cancelled = (await client.post(f"/jobs/{good}/cancel")).json()
        unknown = [
            await client.get("/jobs/none"),
            await client.post("/jobs/none/cancel"),
            await client.post("/jobs/none/retry"),
        ]
        too_late = await client.post(f"/jobs/{good}/retry")
        retried = (await client.post(f"/jobs/{bad}/retry")).json()
        await finish_jobs(page.uploads)

    assert shown == {
        "state": "succeeded",
        "attempt": 1,
        "progress": 0.5,
        "result": 4,
        "error": None,
    }
    assert failed == [bad]
    assert stats["jobs"]["failed"] == stats["jobs"]["succeeded"] == stats["open_uploads"] == 1
    assert (cancelled, retried) == (False, True)
    assert [answer.status_code for answer in unknown] == [404, 404, 404]
    assert too_late.status_code == 410
    assert page.uploads.jobs.get(bad).attempt == 2


@pytest.mark.anyio
async def test_pipelines() -> None:
    page = run("docs/pipelines.md")
    async with running(page.uploads):
        first = submit(page.validate, b"text", "a.txt")
        refused = submit(page.validate, b"\0", "b.txt")
        jobs = await finish_jobs(page.uploads)

    assert (refused.state, refused.error) == ("discarded", "not a text")
    _, _, second, third = jobs
    assert [(job.handler, job.state.value) for job in (second, third)] == [
        ("transform", "succeeded"),
        ("store", "succeeded"),
    ]
    assert (second.parent_id, third.parent_id) == (first.id, second.id)
    assert (page.STORE / third.result).read_bytes() == b"TEXT"


@pytest.mark.anyio
async def test_hooks() -> None:
    page = run("docs/hooks.md")
    async with running(page.uploads), running(page.traced), client_of(page.app) as client:
        submit(page.thumbnail)
        await finish_jobs(page.uploads)
        named = submit(page.whoami)
        await finish_jobs(page.traced)
        async with running(page.observed):
            await send(client, "/photos", photo=b"data")
            await finish_jobs(page.observed)
        metrics = (await client.get("/metrics")).text

    assert page.totals == {"succeeded": 1, "failed": 0}
    assert named.result == named.id
    assert 'upload_jobs_finished_total{handler="size_of",outcome="succeeded"} 1.0' in metrics


@pytest.fixture
def deploying(own_directory: None) -> Any:
    """Run the page, which starts an event loop of its own."""
    return run("docs/deploying.md")


@pytest.mark.anyio
async def test_deploying(deploying: Any) -> None:
    page = deploying
    async with lifespan(page.app), client_of(page.app) as client:
        answer = await send(client, "/api/files", file=b"data")
        jobs = await finish_jobs(page.uploads)

    assert page.results == [10]
    assert [(job.id, job.result) for job in jobs] == [(answer.json(), 4)]


def test_what_a_crash_leaves_behind_is_removed(tmp_path: Path) -> None:
    """And nothing else; nobody can set back when a name was made, so all are old enough."""
    uploads, files = tmp_path / "incoming", tmp_path / "files"
    uploads.mkdir()
    (files / "deeper").mkdir(parents=True)
    left = [
        ExposedPath(Blob(Storage(directory=uploads)), ".mp4")._path,
        files / f".{secrets.token_hex(8)}.part",
        files / "deeper" / f".{secrets.token_hex(8)}.part",
    ]
    kept = [uploads / "other", files / "a.part", files / ".hidden", files / "upload-1"]
    for path in [*left, *kept]:
        path.touch()
    text = (ROOT / "docs/deploying.md").read_text()
    for line in re.findall(r"^find .*$", text, re.MULTILINE):
        command = line.replace("/data", str(tmp_path)).replace("+1440", "-1440")
        subprocess.run(shlex.split(command), check=True)
    assert [path.exists() for path in left] == [False] * 3
    assert [path.exists() for path in kept] == [True] * 4


def sees_changes(directory: Path) -> bool:
    """Whether a save there may do without a copy: not on a tmpfs."""
    with tempfile.TemporaryFile(dir=directory) as file:
        return marks_tell(file.fileno())


def has_test_client() -> bool:
    """Whether Starlette's client goes with the installed httpx: an old one wants an old one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from starlette.testclient import TestClient  # noqa: PLC0415

        try:
            TestClient(Starlette())
        except TypeError:
            return False
    return True


def test_testing(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", python_path())
    code = "\n\n".join(str(example.parsed) for example in examples_of("docs/testing.md"))
    pytester.makepyfile(code)
    chosen = "test" if has_test_client() else "same_loop or server or test_count"

    if not sees_changes(pytester.path):  # pragma: no cover
        chosen = f"({chosen}) and not large"

    ran = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-k", chosen)

    assert ran.ret == 0
    if chosen == "test":
        on_both_loops = code.count("@pytest.mark.anyio")
        ran.assert_outcomes(passed=code.count("def test_") + on_both_loops)
