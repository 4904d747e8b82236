"""Events that no hook does anything with are not even made."""

from __future__ import annotations

import functools
import logging
from typing import Any

import pytest

from starlette_upload_keepalive import Job, Upload, Uploads, log_events
from starlette_upload_keepalive.events import Hooks, JobEvent
from tests.clock import Clock, anyio_backend, clock
from tests.ends import EVENTS, JOB
from tests.timed import submitting

__all__ = ["anyio_backend", "clock"]


def test_an_event_is_wanted_unless_all_hooks_ignore_it() -> None:
    def own(_: JobEvent) -> None: ...

    @functools.wraps(log_events)
    def wrapped(event: JobEvent) -> None:
        log_events(event)

    for hooks in (log_events, own), (own, log_events), (log_events, wrapped):
        assert all(Hooks(hooks).want(type(event)) for event in EVENTS.values())
    assert not any(Hooks().want(type(event)) for event in EVENTS.values())


@pytest.mark.parametrize("event", EVENTS.values(), ids=EVENTS)
def test_only_what_is_logged_is_told_to_the_log(
    event: JobEvent, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        log_events(event)
    assert Hooks([log_events]).want(type(event)) is bool(caplog.records)


@pytest.mark.anyio
async def test_no_event_is_made_that_no_hook_wants(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = list[str]()

    def event_of(job: Job[Any], kind: type[JobEvent], **told: Any) -> JobEvent:
        made.append(kind.__name__)
        return kind(**JOB, **told)

    async def succeeds(upload: Upload) -> None: ...

    async def fails(upload: Upload) -> None:
        raise OSError

    monkeypatch.setattr(Job, "_event", event_of)
    for hooks in ([log_events], []):
        async with submitting(Uploads(hooks=hooks)) as submit:
            submit(succeeds)
            submit(fails)
            await clock.settle()
    assert made == ["JobFailed"]
