"""While asyncio runs, no coroutine of the package may block its event loop."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest
from blockbuster import BlockBuster, BlockBusterFunction

PACKAGE = "starlette_upload_keepalive"
# What calls back: who it was for can't be seen, so that the blame stays where it is.
LOOPS = {"anyio", "asyncio", "uvloop"}
# What our calls go through. Where logs are written is the app's affair, and a module is
# imported once.
STEPS = (sys.stdlib_module_names | LOOPS | {"blockbuster"}) - {"importlib", "logging"}
# What blockbuster does not know, and we call.
MORE = (
    "os.chmod",
    "os.copy_file_range",
    "os.fsync",
    "os.ftruncate",
    "os.open",
    "os.pread",
    "os.writev",
)

OPENS_AGAIN = "a descriptor of ours, or the name of a file that is open: no disk is waited for"
UNNAMES = "without O_TMPFILE a file has a name; its bytes stay until the closer closes it"
COPIES = "copies the file that the user has put in the place of ours"
NOBODY_ELSE = "after a native cancel no thread is left to take the name away"
ALLOWED = {
    "files.upload.read: os.open": OPENS_AGAIN,
    "files.upload.seek: os.open": OPENS_AGAIN,
    "files.view.make_writable: os.open": OPENS_AGAIN,
    "files.upload.__aexit__: os.unlink": UNNAMES,
    "files.upload.close: os.unlink": UNNAMES,
    "files.upload.from_stream: os.unlink": UNNAMES,
    "files.view.make_writable: os.unlink": UNNAMES,
    "files.threads.run: os.unlink": NOBODY_ELSE,
    "files.whole_file._in_thread: io.BufferedReader.read": COPIES,
    "files.whole_file._in_thread: os.open": COPIES,
    "files.whole_file._in_thread: os.path.abspath": COPIES,
    "files.whole_file._in_thread: os.stat": COPIES,
    "files.whole_file._in_thread: os.unlink": COPIES,
    "files.whole_file._in_thread: os.writev": COPIES,
}
"""Calls that may block, as "module.coroutine: call", and why."""


@pytest.fixture(scope="session")
def blocking_calls() -> Iterator[list[str]]:
    """Watch what blocks, and list what the package is to blame for."""
    found: list[str] = []
    buster = BlockBuster()
    watched = {
        # A lock of ours is held for a few steps only.
        **{name: each for name, each in buster.functions.items() if "Lock" not in name},
        **{name: BlockBusterFunction(None, name) for name in MORE},
    }
    for name, function in watched.items():
        function.can_block_predicate = _noting(name, function.can_block_predicate, found)
        function.activate()
    yield found
    for function in watched.values():
        function.deactivate()


@pytest.fixture(autouse=True)
def no_blocking(blocking_calls: list[str]) -> Iterator[None]:
    """Fail a test in which a coroutine of the package blocks the event loop."""
    blocking_calls.clear()
    yield
    if found := {call for call in blocking_calls if call not in ALLOWED}:
        pytest.fail("Blocks the event loop:\n" + "\n".join(sorted(found)), pytrace=False)


def _noting(name: str, harmless: Callable[..., bool], found: list[str]) -> Callable[..., bool]:
    """Note the call instead of raising: no handler of exceptions hides it, and all are told."""

    def may_block(*args: Any, **named: Any) -> bool:
        if not harmless(*args, **named):
            culprit = blamed(sys._getframe(1))  # in no variable: a frame would hold itself
            if culprit is not None:
                found.append(f"{culprit}: {name}")
        return True

    return may_block


def blamed(frame: FrameType | None) -> str | None:
    """Return the coroutine or callback of the package that makes a call, if it is one.

    A plain function of the package that other code calls is that code's own
    choice, and so is what the package's callbacks of other code do.
    """
    seen = None
    while frame is not None:
        module = str(frame.f_globals.get("__name__", ""))
        top = module.partition(".")[0]
        if top == PACKAGE:
            seen = f"{module.partition('.')[2]}.{frame.f_code.co_name}"
            if frame.f_code.co_flags & (inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR):
                return seen
        elif top in LOOPS and seen is not None:
            return seen
        elif top not in STEPS:
            return None
        frame = frame.f_back
    return None
