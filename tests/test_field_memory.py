"""The fields of forms count in the memory budget, beyond what each form has for free."""

from __future__ import annotations

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from starlette_upload_keepalive import (
    RequestTooLarge,
    TooManyUploads,
    UploadKeepAliveMiddleware,
    Uploads,
)
from starlette_upload_keepalive.files.budget import Budget
from starlette_upload_keepalive.forms.field_memory import FieldMemory
from starlette_upload_keepalive.quantities import KIB, MIB
from tests.asgi import Part, multipart, send_request

pytestmark = pytest.mark.anyio


def test_a_small_form_takes_nothing() -> None:
    budget = Budget(0)
    memory = FieldMemory(budget)
    for _ in range(128):
        memory.add(KIB)
    assert budget.used == 0
    with pytest.raises(RequestTooLarge):
        memory.add(1)


def test_a_large_one_takes_what_it_has_beyond_and_gives_it_back() -> None:
    budget = Budget(10 * MIB)
    memory = FieldMemory(budget)
    for _ in range(3 * 1024):
        memory.add(KIB)
        assert budget.used >= 0
    assert 3 * MIB - 128 * KIB <= budget.used <= 3 * MIB + 128 * KIB
    memory.give_back()
    memory.give_back()
    assert budget.used == 0


def test_all_of_the_budget_may_be_taken_and_no_more() -> None:
    budget = Budget(MIB)
    memory = FieldMemory(budget)
    memory.add(MIB + 128 * KIB)
    assert budget.used == MIB
    with pytest.raises(TooManyUploads) as others:
        FieldMemory(budget).add(129 * KIB)
    assert "memory_budget, 1,048,576" in str(others.value.__cause__)
    with pytest.raises(RequestTooLarge) as refused:
        memory.add(1)
    assert refused.value.max_size == MIB
    memory.give_back()
    assert budget.used == 0


async def test_they_count_until_the_request_ends() -> None:
    """Divergence 12, P7: what can't go to disk is bounded, too."""
    uploads = Uploads(memory_budget=4 * MIB)
    seen: list[int] = []

    async def endpoint(request: Request) -> JSONResponse:
        form = await request.form()
        seen.append(uploads.storage.memory.used)
        return JSONResponse(len(form))

    app = Starlette(routes=[Route("/", endpoint, methods=["POST"])])
    app.add_middleware(UploadKeepAliveMiddleware, uploads=uploads)

    def form(count: int) -> bytes:
        return multipart(*[Part(f"text-{i}", bytes(512 * KIB)) for i in range(count)])

    assert (await send_request(app, form(3))).json == 3
    assert seen[0] >= MIB
    assert uploads.storage.memory.used == 0
    refused = await send_request(app, form(9))
    assert (refused.status, uploads.storage.memory.used) == (413, 0)
    uploads.storage.memory.take(3 * MIB)
    refused = await send_request(app, form(4))
    assert (refused.status, refused.headers["retry-after"]) == (503, "1")
    assert uploads.storage.memory.used == 3 * MIB
    assert (await send_request(app, multipart(Part("text", bytes(100 * KIB))))).status == 200
