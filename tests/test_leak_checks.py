"""The rules of all tests find each kind of leak and nothing else, and let no test be skipped."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

CLEAN = """
import tempfile, threading
import anyio, pytest

@pytest.mark.anyio
async def test_worker_thread():
    await anyio.to_thread.run_sync(int)

def test_thread_that_is_just_ending():
    proceed = threading.Event()
    threading.Thread(target=lambda: proceed.wait() and [None for _ in range(100_000)]).start()
    proceed.set()

def test_closed_file():
    with tempfile.TemporaryFile() as anonymous, tempfile.NamedTemporaryFile() as named:
        pass
"""

DESCRIPTOR = """
import os

def test_it():
    os.open("file", os.O_CREAT | os.O_RDWR)
"""

SOCKET = """
import socket

def test_it():
    global pair
    pair = socket.socketpair()
"""

DELETED_FILE = """
import os, tempfile

def test_it():
    os.open(tempfile.gettempdir(), os.O_TMPFILE | os.O_RDWR)
"""

NAMED_FILE = """
import os, tempfile

def test_it():
    fd, name = tempfile.mkstemp("-mine")
    os.close(fd)
"""

THREAD = """
import threading

def test_it():
    threading.Thread(target=threading.Event().wait, name="mine", daemon=True).start()
"""

WORKER_THREAD = """
import threading
import anyio, pytest

enough = threading.Event()

@pytest.fixture(scope="module", autouse=True)
def end_of_module():
    yield
    enough.set()

@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["BACKEND"])
async def test_it():
    def stay():
        started.set()
        enough.wait()

    started = threading.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: anyio.to_thread.run_sync(stay, abandon_on_cancel=True))
        await anyio.to_thread.run_sync(started.wait)
        tasks.cancel_scope.cancel()
"""

IMPATIENT = "from tests import leak_checks; leak_checks.PATIENCE = 0.1"


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def run(pytester: pytest.Pytester, source: str) -> pytest.RunResult:
    """Run a test module under our conftest, in a process of its own."""
    pytester.makepyfile(source)
    return pytester.runpytest_subprocess("-p", "tests.rules", "-W", "error", "-rs")


def test_clean_tests_pass(pytester: pytest.Pytester) -> None:
    run(pytester, CLEAN).assert_outcomes(passed=4)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        pytest.param(DESCRIPTOR, "descriptor: * */file", id="descriptor"),
        pytest.param(SOCKET, "descriptor: * socket:*", id="socket"),
        pytest.param(DELETED_FILE, "descriptor: * (deleted)", id="deleted file"),
        pytest.param(NAMED_FILE, "temporary file: *-mine", id="named file"),
        pytest.param(THREAD, "thread: mine", id="thread"),
        pytest.param(
            WORKER_THREAD.replace("BACKEND", "asyncio"), "thread: AnyIO worker*", id="asyncio"
        ),
        pytest.param(WORKER_THREAD.replace("BACKEND", "trio"), "thread: * from *", id="trio"),
    ],
)
def test_leak_is_found(pytester: pytest.Pytester, source: str, message: str) -> None:
    result = run(pytester, IMPATIENT + source)

    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["Left behind:", message])


def test_file_closed_by_the_garbage_collector_is_found(pytester: pytest.Pytester) -> None:
    result = run(pytester, "def test_it():\n    open('file', 'w').write('')")

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*ResourceWarning: unclosed file*"])


@pytest.mark.parametrize(("required", "outcome"), [("", "skipped"), ("1", "failed")])
def test_skip_fails_where_all_tests_are_required(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, required: str, outcome: str
) -> None:
    monkeypatch.setenv("REQUIRE_ALL_TESTS", required)

    result = run(pytester, "import pytest\n\ndef test_it():\n    pytest.skip('no browser')")

    result.assert_outcomes(**{outcome: 1})
    result.stdout.fnmatch_lines(["*no browser*"])
