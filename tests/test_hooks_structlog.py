"""structlog is told each event, and what a handler logs carries its job."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
import structlog
from structlog.contextvars import bound_contextvars, get_contextvars, merge_contextvars
from structlog.testing import LogCapture, capture_logs

from starlette_upload_keepalive import Retry, Upload, Uploads, log_events
from starlette_upload_keepalive.events import JobEvent, JobFailed
from starlette_upload_keepalive.hooks.structlog import StructlogHook
from tests.ends import (
    ERROR,
    EVENTS,
    JOB,
    at_work,
    both_kinds,
    bring_to,
    each_end,
    new_upload,
    register,
)

each_event = pytest.mark.parametrize("name", EVENTS)


@pytest.fixture
def logged() -> LogCapture:
    return LogCapture()


@pytest.fixture
def logger(logged: LogCapture) -> Any:
    return structlog.wrap_logger(
        structlog.PrintLogger(),
        processors=[merge_contextvars, logged],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
    )


@pytest.fixture
def uploads(logger: Any) -> Uploads:
    return Uploads(grace_period=0, hooks=[StructlogHook(logger)])


def test_every_event_is_looked_at() -> None:
    assert {type(event) for event in EVENTS.values()} == set(JobEvent.__subclasses__())


@each_event
def test_level_is_that_of_the_standard_log(
    name: str, logger: Any, logged: LogCapture, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    log_events(EVENTS[name])
    StructlogHook(logger)(EVENTS[name])

    silent = "info" if name == "job_succeeded" else "debug"
    levels = [record.levelname.lower() for record in caplog.records] or [silent]
    assert [entry["log_level"] for entry in logged.entries] == levels


@each_event
def test_event_and_fields(name: str, logger: Any, logged: LogCapture) -> None:
    StructlogHook(logger)(EVENTS[name])

    (entry,) = logged.entries
    assert entry.pop("event") == name.split(maxsplit=1)[0]
    del entry["log_level"]
    error = entry.pop("exc_info", None)
    assert error is (ERROR if name in {"job_failed", "callback_failed"} else None)
    told = dict(vars(EVENTS[name]), filenames=["a.png"])
    if told.pop("error", None) is not None:
        told["error"] = "ValueError('bad')"
    assert entry == told
    assert json.loads(json.dumps(entry)) == entry


def test_name_of_the_logger_unless_one_is_given() -> None:
    with capture_logs() as entries:
        StructlogHook()(EVENTS["job_discarded"])

    assert [entry["event"] for entry in entries] == ["job_discarded"]


def test_traceback_is_rendered(capsys: pytest.CaptureFixture[str]) -> None:
    logger = structlog.wrap_logger(
        structlog.PrintLogger(),
        processors=[structlog.processors.format_exc_info, structlog.processors.JSONRenderer()],
    )
    with pytest.raises(ValueError, match="bad") as raised:
        raise ValueError("bad")
    StructlogHook(logger)(JobFailed(**JOB, ran_seconds=1.0, error=raised.value))

    told = json.loads(capsys.readouterr().out)
    assert 'raise ValueError("bad")' in told["exception"]


@pytest.mark.anyio
@both_kinds
@each_end
async def test_each_end_is_told_once(
    uploads: Uploads, run_in: str, end: str, logged: LogCapture
) -> None:
    job = await bring_to(end, uploads, run_in)

    told = "job_cancelled" if end == "lost" else f"job_{end}"
    assert [entry["event"] for entry in logged.entries] == ["job_submitted", "job_started", told]
    assert {entry["job_id"] for entry in logged.entries} == {job.id}


@pytest.mark.anyio
@both_kinds
async def test_what_a_handler_logs_carries_its_job(
    run_in: str, logger: Any, logged: LogCapture
) -> None:
    uploads = Uploads(hooks=[StructlogHook(logger)])

    def work(upload: Upload) -> None:
        logger.info("at work")
        if len([entry for entry in logged.entries if entry["event"] == "at work"]) == 1:
            raise ValueError("bad")

    def after(*_: object) -> None:
        logger.info("after work")

    retry = Retry(attempts=2, wait_initial=0)
    handler = register(uploads, run_in, work, retry=retry, on_success=after)
    with new_upload(uploads) as upload, bound_contextvars(request_id="r1"):
        async with at_work(uploads):
            job = await handler.submit(upload).wait()
        assert get_contextvars() == {"request_id": "r1"}

    def at(event: str) -> list[dict[str, Any]]:
        return [
            {key: value for key, value in entry.items() if key not in {"event", "log_level"}}
            for entry in logged.entries
            if entry["event"] == event
        ]

    bound = {"request_id": "r1", "job_id": job.id, "handler": "work"}
    assert at("at work") == [{**bound, "attempt": 1}, {**bound, "attempt": 2}]
    assert at("after work") == [{"request_id": "r1"}]
    assert [entry["request_id"] for entry in at("job_started")] == ["r1", "r1"]
