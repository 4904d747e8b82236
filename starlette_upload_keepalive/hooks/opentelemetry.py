"""A hook that traces jobs with OpenTelemetry, and metrics of what is going on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager

from starlette_upload_keepalive.events import (
    JobCancelled,
    JobDelayed,
    JobDiscarded,
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
from starlette_upload_keepalive.jobs.retry import verb_in
from starlette_upload_keepalive.jobs.stats import Stats
from starlette_upload_keepalive.uploads import Uploads

try:
    from opentelemetry import metrics, trace
    from opentelemetry.metrics import CallbackOptions, Observation
except ModuleNotFoundError as _error:
    raise ImportError(
        "This hook needs opentelemetry-api: pip install 'starlette-upload-keepalive[opentelemetry]'"
    ) from _error

_NAME = "starlette_upload_keepalive"
# The semantic conventions that the names of attributes are from, as far as they go.
_SCHEMA = "https://opentelemetry.io/schemas/1.44.0"


class OpenTelemetryHook:
    """Makes a span of each attempt, linked to the span that its job was submitted in.

    That is the request's span, or the one of the attempt that submitted the
    job. It is no child of it: a request's trace would not end before the last
    attempt at the last of its jobs. The spans are those of a consumer that
    processes messages, by the semantic conventions for messaging.

    Args:
        tracer_provider: Who makes the spans; the global one if None.
    """

    def __init__(self, tracer_provider: trace.TracerProvider | None = None) -> None:
        self._tracer = trace.get_tracer(_NAME, tracer_provider=tracer_provider, schema_url=_SCHEMA)
        # By the job's id. What is here goes with the job's end.
        self._submitted_in: dict[str, trace.SpanContext] = {}
        self._attempts: dict[str, trace.Span] = {}

    def __call__(self, event: JobEvent) -> AbstractContextManager[object] | None:
        """Begin or end a span, if the event says so."""
        match event:
            case JobSubmitted():
                self._submitted_in[event.job_id] = _current()
            case JobStarted():
                return self._begin(event)
            case JobOverran(timeout_seconds=seconds):
                overran = {f"{_NAME}.timeout_seconds": seconds}
                self._attempts.get(event.job_id, trace.INVALID_SPAN).add_event(
                    f"{_NAME}.overran", overran
                )
            case JobDelayed(error=error):
                self._end(event, "delayed", error=None if verb_in(error) else error)
            case JobSucceeded():
                self._end(event, "succeeded")
            case JobFailed(error=error):
                self._end(event, "failed", error=error)
            case JobCancelled(reason="asked"):
                self._end(event, "cancelled")
            case JobCancelled(error=error):
                self._end(event, "lost", error=error)
            case _:
                self._end_unfinished(event)
        return None

    def _end_unfinished(self, event: JobEvent) -> None:
        match event:
            case JobReleased():
                self._end(event, "released")
            case JobDiscarded(reason=reason):
                self._end(event, "discarded", reason=reason)
            case _:
                pass

    def _begin(self, event: JobStarted) -> AbstractContextManager[object]:
        # Another process may have submitted it.
        submitted_in = self._submitted_in.get(event.job_id, trace.INVALID_SPAN_CONTEXT)
        attributes: dict[str, str | int | float] = {
            "messaging.system": _NAME,
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.destination.name": event.handler,
            "messaging.message.id": event.job_id,
            f"{_NAME}.attempt": event.attempt,
            f"{_NAME}.waited_seconds": event.waited_seconds,
        }
        if event.field is not None:
            attributes[f"{_NAME}.field"] = event.field
        if event.parent_id is not None:
            attributes[f"{_NAME}.parent_id"] = event.parent_id
        span = self._attempts[event.job_id] = self._tracer.start_span(
            f"process {event.handler}",
            # Baggage stays.
            context=trace.set_span_in_context(trace.INVALID_SPAN),
            kind=trace.SpanKind.CONSUMER,
            attributes=attributes,
            # Earlier SDKs keep a link that leads nowhere.
            links=[trace.Link(submitted_in)] if submitted_in.is_valid else [],
        )
        return trace.use_span(span, record_exception=False, set_status_on_exception=False)

    def _end(
        self,
        event: JobEvent,
        outcome: str,
        *,
        error: BaseException | None = None,
        reason: str | None = None,
    ) -> None:
        if outcome != "delayed":
            self._submitted_in.pop(event.job_id, None)
        # No span, if it ends before the first attempt or between two.
        span = self._attempts.pop(event.job_id, trace.INVALID_SPAN)
        try:
            span.set_attribute(f"{_NAME}.outcome", outcome)
            if reason is not None:
                span.set_attribute(f"{_NAME}.reason", reason)
            if error is not None:
                span.set_attribute("error.type", _name(type(error)))
                span.set_status(trace.StatusCode.ERROR, f"{type(error).__name__}: {error}")
                span.record_exception(error)
            elif outcome == "lost":
                span.set_attribute("error.type", "shutdown")
                span.set_status(trace.StatusCode.ERROR, "The app was shut down first.")
        finally:
            span.end()  # even if the error can't tell what it is


def observe_uploads(
    uploads: Uploads, *, meter_provider: metrics.MeterProvider | None = None
) -> None:
    """Have ``uploads.stats()`` read whenever metrics are collected.

    A meter takes each metric once: call it for one `Uploads` of a process.

    Args:
        uploads: The uploads of the app.
        meter_provider: Who collects the metrics; the global one if None.
    """
    meter = metrics.get_meter(_NAME, meter_provider=meter_provider, schema_url=_SCHEMA)

    def observe(name: str, unit: str, text: str, look: _Look, *, adds_up: bool = True) -> None:
        create: Callable[..., object] = (
            meter.create_observable_up_down_counter if adds_up else meter.create_observable_gauge
        )

        def observed(_: CallbackOptions) -> list[Observation]:
            found = look(uploads.stats())
            if not isinstance(found, Mapping):
                return [Observation(found)]
            label = f"{_NAME}.{'state' if name.startswith('jobs') else 'owner'}"
            return [Observation(value, {label: each}) for each, value in found.items()]

        create(f"{_NAME}.{name}", [observed], unit, text)

    observe("jobs.pending", "{job}", "Jobs not done.", _pending)
    observe(
        "jobs.oldest_waiting",
        "s",
        "How long the job has waited that has waited longest; 0 if none waits.",
        lambda stats: stats.oldest_waiting_seconds or 0,
        adds_up=False,
    )
    observe("threads.busy", "{thread}", "handler_threads taken.", lambda stats: stats.busy_threads)
    observe("tasks.busy", "{task}", "handler_tasks taken.", lambda stats: stats.busy_tasks)
    observe(
        "uploads.open",
        "{file}",
        "Stored files that somebody owns.",
        lambda stats: stats.open_uploads,
    )
    observe("uploads.memory", "By", "Bytes of those in memory.", lambda stats: stats.memory_bytes)
    observe("uploads.disk", "By", "Bytes of those on disk.", lambda stats: stats.disk_bytes)
    observe("uploads.owned", "{upload}", "Uploads by what owns them.", _owned)
    observe(
        "uploads.oldest_owned",
        "s",
        "For how long the one has been owned that has been for longest; 0 if none is.",
        _oldest_owned,
        adds_up=False,
    )


_Look = Callable[[Stats], "float | Mapping[str, float]"]


def _pending(stats: Stats) -> Mapping[str, float]:
    return {state.value: count for state, count in stats.jobs.items() if state not in DONE}


def _owned(stats: Stats) -> Mapping[str, float]:
    return {kind: len(owned) for kind, owned in by_owner_kind(stats.owned).items()}


def _oldest_owned(stats: Stats) -> Mapping[str, float]:
    return {
        kind: owned[0].owned_seconds if owned else 0
        for kind, owned in by_owner_kind(stats.owned).items()
    }


def _current() -> trace.SpanContext:
    return trace.get_current_span().get_span_context()


def _name(kind: type[BaseException]) -> str:
    name = kind.__qualname__
    return name if kind.__module__ == "builtins" else f"{kind.__module__}.{name}"
