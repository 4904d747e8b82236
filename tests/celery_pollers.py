"""What Celery leaves open, and tests must not."""

from __future__ import annotations

import importlib
from collections.abc import Generator
from typing import Any

import pytest

KOMBU_REDIS: Any = importlib.import_module("kombu.transport.redis")


def pollers_closed(monkeypatch: pytest.MonkeyPatch) -> Generator[None, None, None]:
    """Close the pollers of Celery's connections, which it leaves to the end of the process."""
    make_poller, pollers = KOMBU_REDIS.poll, list[Any]()

    def poll() -> Any:
        pollers.append(make_poller())
        return pollers[-1]

    monkeypatch.setattr(KOMBU_REDIS, "poll", poll)
    yield
    for poller in pollers:
        poller.close()
