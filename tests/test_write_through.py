"""Where there is little to write, each write is waited for, and nothing is prepared for it."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import pytest

from starlette_upload_keepalive.files.storage import Storage
from starlette_upload_keepalive.files.write_through import BATCH, WriteThrough
from tests.stored import content, filling

pytestmark = pytest.mark.anyio


async def test_each_write_is_waited_for(on_disk: Storage) -> None:
    """More may come than was said."""
    entered: list[str] = []

    @contextmanager
    def waiting() -> Generator[None, None, None]:
        entered.append("waits")
        yield
        entered.append("goes on")

    async with filling(on_disk) as blob:
        writer = WriteThrough(on_disk.threads, waiting)
        for piece in (b"a" * BATCH, b"b"):
            blob.append(piece)
            await writer.write(blob)
            assert blob.unwritten == 0
        assert content(blob) == b"a" * BATCH + b"b"
    assert entered == ["waits", "goes on"] * 2


async def test_it_is_collected_up_to_a_batch(on_disk: Storage) -> None:
    """A thread for each half MiB would be one too many, where each is waited for."""
    async with filling(on_disk) as blob:
        writer = WriteThrough(on_disk.threads)
        blob.append(b"a" * (BATCH - 1))
        assert not writer.is_due(blob)
        blob.append(b"a")
        assert writer.is_due(blob)
