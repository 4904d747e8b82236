"""Prometheus gets counts, times and what is going on, by handler and by nothing of a client's."""

from __future__ import annotations

import math
import re
from typing import Any, get_args

import anyio.to_thread
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from starlette_upload_keepalive import (
    JobState,
    Retry,
    RetryLater,
    Upload,
    Uploads,
)
from starlette_upload_keepalive.events import JobEvent, JobOverran
from starlette_upload_keepalive.files.blob import Blob
from starlette_upload_keepalive.files.owner import OwnerKind
from starlette_upload_keepalive.hooks.prometheus import PrometheusHook, UploadsCollector
from tests.ends import EVENTS, Gate, at_work, both_kinds, bring_to, each_end, new_upload, register
from tests.pages import ROOT


class Metrics:
    """What a registry has."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

    def __getitem__(self, name: str) -> dict[tuple[str, ...], float]:
        """Return the value of a metric for each of its labels' values that there are."""
        return {
            tuple(sample.labels.values()): sample.value
            for metric in self.registry.collect()
            for sample in metric.samples
            if sample.name == name
        }

    @property
    def labels(self) -> dict[str, set[str]]:
        """Return the values of each label that there is."""
        found: dict[str, set[str]] = {}
        for metric in self.registry.collect():
            for sample in metric.samples:
                for label, value in sample.labels.items():
                    found.setdefault(label, set()).add(value)
        return found


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def hook(metrics: Metrics) -> PrometheusHook:
    return PrometheusHook(metrics.registry)


@pytest.fixture
def uploads(hook: PrometheusHook) -> Uploads:
    return Uploads(grace_period=0, hooks=[hook])


WORK = ("work",)


@pytest.mark.anyio
@both_kinds
@each_end
async def test_each_end_is_counted_once(
    uploads: Uploads, metrics: Metrics, run_in: str, end: str
) -> None:
    await bring_to(end, uploads, run_in)

    assert metrics["upload_jobs_submitted_total"] == {WORK: 1}
    assert metrics["upload_jobs_finished_total"] == {("work", end): 1}
    assert metrics["upload_jobs_running"] == {WORK: 0}
    assert metrics["upload_job_wait_seconds_count"] == {WORK: 1}
    timed = {("work", end): 1} if end in {"succeeded", "failed"} else {}
    assert metrics["upload_job_attempt_seconds_count"] == timed


@pytest.mark.anyio
@both_kinds
async def test_jobs_that_run_are_gauged(uploads: Uploads, metrics: Metrics, run_in: str) -> None:
    gate = Gate(uploads, run_in)
    with new_upload(uploads) as upload:
        async with at_work(uploads):
            job = gate.handler.submit(upload)
            await gate.started()
            running = metrics["upload_jobs_running"]
            gate.open()
            await job.wait()

    assert running == {WORK: 1}
    assert metrics["upload_jobs_running"] == {WORK: 0}


@pytest.mark.anyio
@both_kinds
async def test_each_attempt_is_timed(uploads: Uploads, metrics: Metrics, run_in: str) -> None:
    errors = [ValueError("bad"), RetryLater(0)]

    def work(upload: Upload) -> None:
        if errors:
            raise errors.pop(0)

    handler = register(uploads, run_in, work, retry=Retry(wait_initial=0))
    with new_upload(uploads) as upload:
        async with at_work(uploads):
            await handler.submit(upload).wait()

    attempts = {("work", "delayed"): 2, ("work", "succeeded"): 1}
    assert metrics["upload_job_attempt_seconds_count"] == attempts
    assert metrics["upload_job_wait_seconds_count"] == {WORK: 3}
    assert metrics["upload_jobs_finished_total"] == {("work", "succeeded"): 1}


@pytest.mark.anyio
async def test_thread_that_overruns_is_counted(hook: PrometheusHook, metrics: Metrics) -> None:
    def let_go_on(event: JobEvent) -> None:
        if isinstance(event, JobOverran):
            gate.open()

    uploads = Uploads(hooks=[hook, let_go_on])
    gate = Gate(uploads, "thread", timeout=0.001)
    with new_upload(uploads) as upload:
        async with at_work(uploads):
            await gate.handler.submit(upload).wait()

    assert metrics["upload_job_overruns_total"] == {WORK: 1}
    assert metrics["upload_jobs_finished_total"] == {("work", "failed"): 1}


@pytest.mark.anyio
async def test_callback_that_raises_is_counted(hook: PrometheusHook, metrics: Metrics) -> None:
    def callback(*_: object) -> None:
        raise ValueError("bad")

    uploads = Uploads(hooks=[hook])
    handler = register(uploads, "loop", lambda upload: None, on_success=callback)
    with new_upload(uploads) as upload:
        async with at_work(uploads):
            handler.submit(upload)

    assert metrics["upload_job_callback_failures_total"] == {("work", "on_success"): 1}
    assert metrics["upload_jobs_finished_total"] == {("work", "succeeded"): 1}


