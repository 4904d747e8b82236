"""OpenTelemetry gets a span of each attempt, linked to where its job was submitted."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import Any, cast

import anyio
import anyio.to_thread
import pytest
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from starlette_upload_keepalive import (
    NotRunning,
    Retry,
    RetryLater,
    Upload,
    UploadKeepAliveMiddleware,
    Uploads,
)
from starlette_upload_keepalive.events import (
    JobEvent,
    JobFailed,
    JobOverran,
    JobStarted,
    JobSubmitted,
)
from starlette_upload_keepalive.hooks.opentelemetry import OpenTelemetryHook
from tests.asgi import file_part, multipart, send_request
from tests.ends import (
    EVENTS,
    JOB,
    Gate,
    at_work,
    both_kinds,
    bring_to,
    each_end,
    new_upload,
    register,
)

pytestmark = pytest.mark.anyio

PREFIX = "starlette_upload_keepalive"


class Spans:
    """The spans that have ended."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = self.provider.get_tracer("tests")

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self._exporter.get_finished_spans() if span.name == name]

    def one(self, name: str) -> ReadableSpan:
        (span,) = self.named(name)
        return span

    @property
    def attempts(self) -> list[ReadableSpan]:
        return self.named("process work")

    @property
    def attempt(self) -> ReadableSpan:
        (span,) = self.attempts
        return span


def attribute(span: ReadableSpan, name: str) -> Any:
    return (span.attributes or {}).get(name)


def linked(span: ReadableSpan) -> list[trace.SpanContext]:
    return [link.context for link in span.links]


def id_of(span: ReadableSpan) -> trace.SpanContext:
    return cast("trace.SpanContext", span.context)


@pytest.fixture
def spans() -> Spans:
    return Spans()


@pytest.fixture
def hook(spans: Spans) -> Generator[OpenTelemetryHook, None, None]:
    hook = OpenTelemetryHook(spans.provider)
    yield hook
    # Of a job that has ended, nothing is kept.
    assert (hook._submitted_in, hook._attempts) == ({}, {})


@pytest.fixture
def uploads(hook: OpenTelemetryHook) -> Uploads:
    return Uploads(grace_period=0, hooks=[hook])


# The span of an attempt


@both_kinds
async def test_span_of_an_attempt(uploads: Uploads, spans: Spans, run_in: str) -> None:
    with spans.tracer.start_as_current_span("request"):
        job = await bring_to("succeeded", uploads, run_in)

    span = spans.attempt
    attributes = dict(span.attributes or {})
    assert attributes.pop(f"{PREFIX}.waited_seconds", -1) >= 0  # type: ignore[operator]
    assert attributes == {
        "messaging.system": PREFIX,
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "work",
        "messaging.message.id": job.id,
        f"{PREFIX}.attempt": 1,
        f"{PREFIX}.field": "photo",
        f"{PREFIX}.outcome": "succeeded",
    }
    assert span.kind is SpanKind.CONSUMER
    assert span.status.status_code is StatusCode.UNSET
    assert span.parent is None
    assert linked(span) == [id_of(spans.one("request"))]
    assert span.instrumentation_scope
    assert span.instrumentation_scope.name == PREFIX


@both_kinds
@each_end
async def test_each_end(uploads: Uploads, spans: Spans, run_in: str, end: str) -> None:
    await bring_to(end, uploads, run_in)

    span = spans.attempt
    status = (span.status.status_code.name, span.status.description)
    assert attribute(span, f"{PREFIX}.outcome") == end
    assert status == {
        "failed": ("ERROR", "ValueError: bad"),
        "lost": ("ERROR", "The app was shut down first."),
    }.get(end, ("UNSET", None))
    error = {"failed": "ValueError", "lost": "shutdown"}.get(end)
    assert attribute(span, "error.type") == error
    assert attribute(span, f"{PREFIX}.reason") == ("of no use" if end == "discarded" else None)
    exceptions = [event.attributes for event in span.events if event.name == "exception"]
    assert [dict(each or {})["exception.message"] for each in exceptions] == (
        ["bad"] if end == "failed" else []
    )


