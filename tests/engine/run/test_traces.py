"""Traces, as a real receiver of OTLP over HTTP gets them."""

from __future__ import annotations

import asyncio
import gzip
import http.server
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from dustrun.core.run import trace as places
from testkit.composition import Client, composed

OWN_ACTIONS = Path(__file__).parents[3] / "testkit" / "own_actions"
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"
SECRET = "sk_" + "a" * 40


@dataclass(frozen=True)
class Span:
    """One span as it arrived."""

    name: str
    trace_id: str
    span_id: str
    parent: str
    took_ms: float
    attributes: dict[str, Any]
    error: str | None
    links: list[str]

    def of(self, name: str) -> Any:
        return self.attributes.get(f"dustrun.{name}")


@dataclass
class Receiver:
    """What came in: spans, raw bodies, and headers of requests that were no traces."""

    url: str = ""
    spans: list[Span] = field(default_factory=list)
    raw: bytes = b""
    others: list[str | None] = field(default_factory=list)

    def take(self, body: bytes) -> None:
        self.raw += body
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            names = {a.key: a.value.string_value for a in resource.resource.attributes}
            assert names["service.name"] == "dustrun"
            self.spans += [_span(span) for scope in resource.scope_spans for span in scope.spans]

    def named(self, name: str) -> list[Span]:
        return [span for span in self.spans if span.name == name]


def _span(span: Any) -> Span:
    values = {a.key: a.value.string_value or a.value.int_value for a in span.attributes}
    return Span(
        span.name,
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        (span.end_time_unix_nano - span.start_time_unix_nano) / 1e6,
        values,
        span.status.message if span.status.code == 2 else None,
        [link.span_id.hex() for link in span.links],
    )


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"] or 0))
            if self.path == "/v1/traces":
                found.take(gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body)
            else:
                found.others.append(self.headers["traceparent"])
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Says nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        found.url = f"http://127.0.0.1:{server.server_port}"
        yield found
        server.shutdown()


def flow(**nodes: Any) -> dict[str, Any]:
    root = {"type": "manual", "children": [next(iter(nodes))]}
    return {"nodes": {"root": root, **nodes}, "triggerNodeIds": ["root"]}


SAY = {"type": "log", "payload": {"message": "{{$trigger.body.secret ?? 'hello'}}"}}


async def _run(client: Client, workflow_id: str, body: Any = None, **headers: str) -> str:
    reply = await client.post(f"/v1/workflows/{workflow_id}/run", body or {}, headers=headers)
    run_id: str = reply.data["runId"]
    await _ended(client, run_id)
    return run_id


async def _ended(client: Client, run_id: str) -> None:
    async with asyncio.timeout(60):
        while (await client.get(f"/v1/runs/{run_id}")).data["finishedAt"] is None:
            await asyncio.sleep(0.01)


async def test_a_run_is_a_span_in_its_callers_trace_with_a_span_for_each_attempt(
    tmp_path: Path, receiver: Receiver
) -> None:
    trial = {
        "type": "trial",
        "payload": {"name": "traced", "effect": "read", "outcomes": ["temporary"]},
        "retry": {"maxAttempts": 2, "backoffMs": 1},
        "children": ["say"],
    }
    async with composed(tmp_path, otlp_endpoint=receiver.url, actions_dir=OWN_ACTIONS) as server:
        made = await server.owner.create_workflow(flow(again=trial, say=SAY))
        run_id = await _run(server.owner, made["id"], {"payload": {"secret": SECRET}}, traceparent=PARENT)
    (run,) = receiver.named("run")
    assert (run.trace_id, run.parent, run.of("run.id"), run.of("run.status")) == (TRACE, SPAN, run_id, "success")
    assert (run.of("workflow.id"), run.of("run.mode"), run.error) == (made["id"], "live", None)
    nodes = [(s.of("node.path"), s.of("node.attempt"), s.of("node.status"), s.error) for s in receiver.named("trial")]
    assert [(path, attempt, status) for path, attempt, status, _ in nodes] == [
        ("again", 1, "scheduled"),
        ("again", 2, "success"),
    ]
    assert nodes[0][3] is not None
    assert nodes[1][3] is None
    inside = [span for span in receiver.spans if span is not run]
    assert {(span.trace_id, span.parent) for span in inside} == {(TRACE, run.span_id)}
    assert len({span.span_id for span in receiver.spans}) == len(receiver.spans) == 4
    assert SECRET.encode() not in receiver.raw