@pytest.mark.anyio
async def test_nothing_of_a_client_or_a_job_is_a_label(uploads: Uploads, metrics: Metrics) -> None:
    await bring_to("failed", uploads, "loop")
    metrics.registry.register(UploadsCollector(uploads))

    assert metrics.labels == {
        "handler": {"work"},
        "outcome": {"failed"},
        "le": metrics.labels["le"],
        "state": {"staged", "waiting", "running", "delayed"},
        "owner": {"request", "job", "code", "operation"},
    }


@pytest.mark.anyio
async def test_buckets_are_chosen(metrics: Metrics) -> None:
    uploads = Uploads(hooks=[PrometheusHook(metrics.registry, buckets=[60, 3600])])
    await bring_to("succeeded", uploads, "loop")

    bounds = {float(bound) for bound in metrics.labels["le"]}
    assert bounds == {60, 3600, math.inf}


def test_docs_list_each_metric(hook: PrometheusHook, metrics: Metrics) -> None:
    metrics.registry.register(UploadsCollector(Uploads()))
    for event in EVENTS.values():
        hook(event)
    row = re.compile(r"^\| (`upload.*?) \| (\w+) \| (.*?) ?\|", re.MULTILINE)
    told = {
        name: (kind, tuple(re.findall(r"`(\w+)`", labels)))
        for names, kind, labels in row.findall((ROOT / "docs/hooks.md").read_text())
        for name in re.findall(r"`(\w+)`", names)
    }

    assert told == {
        metric.name + ("_total" if metric.type == "counter" else ""): (
            metric.type,
            tuple(label for label in metric.samples[0].labels if label != "le"),
        )
        for metric in metrics.registry.collect()
    }


def test_registry_takes_each_once(hook: PrometheusHook, metrics: Metrics) -> None:
    with pytest.raises(ValueError, match="upload_jobs_submitted"):
        PrometheusHook(metrics.registry)

    metrics.registry.register(UploadsCollector(Uploads()))
    with pytest.raises(ValueError, match="uploads_open"):
        metrics.registry.register(UploadsCollector(Uploads()))


@pytest.mark.anyio
async def test_collector_asks_when_it_is_asked(metrics: Metrics) -> None:
    uploads = Uploads(handler_threads=1, handler_tasks=1, memory_max_size=4)
    metrics.registry.register(UploadsCollector(uploads))

    def all_metrics() -> dict[str, Any]:
        text = generate_latest(metrics.registry).decode()
        return dict(line.split() for line in text.splitlines() if not line.startswith("#"))

    idle = {
        **{f'upload_jobs_pending{{state="{state}"}}': "0.0" for state in PENDING},
        **{f'uploads_owned{{owner="{kind}"}}': "0.0" for kind in OWNER_KINDS},
        **{f'uploads_oldest_owned_seconds{{owner="{kind}"}}': "0.0" for kind in OWNER_KINDS},
        "uploads_open": "0.0",
        "uploads_memory_bytes": "0.0",
        "uploads_disk_bytes": "0.0",
        "upload_jobs_oldest_waiting_seconds": "0.0",
        "upload_busy_threads": "0.0",
        "upload_busy_tasks": "0.0",
        "upload_busy_processes": "0.0",
    }
    assert all_metrics() == idle
    gate = Gate(uploads, "thread")
    with (
        new_upload(uploads, b"1234") as small,
        new_upload(uploads, b"12345") as large,
    ):
        async with at_work(uploads):
            jobs = [gate.handler.submit(each) for each in (small, large)]
            await gate.started()
            busy = await anyio.to_thread.run_sync(all_metrics)
            gate.open()
            for job in jobs:
                await job.wait()

    for age in (
        "upload_jobs_oldest_waiting_seconds",
        'uploads_oldest_owned_seconds{owner="job"}',
    ):
        assert float(busy.pop(age)) > 0
        del idle[age]
    assert busy == {
        **idle,
        'upload_jobs_pending{state="running"}': "1.0",
        'upload_jobs_pending{state="waiting"}': "1.0",
        'uploads_owned{owner="job"}': "2.0",
        "uploads_open": "2.0",
        "uploads_memory_bytes": "4.0",
        "uploads_disk_bytes": "5.0",
        "upload_busy_threads": "1.0",
    }


@pytest.mark.anyio
async def test_the_oldest_of_each_kind_of_owner(metrics: Metrics) -> None:
    """What some code has forgotten to close shows among requests that come and go."""
    uploads = Uploads()
    metrics.registry.register(UploadsCollector(uploads))
    old, young = (Blob(uploads.storage).own(f"the code that is {age}") for age in ("old", "young"))
    request = Blob(uploads.storage).own("the request POST /")
    for owner, seconds in ((old, 3600), (young, 60), (request, 1)):
        owner.since -= seconds
    ages = metrics["uploads_oldest_owned_seconds"]
    assert {labels[0]: int(age) for labels, age in ages.items()} == {
        "request": 1, "job": 0, "code": 3600, "operation": 0,
    }  # fmt: skip
    assert metrics["uploads_owned"] == {
        ("request",): 1, ("job",): 0, ("code",): 2, ("operation",): 0,
    }  # fmt: skip
    for owner in (old, young, request):
        owner.let_go()


OWNER_KINDS = get_args(OwnerKind)
PENDING = [state.value for state in list(JobState)[:4]]
