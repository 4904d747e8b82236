"""A hook that counts and times jobs for Prometheus, and a collector of what is going on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager

from starlette_upload_keepalive.events import (
    CallbackFailed,
    JobCancelled,
    JobDelayed,
    JobEvent,
    JobFailed,
    JobOverran,
    JobReleased,
    JobStarted,
    JobSubmitted,
    JobSucceeded,
)
from starlette_upload_keepalive.jobs.job_state import DONE
from starlette_upload_keepalive.jobs.owned_upload import by_owner_kind
from starlette_upload_keepalive.uploads import Uploads

try:
    from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram
    from prometheus_client.core import GaugeMetricFamily
    from prometheus_client.registry import Collector
except ModuleNotFoundError as _error:
    raise ImportError(
        "This hook needs prometheus-client: pip install 'starlette-upload-keepalive[prometheus]'"
    ) from _error

BUCKETS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0)
"""The upper bounds of the histograms, in seconds."""


class PrometheusHook:
    """Counts and times jobs, by handler.

    A registry takes each metric once: give several `Uploads` the same hook.

    Args:
        registry: Where the metrics are; the library's global one by default.
        buckets: The upper bounds of the histograms, in seconds.
    """

    def __init__(
        self, registry: CollectorRegistry = REGISTRY, *, buckets: Sequence[float] = BUCKETS
    ) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, ("handler", *labels), registry=registry)

        def histogram(name: str, text: str, *labels: str) -> Histogram:
            return Histogram(
                name, text, ("handler", *labels), buckets=tuple(buckets), registry=registry
            )

        self._submitted = counter("upload_jobs_submitted_total", "Jobs that were made.")
        self._finished = counter("upload_jobs_finished_total", "Jobs that ended.", "outcome")
        self._running = Gauge(
            "upload_jobs_running",
            "Jobs whose handler is at work.",
            ("handler",),
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._waited = histogram(
            "upload_job_wait_seconds",
            "How long attempts waited for a free thread, task or process.",
        )
        self._ran = histogram("upload_job_attempt_seconds", "How long attempts took.", "outcome")
        self._overran = counter(
            "upload_job_overruns_total", "Threads that took longer than their handler's timeout."
        )
        self._callbacks = counter(
            "upload_job_callback_failures_total", "Callbacks that raised.", "callback"
        )

    def __call__(self, event: JobEvent) -> AbstractContextManager[object] | None:
        """Count an event."""
        handler = event.handler
        match event:
            case JobSubmitted():
                self._submitted.labels(handler).inc()
            case JobStarted(waited_seconds=seconds):
                self._waited.labels(handler).observe(seconds)
                return self._running.labels(handler).track_inprogress()
            case JobOverran():
                self._overran.labels(handler).inc()
            case JobDelayed(ran_seconds=seconds):
                self._ran.labels(handler, "delayed").observe(seconds)
            case CallbackFailed(callback=callback):
                self._callbacks.labels(handler, callback).inc()
            case _:
                self._finish(event)
        return None

    def _finish(self, event: JobEvent) -> None:
        outcome = _outcome(event)
        self._finished.labels(event.handler, outcome).inc()
        if isinstance(event, (JobSucceeded, JobFailed)):
            self._ran.labels(event.handler, outcome).observe(event.ran_seconds)


class UploadsCollector(Collector):
    """Reads ``uploads.stats()`` whenever Prometheus asks.

    Give it to a registry, which takes one:
    ``registry.register(UploadsCollector(uploads))``.

    Args:
        uploads: The uploads of the app.
    """

    def __init__(self, uploads: Uploads) -> None:
        self._uploads = uploads

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Give what is going on, as metrics."""
        stats = self._uploads.stats()
        pending = GaugeMetricFamily("upload_jobs_pending", "Jobs not done.", labels=["state"])
        for state, count in stats.jobs.items():
            if state not in DONE:  # the counter of the hook has the others
                pending.add_metric([state.value], count)
        yield pending
        owned = GaugeMetricFamily("uploads_owned", "Uploads by what owns them.", labels=["owner"])
        oldest = GaugeMetricFamily(
            "uploads_oldest_owned_seconds",
            "For how long the one has been owned that has been for longest; 0 if none is.",
            labels=["owner"],
        )
        for kind, uploads in by_owner_kind(stats.owned).items():
            owned.add_metric([kind], len(uploads))
            oldest.add_metric([kind], uploads[0].owned_seconds if uploads else 0)
        yield owned
        yield oldest
        for name, text, value in [
            ("uploads_open", "Stored files that somebody owns.", stats.open_uploads),
            ("uploads_memory_bytes", "Bytes of memory that they take.", stats.memory_bytes),
            ("uploads_disk_bytes", "Bytes of those on disk.", stats.disk_bytes),
            (
                "upload_jobs_oldest_waiting_seconds",
                "How long the job has waited that has waited longest; 0 if none waits.",
                stats.oldest_waiting_seconds or 0,
            ),
            ("upload_busy_threads", "How many handler_threads are taken.", stats.busy_threads),
            (
                "upload_busy_processes",
                "How many handler_processes are taken.",
                stats.busy_processes,
            ),
            ("upload_busy_tasks", "How many handler_tasks are taken.", stats.busy_tasks),
        ]:
            yield GaugeMetricFamily(name, text, value=value)

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Give the same, for the names: a registry takes each once."""
        return self.collect()


def _outcome(event: JobEvent) -> str:
    match event:
        case JobSucceeded():
            return "succeeded"
        case JobFailed():
            return "failed"
        case JobCancelled(reason="asked"):
            return "cancelled"
        case JobCancelled():
            return "lost"
        case JobReleased():
            return "released"
        case _:
            return "discarded"
