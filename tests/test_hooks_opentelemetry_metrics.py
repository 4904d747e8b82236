"""OpenTelemetry observes what is going on, whenever metrics are collected."""

from __future__ import annotations

import re
from typing import get_args

import anyio.to_thread
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import Gauge as GaugePoints
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, Metric, NumberDataPoint, Sum

from starlette_upload_keepalive import Uploads
from starlette_upload_keepalive.files.blob import Blob
from starlette_upload_keepalive.files.owner import OwnerKind
from starlette_upload_keepalive.hooks.opentelemetry import observe_uploads
from tests.ends import Gate, at_work, new_upload
from tests.pages import ROOT

PREFIX = "starlette_upload_keepalive"
Values = dict[str, dict[str, float]]


class Metrics:
    """What an SDK collects."""

    def __init__(self, uploads: Uploads) -> None:
        self._reader = InMemoryMetricReader()
        self.provider = MeterProvider([self._reader], shutdown_on_exit=False)
        observe_uploads(uploads, meter_provider=self.provider)

    def collect(self) -> list[Metric]:
        data = self._reader.get_metrics_data()
        assert data is not None
        (resource,) = data.resource_metrics
        (scope,) = resource.scope_metrics
        assert scope.scope.name == PREFIX
        return list(scope.metrics)

    def values(self) -> Values:
        """Return the values of each metric by the one attribute it has, if it has one."""
        return {
            metric.name.removeprefix(f"{PREFIX}."): {
                "".join(str(value) for value in (point.attributes or {}).values()): point.value
                for point in metric.data.data_points
                if isinstance(point, NumberDataPoint)
            }
            for metric in self.collect()
        }


def of_kinds(**values: float) -> dict[str, float]:
    return {**dict.fromkeys(get_args(OwnerKind), 0), **values}


def of_states(**values: float) -> dict[str, float]:
    return {**dict.fromkeys(("staged", "waiting", "running", "delayed"), 0), **values}


@pytest.mark.anyio
async def test_they_are_observed_when_they_are_collected() -> None:
    uploads = Uploads(handler_threads=1, memory_max_size=4)
    metrics = Metrics(uploads)
    idle: Values = {
        "jobs.pending": of_states(),
        "jobs.oldest_waiting": {"": 0},
        "threads.busy": {"": 0},
        "tasks.busy": {"": 0},
        "uploads.open": {"": 0},
        "uploads.memory": {"": 0},
        "uploads.disk": {"": 0},
        "uploads.owned": of_kinds(),
        "uploads.oldest_owned": of_kinds(),
    }
    assert metrics.values() == idle
    thread = Gate(uploads, "thread")
    with new_upload(uploads, b"1234") as small, new_upload(uploads, b"12345") as large:
        async with at_work(uploads):
            jobs = [thread.handler.submit(each) for each in (small, large)]
            await thread.started()
            busy = await anyio.to_thread.run_sync(metrics.values)
            thread.open()
            for job in jobs:
                await job.wait()
    assert busy["jobs.oldest_waiting"].pop("") > 0
    assert busy["uploads.oldest_owned"].pop("job") > 0
    del idle["jobs.oldest_waiting"][""], idle["uploads.oldest_owned"]["job"]
    assert busy == {
        **idle,
        "jobs.pending": of_states(waiting=1, running=1),
        "threads.busy": {"": 1},
        "uploads.open": {"": 2},
        "uploads.memory": {"": 4},
        "uploads.disk": {"": 5},
        "uploads.owned": of_kinds(job=2),
    }


@pytest.mark.anyio
async def test_tasks_are_observed() -> None:
    uploads = Uploads()
    metrics = Metrics(uploads)
    gate = Gate(uploads, "loop")
    with new_upload(uploads) as upload:
        async with at_work(uploads):
            job = gate.handler.submit(upload)
            await gate.started()
            assert metrics.values()["tasks.busy"] == {"": 1}
            gate.open()
            await job.wait()


def test_the_oldest_of_each_kind_of_owner() -> None:
    uploads = Uploads()
    metrics = Metrics(uploads)
    old, young = (Blob(uploads.storage).own(f"the code that is {age}") for age in ("old", "young"))
    old.since -= 3600
    assert int(metrics.values()["uploads.oldest_owned"]["code"]) == 3600
    assert metrics.values()["uploads.owned"] == of_kinds(code=2)
    for owner in (old, young):
        owner.let_go()


def test_counts_and_bytes_of_processes_add_up_and_ages_do_not() -> None:
    for metric in Metrics(Uploads()).collect():
        if "oldest" in metric.name:
            assert isinstance(metric.data, GaugePoints)
            assert metric.unit == "s"
        else:
            assert isinstance(metric.data, Sum)
            assert not metric.data.is_monotonic
            assert metric.unit in {"{job}", "{thread}", "{task}", "{file}", "{upload}", "By"}


def test_without_a_provider_nothing_is_observed() -> None:
    observe_uploads(Uploads())


def test_docs_list_each_metric() -> None:
    row = re.compile(r"^\| `([\w.]+)` \| ([\w -]+) \| `(\S+)` \| (?:`(\w+)` )?\|", re.MULTILINE)
    section = (ROOT / "docs/hooks.md").read_text().partition("`observe_uploads(")[2]
    told = row.findall(section.partition("### Prometheus")[0])
    assert told == [
        (
            metric.name.removeprefix(f"{PREFIX}."),
            "gauge" if isinstance(metric.data, GaugePoints) else "up-down counter",
            metric.unit,
            attribute_of(metric),
        )
        for metric in Metrics(Uploads()).collect()
    ]


def attribute_of(metric: Metric) -> str:
    """Return the attribute that tells its values apart, if there is one."""
    point = next(iter(metric.data.data_points))
    assert isinstance(point, NumberDataPoint)
    return "".join(point.attributes or {}).removeprefix(f"{PREFIX}.")
