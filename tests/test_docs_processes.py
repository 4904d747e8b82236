"""What the page on processes shows does what it says."""

from __future__ import annotations

import importlib
import io
import sys
import zipfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

import anyio
import pytest
from PIL import Image

from starlette_upload_keepalive import Job, Upload
from tests.pages import examples_of
from tests.processing import PATIENCE, no_processes

__all__ = ["no_processes"]

pytestmark = pytest.mark.anyio

NAMES = ("main", "archives")


@pytest.fixture
def main(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Any]:
    """The app of the page: three examples in two files, which other processes can import."""
    first, archives, last = (str(example.parsed) for example in examples_of("docs/processes.md"))
    (tmp_path / "archives.py").write_text(archives)
    (tmp_path / "main.py").write_text(f"{first}\n{last}")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.chdir(tmp_path)
    yield importlib.import_module("main")
    for name in NAMES:
        del sys.modules[name]


async def outcome(uploads: Any, handler: Any, data: bytes) -> Job[Any]:
    with anyio.fail_after(PATIENCE):
        async with uploads.running():
            with Upload.from_bytes(data) as upload:
                job: Job[Any] = handler.submit_now(upload)
            return await job.wait()


def zipped(**files: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


async def test_decorated_function(main: Any) -> None:
    out = io.BytesIO()
    Image.new("RGB", (512, 256)).save(out, "PNG")
    job = await outcome(main.uploads, main.thumbnail, out.getvalue())
    assert job.result == {"width": 256, "height": 128}
    assert job.progress is not None
    assert job.progress.message == "decoded"


async def test_function_in_a_module_of_its_own(main: Any) -> None:
    job = await outcome(main.uploads, main.look_into, zipped(a=b"x" * 1000, b=b"y"))
    assert job.result == 1001


async def test_bomb_is_a_failed_job(main: Any) -> None:
    job = await outcome(main.uploads, main.look_into, zipped(a=bytes(300_000_000)))
    assert job.error is not None
    assert job.error.startswith("MemoryError: ")