@both_kinds
async def test_what_a_handler_traces_is_within(uploads: Uploads, spans: Spans, run_in: str) -> None:
    def work(upload: Upload) -> Any:
        with spans.tracer.start_as_current_span("resize"):
            return baggage.get_baggage("user")

    handler = register(uploads, run_in, work)
    token = context.attach(baggage.set_baggage("user", "7"))
    with new_upload(uploads) as upload:
        async with at_work(uploads):
            job = await handler.submit(upload).wait()
    context.detach(token)

    assert spans.one("resize").parent == id_of(spans.attempt)
    assert job.result == "7"  # baggage goes along


@both_kinds
async def test_each_attempt_has_a_span(uploads: Uploads, spans: Spans, run_in: str) -> None:
    class OwnError(Exception):
        pass

    errors = [OwnError("bad"), RetryLater(0)]

    def work(upload: Upload) -> None:
        if errors:
            raise errors.pop(0)

    handler = register(uploads, run_in, work, retry=Retry(wait_initial=0))
    with new_upload(uploads) as upload:
        async with at_work(uploads):
            with spans.tracer.start_as_current_span("request"):
                job = handler.submit(upload)
            await job.wait()

    told = [
        tuple(attribute(span, name) for name in (f"{PREFIX}.attempt", f"{PREFIX}.outcome"))
        for span in spans.attempts
    ]
    assert told == [(1, "delayed"), (2, "delayed"), (3, "succeeded")]
    statuses = [span.status.status_code.name for span in spans.attempts]
    assert statuses == ["ERROR", "UNSET", "UNSET"]  # to ask for another attempt is no error
    name = f"{__name__}.{OwnError.__qualname__}"
    assert attribute(spans.attempts[0], "error.type") == name
    request = id_of(spans.one("request"))
    assert [linked(span) for span in spans.attempts] == [[request]] * 3
    assert len({id_of(span).trace_id for span in spans.attempts}) == 3


async def test_retry_of_a_job_that_began_before_the_span_of_its_request(
    hook: OpenTelemetryHook, spans: Spans
) -> None:
    def work(upload: Upload) -> None:
        if len(spans.attempts) == 0:
            raise ValueError("bad")

    uploads = Uploads(hooks=[hook])
    retry = Retry(wait_initial=0)
    register(uploads, "loop", work, field="photo", retry=retry)
    app = UploadKeepAliveMiddleware(traced(spans, app_that_takes_a_photo(202)), uploads)
    async with at_work(uploads):
        await send_request(app, multipart(file_part(b"data")))

    assert [linked(span) for span in spans.attempts] == [[id_of(spans.one("request"))]] * 2


async def test_error_that_can_not_be_told(hook: OpenTelemetryHook, spans: Spans) -> None:
    class BadError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("as the test wants it")

    hook(JobSubmitted(**JOB))
    hook(JobStarted(**JOB, waited_seconds=0))
    with pytest.raises(RuntimeError):
        hook(JobFailed(**JOB, ran_seconds=0, error=BadError()))

    assert attribute(spans.attempt, "error.type").endswith(".BadError")


async def test_thread_that_overruns(hook: OpenTelemetryHook, spans: Spans) -> None:
    def let_go_on(event: JobEvent) -> None:
        if isinstance(event, JobOverran):
            gate.open()

    uploads = Uploads(hooks=[hook, let_go_on])
    gate = Gate(uploads, "thread", timeout=0.001)
    with new_upload(uploads) as upload:
        async with at_work(uploads):
            await gate.handler.submit(upload).wait()

    overran = spans.attempt.events[0]
    assert overran.name == f"{PREFIX}.overran"
    assert overran.attributes == {f"{PREFIX}.timeout_seconds": 0.001}
    assert attribute(spans.attempt, "error.type").endswith(".HandlerTimeout")


async def test_delayed_job_that_is_cancelled_is_forgotten(uploads: Uploads, spans: Spans) -> None:
    def work(upload: Upload) -> None:
        raise RetryLater(1000)

    handler = register(uploads, "loop", work)
    with new_upload(uploads) as upload:
        async with at_work(uploads):
            job = handler.submit(upload)
            await anyio.wait_all_tasks_blocked()
            uploads.jobs.cancel(job.id)

    assert [attribute(span, f"{PREFIX}.outcome") for span in spans.attempts] == ["delayed"]


async def test_job_that_is_never_taken_is_forgotten(uploads: Uploads, spans: Spans) -> None:
    handler = register(uploads, "loop", lambda upload: None)
    with new_upload(uploads) as upload, pytest.raises(NotRunning):
        handler.submit(upload)

    assert spans.attempts == []


