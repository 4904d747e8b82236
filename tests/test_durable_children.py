"""What a handler submits to a durable spool whose disk fails at the wrong moment."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from starlette_upload_keepalive import JobState, Upload
from starlette_upload_keepalive.spool.disk import Disk
from tests.running import at_work
from tests.spooled import durable, make_root, states

pytestmark = pytest.mark.anyio


async def test_disk_that_fails_while_children_are_published_ends_no_runner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """They were accepted with the end of their parent, and are ours, wherever they lie."""
    root = make_root(tmp_path)
    uploads = durable(root)
    ran: list[str] = []

    @uploads.handler()
    async def parent(upload: Upload) -> str:
        child.submit(upload)
        return "done"

    @uploads.handler()
    async def child(upload: Upload) -> None:
        ran.append(str(upload.filename))

    rename = Disk.rename

    def fail(disk: Disk, source: str, target: str) -> None:
        if "/children/" in source and target.endswith("-w"):
            raise OSError(errno.EIO, "as the test wants it")
        rename(disk, source, target)

    async with at_work(uploads):
        with monkeypatch.context() as patch, Upload.from_bytes(b"data", filename="one") as upload:
            patch.setattr(Disk, "rename", fail)
            failed = await parent.enqueue(upload)
            await failed.wait()
            await uploads.drain()
        assert failed.state is JobState.SUCCEEDED
        assert ran == ["one"]
        assert states(root, "claimed") == "p"
        with Upload.from_bytes(b"data", filename="two") as upload:
            await (await parent.enqueue(upload)).wait()
        await uploads.drain()
        assert ran == ["one", "two"]
    assert "as the test wants it" in caplog.text
    assert states(root, "done") == "sss"