async def test_a_retry_is_linked_and_a_called_run_is_below_its_node(tmp_path: Path, receiver: Receiver) -> None:
    failing = flow(end={"type": "stop", "payload": {"status": "failure", "message": SECRET}})
    async with composed(tmp_path, otlp_endpoint=receiver.url) as server:
        called = await server.owner.create_workflow(failing)
        call = {"type": "call-workflow", "payload": {"workflowId": called["id"]}}
        calling = await server.owner.create_workflow(flow(call=call))
        first = await _run(server.owner, calling["id"])
        again = (await server.owner.post(f"/v1/runs/{first}/retry")).data["runId"]
        await _ended(server.owner, again)
    by_id = {span.of("run.id"): span for span in receiver.named("run") if span.of("workflow.id") == calling["id"]}
    assert (by_id[first].links, by_id[first].parent, by_id[first].error) == ([], "", "CHILD_FAILED")
    assert by_id[again].links == [by_id[first].span_id]
    nodes = {span.span_id: span for span in receiver.named("call-workflow")}
    below = [span for span in receiver.named("run") if span.of("workflow.id") == called["id"]]
    assert len(below) == 2
    assert all(nodes[span.parent].trace_id == span.trace_id for span in below)
    assert SECRET.encode() not in receiver.raw


async def test_a_run_that_outlives_its_server_is_one_trace(tmp_path: Path, receiver: Receiver) -> None:
    wait = {"type": "delay", "payload": {"delayMs": 3_000}, "children": ["say"]}
    body = {"runId": "run_long"}
    async with composed(tmp_path, otlp_endpoint=receiver.url) as server:
        made = await server.owner.create_workflow(flow(first={**SAY, "children": ["hold"]}, hold=wait, say=SAY))
        await server.owner.post(f"/v1/workflows/{made['id']}/run", body, headers={"traceparent": PARENT})
        async with asyncio.timeout(60):
            while (await server.owner.get("/v1/runs/run_long")).data["status"] != "waiting":
                await asyncio.sleep(0.01)
    assert [span.name for span in receiver.spans] == ["log"]
    async with composed(tmp_path, otlp_endpoint=receiver.url) as server:
        await _ended(server.owner, "run_long")
    (run,) = receiver.named("run")
    assert {span.trace_id for span in receiver.spans} == {TRACE}
    assert sorted(s.of("node.path") for s in receiver.spans if s.parent == run.span_id) == ["first", "hold", "say"]
    assert run.took_ms >= 3_000


@pytest.mark.parametrize("propagate", [True, False])
async def test_requests_carry_the_place_of_their_node_only_if_a_setting_says_so(
    tmp_path: Path, receiver: Receiver, propagate: bool
) -> None:
    address = receiver.url.removeprefix("http://")
    settings = {"otlp_endpoint": receiver.url, "otlp_propagate": propagate, "outbound_allow": (address,)}
    async with composed(tmp_path, **settings) as server:
        tell = {"type": "http-request", "payload": {"method": "POST", "url": f"{receiver.url}/notice"}}
        made = await server.owner.create_workflow(flow(tell=tell))
        await _run(server.owner, made["id"])
    (node,) = receiver.named("http-request")
    assert receiver.others == [f"00-{node.trace_id}-{node.span_id}-01" if propagate else None]


async def test_a_trace_that_is_not_recorded_and_a_header_that_is_none(tmp_path: Path, receiver: Receiver) -> None:
    async with composed(tmp_path, otlp_endpoint=receiver.url) as server:
        made = await server.owner.create_workflow(flow(say=SAY))
        await _run(server.owner, made["id"], traceparent=f"00-{TRACE}-{SPAN}-00")
        await _run(server.owner, made["id"], traceparent="00-nonsense")
    (run,) = receiver.named("run")
    assert (run.trace_id == TRACE, run.parent) == (False, "")


async def test_a_receiver_that_is_away_holds_nothing_up(tmp_path: Path) -> None:
    async with asyncio.timeout(60):
        async with composed(tmp_path, otlp_endpoint="http://127.0.0.1:9") as server:
            made = await server.owner.create_workflow(flow(say=SAY))
            await _run(server.owner, made["id"])


@pytest.mark.parametrize(
    "header",
    [
        "",
        "x",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"{PARENT}-more",
        PARENT.upper(),
    ],
)
def test_what_is_no_traceparent_is_ignored(header: str) -> None:
    assert places.parse(header) is None


def test_a_later_version_of_the_header_is_read() -> None:
    assert places.parse(f"01-{TRACE}-{SPAN}-01-more") == places.Span(TRACE, SPAN)
