"""What can be asked of a handler in a process of its own, and what it must be."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

import pytest

from starlette_upload_keepalive import Upload, Uploads
from tests import process_handlers
from tests.processing import processed, run
from tests.timed import events, register, uploads

__all__ = ["events", "uploads"]

LEAST = 32 * 1024 * 1024


def top(upload: Upload) -> None: ...


async def top_async(upload: Upload) -> None: ...


def test_where_handlers_run(uploads: Uploads) -> None:
    process = register(uploads, top, run_in="process")
    thread = register(uploads, process, name="thread")
    loop = register(uploads, top_async, run_in="loop")
    again = register(uploads, loop, name="again")
    back = register(uploads, thread, name="back", run_in="process")
    found = [each.run_in for each in (process, thread, loop, again, back)]
    assert found == ["process", "thread", "loop", "loop", "process"]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (
            {"run_in": "fork"},
            "run_in must be one of (None, 'thread', 'loop', 'process'), not 'fork'.",
        ),
        ({"memory_limit": LEAST}, "memory_limit is for handlers with run_in='process'."),
        (
            {"run_in": "thread", "cpu_limit": 1},
            "cpu_limit is for handlers with run_in='process'.",
        ),
        (
            {"run_in": "process", "memory_limit": LEAST - 1},
            f"memory_limit must be {LEAST:,} bytes or more, not {LEAST - 1}.",
        ),
        (
            {"run_in": "process", "cpu_limit": 0.5},
            "cpu_limit must be a whole number, 1 second or more, not 0.5.",
        ),
    ],
)
def test_option_out_of_range(uploads: Uploads, options: Any, error: str) -> None:
    with pytest.raises(ValueError) as raised:  # noqa: PT011
        register(uploads, top, **options)
    assert str(raised.value) == error


def test_elsewhere_than_on_linux(uploads: Uploads, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(NotImplementedError, match=r"^run_in='process' needs Linux\.$"):
        register(uploads, top, run_in="process")


@pytest.mark.parametrize(
    ("function", "run_in", "error"),
    [
        (top_async, "process", "an async function: run_in='process' is for plain ones."),
        (top_async, "thread", "an async function: run_in='thread' is for plain ones."),
        (top, "loop", "a plain function: run_in='loop' is for async ones."),
    ],
)
def test_function_of_another_kind(
    uploads: Uploads, function: Callable[..., Any], run_in: str, error: str
) -> None:
    with pytest.raises(TypeError) as raised:
        register(uploads, function, run_in=run_in, name="handler")
    assert str(raised.value) == f"handler is {error}"


def inside() -> Callable[..., Any]:
    def inner(upload: Upload) -> None: ...

    return inner


def of_the_script(upload: Upload) -> None: ...


of_the_script.__module__ = "__main__"
anonymous: Callable[[Upload], None] = lambda upload: None  # noqa: E731


@pytest.mark.parametrize(
    ("function", "error"),
    [
        (functools.partial(top), " has no name to be found by elsewhere: define it with"),
        (anonymous, "<lambda> can't be found by that name elsewhere: define it with a plain def"),
        (inside(), "inside.<locals>.inner can't be found by that name elsewhere: define"),
        (of_the_script, "of_the_script is in the script that was started, which another process"),
    ],
)
def test_function_that_no_process_finds(
    uploads: Uploads, function: Callable[..., Any], error: str
) -> None:
    with pytest.raises(TypeError) as raised:
        register(uploads, function, run_in="process", name="handler")
    assert error in str(raised.value)


@pytest.mark.anyio
@pytest.mark.parametrize("where", ["tests.process_handlers", "tests.nowhere"])
async def test_name_that_leads_elsewhere_is_told_when_the_app_starts(
    uploads: Uploads, where: str
) -> None:
    def other(upload: Upload) -> None: ...

    other.__module__, other.__qualname__ = where, "decorated"
    processed(uploads, other)
    with pytest.raises(TypeError) as raised:
        async with uploads.running():
            raise AssertionError
    assert str(raised.value) == (
        f"The handler other has run_in='process', but decorated in {where} is not it: leave the "
        "function, or what the decorator makes of it, under its name in that module."
    )


@pytest.mark.anyio
async def test_function_in_a_class(uploads: Uploads) -> None:
    job = await run(uploads, process_handlers.Namespace.inside)
    assert job.result == "inside"
