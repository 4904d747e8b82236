"""P7: a write never waits for the threads of endpoints or of handlers, however many are asleep."""

from __future__ import annotations

import threading
from pathlib import Path

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from starlette_upload_keepalive import DirectorySpool, JobState, Upload, Uploads
from starlette_upload_keepalive.quantities import MIB
from tests.asgi import file_part, multipart, send_request
from tests.running import at_work
from tests.sites import starlette
from tests.spooled import make_root

pytestmark = pytest.mark.anyio

SLEEPERS = 40
LARGE = multipart(file_part(bytes(3 * MIB), name="other"))
PATIENCE = 20


@pytest.mark.parametrize("handler_threads", [8, SLEEPERS])
@pytest.mark.parametrize("durable", [False, True])
async def test_forty_endpoints_and_forty_handlers_asleep_delay_no_write(
    tmp_path: Path, handler_threads: int, durable: bool
) -> None:
    """Uploads that are written are answered while all of them sleep."""
    uploads = Uploads(
        handler_threads=handler_threads,
        spool=DirectorySpool(make_root(tmp_path)) if durable else None,
    )
    asleep, awake = threading.Semaphore(0), threading.Event()

    def sleep() -> None:
        asleep.release()
        assert awake.wait(PATIENCE)

    @uploads.handler("photo")
    def sleep_on(photo: Upload) -> None:
        sleep()

    @uploads.handler("other")
    async def note(other: Upload) -> int:
        return other.size or 0

    async def endpoint(request: Request) -> Response:
        await request.form()
        return PlainTextResponse("stored")

    def all_asleep() -> bool:
        return all(asleep.acquire(timeout=PATIENCE) for _ in range(SLEEPERS + handler_threads))

    app = starlette(endpoint, uploads)
    async with at_work(uploads), anyio.create_task_group() as tasks:
        try:
            for _ in range(SLEEPERS):
                answer = await send_request(app, multipart(file_part(b"small")))
                assert answer.text == "stored"
                tasks.start_soon(anyio.to_thread.run_sync, sleep)
            waiter = anyio.CapacityLimiter(1)
            assert await anyio.to_thread.run_sync(all_asleep, limiter=waiter)
            for _ in range(5):
                assert (await send_request(app, LARGE)).text == "stored"
            while uploads.stats().jobs[JobState.SUCCEEDED] < 5:
                await anyio.lowlevel.checkpoint()
        finally:
            awake.set()
