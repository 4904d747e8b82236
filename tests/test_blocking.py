"""What blocks the event loop is found where the package is to blame, and only there."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

PACKAGE = """
import asyncio, os, pathlib, threading
import anyio.to_thread
import pytest

FAKE = {"__name__": "starlette_upload_keepalive.fake", "os": os, "path": pathlib.Path(".")}
exec('''
def plain():
    os.stat(".")

async def coroutine():
    plain()

async def through_the_standard_library():
    path.exists()

async def of_another(function):
    await function()

async def swallowing():
    try:
        plain()
    except Exception:
        pass
''', FAKE)

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.parametrize("anyio_backend", ["asyncio"]),
]
"""


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def run(pytester: pytest.Pytester, *body: str) -> pytest.RunResult:
    """Run a test beside what stands for the package, under our rules, in a process of its own."""
    test = "\nasync def test_it():\n" + "".join(f"    {line}\n" for line in body)
    pytester.makepyfile(PACKAGE + test)
    return pytester.runpytest_subprocess("-p", "tests.rules", "-W", "error")


@pytest.mark.parametrize(
    ("statement", "blamed"),
    [
        ("await FAKE['coroutine']()", "fake.coroutine"),
        ("await FAKE['through_the_standard_library']()", "fake.through_the_standard_library"),
        ("await FAKE['swallowing']()", "fake.swallowing"),
        (
            "asyncio.get_running_loop().call_soon(FAKE['plain']); await asyncio.sleep(0)",
            "fake.plain",
        ),
    ],
)
def test_the_package_is_blamed(pytester: pytest.Pytester, statement: str, blamed: str) -> None:
    result = run(pytester, statement)

    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["Blocks the event loop:", f"{blamed}: os.stat"])


@pytest.mark.parametrize(
    "statement",
    [
        "FAKE['plain']()",
        "await anyio.to_thread.run_sync(FAKE['plain'])",
        "async def own(): os.stat('.')\n    await FAKE['of_another'](own)",
    ],
    ids=["plain", "thread", "function of the user"],
)
def test_no_one_else_is(pytester: pytest.Pytester, statement: str) -> None:
    run(pytester, statement).assert_outcomes(passed=1)
