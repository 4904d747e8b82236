"""What every test keeps to: both event loops, no leaks, no blocked loop, and no silent skips."""

from __future__ import annotations

import importlib
import os
from collections.abc import Generator

import pytest

from tests.blocking import blocking_calls, no_blocking
from tests.leak_checks import no_leaks

__all__ = [
    "anyio_backend",
    "blocking_calls",
    "no_blocking",
    "no_leaks",
    "pytest_collection_finish",
    "pytest_collection_modifyitems",
    "pytest_itemcollected",
    "pytest_runtest_makereport",
]

# They look at the source, the docs and the tools, not at versions; or take long.
ONCE = (
    "test_architecture",
    "test_benchmarks",
    "test_blocking",
    "test_demo",
    "test_docs",
    "test_hostile_input",
    "test_hostile_limits",
    "test_hostile_spools",
    "test_hostile_work",
    "test_house",
    "test_leak_checks",
    "test_machine",
    "test_power_cut",
    "test_server_workers",
    "test_soak",
    "test_system_calls",
    "test_typing",
)


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Run an async test, marked `pytest.mark.anyio`, on each event loop."""
    backend: str = request.param
    return backend


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark what need not be run again with each version of what the package stands on."""
    if item.path.stem.startswith(ONCE):
        item.add_marker(pytest.mark.once)


def pytest_collection_finish() -> None:
    """Import hypothesis: it looks for what trio holds, and finds nothing that `no_leaks` froze."""
    importlib.import_module("hypothesis")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what takes minutes, unless it is asked for."""
    if "soak" not in config.option.markexpr:
        long = [item for item in items if item.get_closest_marker("soak")]
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if item not in long]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail a skipped test where all are required, so that none is missed for good."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("REQUIRE_ALL_TESTS"):
        report.outcome = "failed"
        report.longrepr = f"skipped although REQUIRE_ALL_TESTS is set: {report.longreprtext}"
    return report
