"""A form is taken in or refused before anything of its body is read."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import anyio
import pytest

from starlette_upload_keepalive import (
    Limits,
    RequestTooLarge,
    StorageError,
    StorageFull,
    TooManyJobs,
    TooManyOpenFiles,
    TooManyUploads,
    UploadRefused,
)
from starlette_upload_keepalive.admission import Admission
from starlette_upload_keepalive.files.over_limit import OverLimit
from starlette_upload_keepalive.files.storage import Storage
from starlette_upload_keepalive.limits.reception import Reception
from starlette_upload_keepalive.quantities import MIB

pytestmark = pytest.mark.anyio


class Usage(NamedTuple):
    total: int
    used: int
    free: int


async def take_in(admission: Admission, size: int | None) -> Reception:
    """Take a form in, as is done for a request."""
    reception = admission.admit(size)
    try:
        await admission.check_room(reception)
    except BaseException:
        admission.leave(reception)
        raise
    return reception


def cause_of(refused: pytest.ExceptionInfo[UploadRefused]) -> str | None:
    """Return what the log says: the client is not told the names of options."""
    cause = refused.value.__cause__
    return cause.strerror if isinstance(cause, OverLimit) else None


async def test_a_body_that_says_it_is_too_large() -> None:
    admission = Admission(Limits(max_request_size=100), Storage())
    await take_in(admission, 100)
    await take_in(admission, None)
    with pytest.raises(RequestTooLarge):
        await take_in(admission, 101)


async def test_as_many_at_once_as_may_be() -> None:
    admission = Admission(Limits(max_concurrency=2), Storage())
    first = await take_in(admission, None)
    await take_in(admission, 10)
    with pytest.raises(TooManyUploads) as refused:
        await take_in(admission, 10)
    assert refused.value.status_code == 503
    assert refused.value.headers == {"Retry-After": "1"}
    assert cause_of(refused) == "As many forms are received as max_concurrency allows: 2"
    admission.leave(first)
    await take_in(admission, 10)


async def test_as_many_jobs_as_may_wait() -> None:
    pending = 9
    admission = Admission(Limits(max_pending_jobs=10), Storage(), lambda: pending)
    await take_in(admission, None)
    pending = 10
    with pytest.raises(TooManyJobs) as refused:
        await take_in(admission, None)
    assert refused.value.status_code == 503
    assert refused.value.headers == {"Retry-After": "10"}
    assert cause_of(refused) == "As many jobs are not done as max_pending_jobs allows: 10"


async def test_as_many_files_as_may_be_open() -> None:
    storage = Storage(max_open_files=1)
    admission = Admission(Limits(max_concurrency=2), storage)
    storage.open_files.take(1)
    with pytest.raises(TooManyOpenFiles):
        await take_in(admission, 2 * MIB)
    await take_in(admission, MIB)  # stays in memory
    await take_in(admission, None)  # may


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> int:
    """How many bytes of a disk are free."""
    free = 100 * MIB

    def disk_usage(_: object) -> Usage:
        return Usage(10 * free, 9 * free, free)

    monkeypatch.setattr(shutil, "disk_usage", disk_usage)
    return free


async def test_what_is_still_to_come_has_to_find_room(free: int) -> None:
    """Of two that would fill the disk together, the second is refused before it is read."""
    admission = Admission(Limits(), Storage(min_free_space=10 * MIB))
    with pytest.raises(StorageFull):
        await take_in(admission, free)
    first = await take_in(admission, 60 * MIB)
    first.received = 30 * MIB
    with pytest.raises(StorageFull):
        await take_in(admission, 61 * MIB)
    second = await take_in(admission, 60 * MIB)
    first.received = 60 * MIB
    second.received = 5 * MIB
    with pytest.raises(StorageFull):
        await take_in(admission, 86 * MIB)
    admission.leave(second)
    await take_in(admission, 90 * MIB)


@pytest.mark.parametrize("size", [None, 1000])
async def test_a_spool_needs_room_even_for_what_is_in_memory(free: int, size: int | None) -> None:
    """P7: else small files fill it, without end."""
    storage = Storage(max_disk_bytes=10 * MIB, min_free_space=10 * MIB)
    admission = Admission(Limits(max_concurrency=2), storage, kept=True)
    await take_in(admission, size)
    storage.disk.waiting = 10 * MIB + 1
    for _ in range(2):
        with pytest.raises(StorageFull):
            await take_in(admission, size)
    storage.disk.waiting = 9 * MIB
    await take_in(admission, size)

    storage = Storage(min_free_space=2 * free)
    await take_in(Admission(Limits(), storage), size)
    with pytest.raises(StorageFull):
        await take_in(Admission(Limits(), storage, kept=True), size)


async def test_a_mere_claim_takes_no_room_from_others(free: int) -> None:
    """P7: else one header without a body would have all others refused."""
    admission = Admission(Limits(), Storage(min_free_space=10 * MIB))
    claim = await take_in(admission, 90 * MIB)
    await take_in(admission, 90 * MIB)
    claim.received = MIB  # as much more is believed
    with pytest.raises(StorageFull):
        await take_in(admission, 90 * MIB)
    await take_in(admission, 89 * MIB)


async def test_what_is_refused_takes_no_place(tmp_path: Path) -> None:
    storage = Storage(directory=tmp_path, min_free_space=1 << 60)
    admission = Admission(Limits(max_concurrency=1), storage)
    for _ in range(3):
        with pytest.raises(StorageFull):
            await take_in(admission, 2 * MIB)
    await take_in(admission, MIB)  # stays in memory


async def test_a_directory_that_is_gone(tmp_path: Path) -> None:
    admission = Admission(Limits(max_concurrency=1), Storage(directory=tmp_path))
    shutil.rmtree(tmp_path)
    for _ in range(2):
        with pytest.raises(StorageError) as refused:
            await take_in(admission, 2 * MIB)
        assert refused.value.status_code == 500


async def test_a_system_without_a_temporary_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    admission = Admission(Limits(), Storage())
    monkeypatch.setattr(tempfile, "gettempdir", mock.Mock(side_effect=FileNotFoundError))
    with pytest.raises(StorageError) as refused:
        await take_in(admission, 2 * MIB)
    assert refused.value.status_code == 500


async def test_one_that_is_cancelled_takes_no_place(tmp_path: Path) -> None:
    admission = Admission(Limits(max_concurrency=1), Storage(directory=tmp_path))
    with anyio.CancelScope() as scope:
        scope.cancel()
        await take_in(admission, 2 * MIB)
    assert scope.cancelled_caught
    await take_in(admission, 2 * MIB)


async def test_what_is_still_to_come_has_to_be_left_of_the_budget(tmp_path: Path) -> None:
    storage = Storage(directory=tmp_path, max_disk_bytes=10 * MIB)
    admission = Admission(Limits(), storage)
    with pytest.raises(StorageFull):
        await take_in(admission, 10 * MIB + 1)
    storage.disk.take(3 * MIB)
    storage.disk.waiting = 3 * MIB  # of jobs in a spool
    with pytest.raises(StorageFull):
        await take_in(admission, 4 * MIB + 1)
    first = await take_in(admission, 4 * MIB)
    first.received = MIB
    with pytest.raises(StorageFull):
        await take_in(admission, 3 * MIB + 1)