async def test_job_that_is_run_again_by_hand(hook: OpenTelemetryHook, spans: Spans) -> None:
    def work(upload: Upload) -> None:
        raise ValueError("bad")

    uploads = Uploads(hooks=[hook], keep_failed=1)
    handler = register(uploads, "loop", work)
    with new_upload(uploads) as upload:
        async with at_work(uploads):
            with spans.tracer.start_as_current_span("request"):
                job = await handler.submit(upload).wait()
            uploads.jobs.retry(job.id)
            await job.wait()

    request = id_of(spans.one("request"))
    assert [linked(span) for span in spans.attempts] == [[request]] * 2


async def test_every_event_is_taken(hook: OpenTelemetryHook, spans: Spans) -> None:
    for event in EVENTS.values():
        hook(replace(event, field=None))

    assert attribute(spans.attempt, f"{PREFIX}.outcome") == "delayed"
    assert attribute(spans.attempt, f"{PREFIX}.field") is None


async def test_without_a_span_around_there_is_no_link(uploads: Uploads, spans: Spans) -> None:
    await bring_to("succeeded", uploads, "loop")

    assert linked(spans.attempt) == []


async def test_without_a_provider_nothing_is_traced(caplog: pytest.LogCaptureFixture) -> None:
    await bring_to("failed", Uploads(hooks=[OpenTelemetryHook()]), "loop")

    assert "hook" not in caplog.text  # as it would be told if it had raised


# What it is linked to


@both_kinds
async def test_child_is_linked_to_the_attempt_that_submitted_it(
    uploads: Uploads, spans: Spans, run_in: str
) -> None:
    @uploads.handler()
    async def child(upload: Upload) -> None:
        pass

    handler = register(uploads, run_in, lambda upload: child.submit(upload).id)
    with new_upload(uploads) as upload:
        async with at_work(uploads):
            job = await handler.submit(upload).wait()
            await uploads.jobs.wait(str(job.result))

    span = spans.one("process child")
    assert linked(span) == [id_of(spans.attempt)]
    assert attribute(span, f"{PREFIX}.parent_id") == job.id


def traced(spans: Spans, app: ASGIApp) -> ASGIApp:
    """Make a span of each request, as a middleware for it does."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        with spans.tracer.start_as_current_span("request", kind=SpanKind.SERVER):
            await app(scope, receive, send)

    return wrapped


def app_that_takes_a_photo(status: int) -> ASGIApp:
    async def endpoint(request: Request) -> Response:
        await request.form()
        return Response(status_code=status)

    return Starlette(routes=[Route("/", endpoint, methods=["POST"])])


@pytest.mark.parametrize("tracing", ["inside", "outside"])
@pytest.mark.parametrize("place", ["by itself", "submitted", "in a thread", "in the background"])
@both_kinds
async def test_request(
    uploads: Uploads, spans: Spans, tracing: str, place: str, run_in: str
) -> None:
    field = "photo" if place == "by itself" else None
    handler = register(uploads, run_in, lambda upload: None, field=field)

    async def endpoint(request: Request) -> Response:
        photo = (await request.form())["photo"]
        if place == "submitted":
            handler.submit(photo)
        elif place == "in a thread":
            await anyio.to_thread.run_sync(handler.submit, photo)
        later = BackgroundTask(handler.submit, photo) if place == "in the background" else None
        return Response(status_code=202, background=later)

    app: ASGIApp = Starlette(routes=[Route("/", endpoint, methods=["POST"])])
    app = traced(spans, app) if tracing == "inside" else app
    app = UploadKeepAliveMiddleware(app, uploads)
    app = traced(spans, app) if tracing == "outside" else app
    async with at_work(uploads):
        await send_request(app, multipart(file_part(b"data")))
        for job in uploads.jobs:
            await job.wait()

    assert linked(spans.attempt) == [id_of(spans.one("request"))]
    assert id_of(spans.attempt).trace_id != id_of(spans.one("request")).trace_id


async def test_job_of_a_rejected_request_is_forgotten(uploads: Uploads, spans: Spans) -> None:
    register(uploads, "loop", lambda upload: None, field="photo")
    app = UploadKeepAliveMiddleware(app_that_takes_a_photo(409), uploads)
    async with at_work(uploads):
        await send_request(app, multipart(file_part(b"data")))

    assert len(uploads.jobs) == 1
    assert spans.attempts == []
