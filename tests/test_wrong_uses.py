"""What a newcomer gets wrong is told in words that say what to do."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.datastructures import UploadFile

from starlette_upload_keepalive import (
    Job,
    JobState,
    Upload,
    UploadKeepAliveMiddleware,
    Uploads,
    detach,
)
from starlette_upload_keepalive.files.memory_file import MemoryFile

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("options", "error", "told"),
    [
        ({"content_type": "image"}, ValueError, r"must be like 'image/\*', not 'image'"),
        ({"accept": {"303"}}, TypeError, "status codes such as 303, not '303'"),
        ({"accept": 303}, TypeError, r"must be a collection of status codes: \{303\}"),
    ],
)
async def test_an_option_that_could_never_fit(
    options: dict[str, Any], error: type[Exception], told: str
) -> None:
    with pytest.raises(error, match=told):
        Uploads().handler("photo", **options)(len)


@pytest.mark.parametrize("given", [Uploads, "uploads"])
async def test_no_uploads_for_the_middleware(given: Any) -> None:
    with pytest.raises(TypeError, match=r"must be an Uploads, such as Uploads\(\)"):
        UploadKeepAliveMiddleware(Starlette(), given)


@pytest.mark.parametrize(
    ("many", "given", "told"),
    [
        (False, UploadFile(MemoryFile(b"")), "an Upload, not UploadFile. Is UploadKeepAlive"),
        (False, [1], "an Upload, not list. Submit each, or register the handler with many=True"),
        (False, b"data", "an Upload, not bytes. Give it the upload itself"),
        (True, [b"data"], "a list of uploads, not bytes. Give it the upload itself"),
    ],
)
async def test_no_upload_for_a_handler(many: Any, given: Any, told: str) -> None:
    uploads = Uploads()

    def handler(file: Any) -> None: ...

    register: Any = uploads.handler
    registered: Any = register(many=many)(handler)
    with pytest.raises(TypeError, match=f"handler takes {told}"):
        registered.submit(given)


async def test_arguments_that_do_not_fit_name_the_handler() -> None:
    uploads = Uploads()

    @uploads.handler()
    def tag(file: Upload, *, user: int) -> None: ...

    submit: Any = tag.submit
    told = pytest.raises(TypeError, match=r"^tag: missing a required.* argument: 'user'")
    with Upload.from_bytes(b"data") as upload, told:
        submit(upload)
    assert len(uploads.jobs) == 0


async def test_nothing_to_detach() -> None:
    given: Any = b"data"
    with pytest.raises(TypeError, match=r"detach\(\) takes an UploadFile, not bytes"):
        detach(given)


async def test_a_directory_that_can_not_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> bool:
        return False

    monkeypatch.setattr(os, "access", refuse)  # root may write anywhere
    with pytest.raises(ValueError, match=r"can't be written: allow this user to"):
        Uploads(directory=tmp_path)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_callback_of_the_loop_may_submit() -> None:
    """It runs in no task, yet in the runner's loop."""
    uploads = Uploads()
    jobs: list[Job[int]] = []

    @uploads.handler()
    def length(file: Upload) -> int:
        return len(file.file.read())

    async with uploads.running():
        with Upload.from_bytes(b"data") as upload:
            called = asyncio.Event()

            def submit() -> None:
                jobs.append(length.submit(upload))
                called.set()

            asyncio.get_running_loop().call_soon(submit)
            await called.wait()
        await jobs[0].wait()
    assert (jobs[0].state, jobs[0].result) == (JobState.SUCCEEDED, 4)
