"""OpenTelemetry traces: a span for each run, below it one for each attempt of a node.

A span is made when what it shows has ended, from what the journal knows of it, under an id that follows from the run
(`core/run/trace.py`). So a run that waits, is taken up after a crash, or goes on in another process still is one trace.
An attribute never holds an input, a result or a message: those may bear secrets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dustrun.core.run import trace as places
from dustrun.core.run.journal import Execution
from dustrun.core.run.state import NodeStatus, RunStatus
from dustrun.core.run.trace import Span
from dustrun.records import dataclass
from dustrun.sdk.context import Http, HttpRequest, HttpResponse
from dustrun.services.runs.engine_port import RunFacts

if TYPE_CHECKING:
    from opentelemetry.trace import Link

_BAD_NODE = frozenset({NodeStatus.FAILURE, NodeStatus.UNCERTAIN, NodeStatus.SCHEDULED})
_BAD_RUN = frozenset({RunStatus.FAILURE, RunStatus.PARTIAL})
_EXPORT_WITHIN_S = 5


@dataclass(frozen=True, slots=True)
class SpanContent:
    """A span as it is shown; instants in milliseconds."""

    name: str
    place: Span
    parent: Span | None
    started_at: int
    ended_at: int
    attributes: Mapping[str, Any]
    error: str | None = None
    links: Sequence[Span] = ()


class Traces:
    """Sends spans to `endpoint`, an OTLP/HTTP receiver such as `http://127.0.0.1:4318`. `propagate`: requests of nodes
    carry `traceparent`. All from the event loop's thread; sending is done by a thread of the SDK."""

    def __init__(self, endpoint: str, version: str, *, propagate: bool = False) -> None:
        # optional dependency: only a server with `otlp_endpoint` loads it
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.id_generator import IdGenerator

        traces = self

        class PresetIds(IdGenerator):
            """Hands out the ids of the span that is being made."""

            def generate_span_id(self) -> int:
                return int(traces._next.span_id, 16)

            def generate_trace_id(self) -> int:
                return int(traces._next.trace_id, 16)

        self.propagate = propagate
        self._next = Span("0" * 32, "0" * 16)
        resource = Resource.create({"service.name": "dustrun", "service.version": version})
        self._provider = TracerProvider(resource=resource, id_generator=PresetIds(), shutdown_on_exit=False)
        exporter = OTLPSpanExporter(endpoint=_traces_url(endpoint), timeout=_EXPORT_WITHIN_S)
        self._provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=1000))
        self._tracer = self._provider.get_tracer("dustrun", version)

    def stop(self) -> None:
        """Sends what is left, for a few seconds at most."""
        self._provider.force_flush(_EXPORT_WITHIN_S * 1000)
        self._provider.shutdown()

    # --- what is shown ---

    def attempt_ended(self, facts: RunFacts, execution: Execution, node_type: str) -> None:
        """An attempt of a node came to something."""
        if execution.started_at is None:
            return
        run = run_place(facts)
        attributes = {
            **_of_run(facts),
            "dustrun.node.id": execution.node_id,
            "dustrun.node.path": execution.path,
            "dustrun.node.type": node_type,
            "dustrun.node.attempt": execution.attempt,
            "dustrun.node.status": execution.status.value,
        }
        error = None
        if execution.status in _BAD_NODE:
            error = str((execution.error or {}).get("code", execution.status.value))
        ended = execution.finished_at if execution.finished_at is not None else execution.started_at
        place = node_place(facts, execution.path, execution.attempt)
        self._show(SpanContent(node_type, place, run, execution.started_at, ended, attributes, error))

    def run_ended(self, facts: RunFacts, status: RunStatus, ended_at: int, error: Mapping[str, Any] | None) -> None:
        """A run has ended."""
        trace = facts.trace or {}
        link = places.parse(trace.get("link"))
        attributes = {**_of_run(facts), "dustrun.run.status": status.value, "dustrun.run.source": facts.trigger_source}
        code = str((error or {}).get("code", status.value)) if status in _BAD_RUN else None
        self._show(
            SpanContent(
                "run",
                run_place(facts),
                places.parse(trace.get("parent")),
                facts.started_at,
                ended_at,
                attributes,
                code,
                [link] if link is not None else [],
            )
        )

    def _show(self, shown: SpanContent) -> None:
        from opentelemetry.trace import Status, StatusCode  # optional dependency

        if not shown.place.is_sampled:
            return
        self._next = shown.place
        span = self._tracer.start_span(
            shown.name,
            context=_context(shown.parent),
            start_time=shown.started_at * 1_000_000,
            attributes={name: value for name, value in shown.attributes.items() if value is not None},
            links=[_link(place) for place in shown.links],
        )
        if shown.error is not None:
            span.set_status(Status(StatusCode.ERROR, shown.error))
        span.end(max(shown.started_at, shown.ended_at) * 1_000_000)

    # --- outgoing ---

    def http_for(self, http: Http, facts: RunFacts, path: str, attempt: int) -> Http:
        """The client whose requests carry the place of a node's attempt, if the settings say so."""
        return TraceExport(http, node_place(facts, path, attempt).traceparent()) if self.propagate else http


class TraceExport:
    """A client that adds `traceparent`, unless the request has one."""

    def __init__(self, http: Http, traceparent: str) -> None:
        self._http = http
        self._traceparent = traceparent

    async def request(self, request: HttpRequest) -> HttpResponse:
        """Sends the request."""
        if not any(name.lower() == "traceparent" for name in request.headers):
            request = replace(request, headers={**request.headers, "traceparent": self._traceparent})
        return await self._http.request(request)


def run_place(facts: RunFacts) -> Span:
    """The span of a run."""
    return places.of_run(facts.org_id, facts.id, facts.trace)


def node_place(facts: RunFacts, path: str, attempt: int) -> Span:
    """The span of an attempt of a node."""
    return places.of_node(run_place(facts), facts.org_id, facts.id, path, attempt)


def _of_run(facts: RunFacts) -> dict[str, Any]:
    return {
        "dustrun.run.id": facts.id,
        "dustrun.run.mode": facts.mode.value,
        "dustrun.organization.id": facts.org_id,
        "dustrun.workflow.id": facts.workflow_id,
        "dustrun.workflow.version": facts.version,
    }


def _traces_url(endpoint: str) -> str:
    trimmed = endpoint.rstrip("/")
    return trimmed if trimmed.endswith("/v1/traces") else f"{trimmed}/v1/traces"


def _span_context(place: Span) -> Any:
    from opentelemetry.trace import SpanContext, TraceFlags  # optional dependency

    flags = TraceFlags(TraceFlags.SAMPLED if place.is_sampled else TraceFlags.DEFAULT)
    return SpanContext(int(place.trace_id, 16), int(place.span_id, 16), is_remote=True, trace_flags=flags)


def _context(parent: Span | None) -> Any:
    from opentelemetry.context import Context  # optional dependency
    from opentelemetry.trace import NonRecordingSpan, set_span_in_context

    if parent is None:
        return Context()
    return set_span_in_context(NonRecordingSpan(_span_context(parent)), Context())


def _link(place: Span) -> Link:
    from opentelemetry.trace import Link as Linked  # optional dependency

    return Linked(_span_context(place), {"dustrun.link": "retries"})
