"""P8: a job that is kept in a spool when no runner is left is run once: by the next process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest
from starlette.requests import Request
from starlette.responses import StreamingResponse

from starlette_upload_keepalive import JobState, Upload
from tests.asgi import Answer, send_request
from tests.running import at_work
from tests.sites import BODY, starlette
from tests.spooled import durable, make_root, names, states, until

pytestmark = pytest.mark.anyio


async def test_job_of_a_request_that_outlives_the_runner_stays_in_the_spool(
    tmp_path: Path,
) -> None:
    """Some servers end the lifespan before the last request."""
    root = make_root(tmp_path)
    uploads = durable(root, grace_period=0)
    gate, answering = anyio.Event(), anyio.Event()
    ran: list[str] = []

    @uploads.handler("photo")
    async def handle(photo: Upload) -> None:
        ran.append(photo.safe_filename)

    async def answer_slowly(request: Request) -> StreamingResponse:
        await request.form()

        async def pieces() -> AsyncIterator[bytes]:
            answering.set()
            await gate.wait()
            yield b"accepted"

        return StreamingResponse(pieces())

    answer = Answer()
    async with anyio.create_task_group() as tasks:
        async with at_work(uploads):

            async def post() -> None:
                await send_request(starlette(answer_slowly, uploads), BODY, answer=answer)

            tasks.start_soon(post)
            await answering.wait()
        gate.set()
    assert (answer.status, answer.text) == (200, "accepted")
    assert ran == []
    assert [job.state for job in uploads.jobs] == [JobState.WAITING]
    assert uploads.stats().open_uploads == 0
    await until(lambda: states(root, "ready") == "w")
    await until(lambda: names(root, "owners") == [])
