"""`/metrics`, read as Prometheus reads it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from prometheus_client.parser import text_string_to_metric_families

from dustrun import metrics
from dustrun.services.access.principal import Principal
from dustrun.services.attention import list_for
from dustrun.storage.data import attention
from dustrun.storage.db.tables import connectors, hooks
from dustrun.storage.db.trigger_tables import subscriptions
from testkit.composition import Client, Composition, composed

FLOW = {
    "nodes": {
        "root": {"type": "manual", "children": ["say", "work"]},
        "say": {"type": "log", "payload": {"message": "hello"}},
        "work": {"type": "code-transform", "payload": {"code": "return 1"}, "children": ["hold"]},
        "hold": {"type": "delay", "payload": {"delayMs": 3_600_000}},
    },
    "triggerNodeIds": ["root"],
}

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


async def _read(client: Client) -> Samples:
    response = await client.http.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain; version=")
    families = text_string_to_metric_families(response.text)
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def _value(samples: Samples, name: str, **labels: str) -> float:
    return samples.get((name, frozenset(labels.items())), 0.0)


async def _until(client: Client, run_id: str, status: str) -> None:
    async with asyncio.timeout(60):
        while (await client.get(f"/v1/runs/{run_id}")).data["status"] != status:
            await asyncio.sleep(0.01)


async def test_what_the_server_does_is_counted(tmp_path: Path) -> None:
    async with composed(tmp_path) as server:
        made = await server.owner.create_workflow(FLOW)
        before = await _read(server.owner)
        run_id = (await server.owner.post(f"/v1/workflows/{made['id']}/run", {})).data["runId"]
        await _until(server.owner, run_id, "waiting")
        during = await _read(server.owner)
        await server.owner.post(f"/v1/runs/{run_id}/cancel")
        await _until(server.owner, run_id, "cancelled")
        after = await _read(server.owner)

    def grown(name: str, **labels: str) -> float:
        return _value(after, name, **labels) - _value(before, name, **labels)

    assert grown("dustrun_runs_started_total", mode="live", source="api") == 1
    assert grown("dustrun_runs_finished_total", mode="live", status="cancelled") == 1
    assert grown("dustrun_node_executions_total", type="log", status="success") == 1
    assert grown("dustrun_node_executions_total", type="delay", status="cancelled") == 1
    assert grown("dustrun_node_seconds_count", type="code-transform") == 1
    assert grown("dustrun_sandbox_scripts_total", outcome="ok") == 1
    route = "/v1/workflows/{id}/run"
    assert grown("dustrun_http_requests_total", method="POST", route=route, status="200") == 1
    assert grown("dustrun_http_request_seconds_count", method="POST", route=route) == 1
    assert grown("dustrun_writer_commit_seconds_count") >= 3
    assert grown("dustrun_writer_group_units_sum") >= 3
    assert (_value(during, "dustrun_runs_waiting"), _value(after, "dustrun_runs_waiting")) == (1, 0)
    assert _value(after, "process_resident_memory_bytes") > 1_000_000
    assert not [name for name, _ in after if not name.startswith(("dustrun_", "process_"))]


async def test_refused_and_failed_requests_of_nodes_are_counted(tmp_path: Path) -> None:
    call = {"type": "http-request", "payload": {"url": "http://127.0.0.1:9/"}, "timeoutMs": 1000}
    definition = {"nodes": {"root": {"type": "manual", "children": ["call"]}, "call": call}}
    async with composed(tmp_path) as server:
        before = await _read(server.owner)
        run_id = (await server.owner.post("/v1/runs", {"definition": definition})).data["runId"]
        await _until(server.owner, run_id, "failure")
        after = await _read(server.owner)
    labels = {"method": "GET", "outcome": "Invalid"}
    name = "dustrun_outbound_requests_total"
    assert _value(after, name, **labels) - _value(before, name, **labels) == 1


NIGHTLY = {
    "nodes": {
        "root": {"type": "cronjob", "payload": {"schedule": "30 2 * * *"}, "children": ["say"]},
        "say": {"type": "log", "payload": {"message": "hello"}},
    },
    "triggerNodeIds": ["root"],
}


async def test_what_needs_a_person_is_counted(tmp_path: Path) -> None:
    async with composed(tmp_path) as server:
        before = await _read(server.owner)
        for _ in range(2):
            made = await server.owner.create_workflow(NIGHTLY)
            assert (await server.owner.post(f"/v1/workflows/{made['id']}/publish")).status == 200
        await server.owner.post("/v1/hooks", {"name": "given up", "url": "https://8.8.8.8/"})
        by_hand = (await server.owner.post("/v1/hooks", {"name": "by hand", "url": "https://8.8.8.8/"})).data
        await server.execute(
            sa.update(hooks).values(status="disabled", disabled_reason="It answered 410.", disabled_at=1)
        )
        await server.owner.post(f"/v1/hooks/{by_hand['id']}/enable")
        await server.owner.post(f"/v1/hooks/{by_hand['id']}/disable")
        key = {"type": "http-bearer", "name": "Files", "data": {"token": "t0ken-of-files"}}
        key["allowedHosts"] = ["api.example.com"]
        assert (await server.owner.post("/v1/connectors", key)).status == 200
        failure = '{"what":"reconnect","message":"Its token is used up."}'
        await server.execute(sa.update(connectors).values(failing_since=1, failure=failure))
        first = sa.select(sa.func.min(subscriptions.c.pk)).scalar_subquery()
        await server.execute(sa.update(subscriptions).values(stalled_since=1))
        await server.execute(sa.update(subscriptions).where(subscriptions.c.pk == first).values(state="failed"))
        found = await _read(server.owner)
        await _is_shown(server, made["id"])
    name = "dustrun_needs_attention"
    assert {_value(before, name, kind=kind) for kind in attention.KINDS} == {0}
    grown = {kind: _value(found, name, kind=kind) for kind in attention.KINDS}
    assert {kind for kind, number in grown.items() if number} == {
        *("trigger-failed", "trigger-stalled", "hook-disabled", "connector-reconnect")
    }
    assert set(grown.values()) == {0, 1}
    assert _value(found, "dustrun_disk_free_bytes") > 0


_OVERVIEW = "/v1/overview?since=2020-01-01T00:00:00Z"


async def _is_shown(server: Composition, workflow_id: str) -> None:
    """To each key what it may see, the worst first."""
    shown = (await server.owner.get(_OVERVIEW)).data["attention"]
    assert [(one["kind"], one["name"]) for one in shown] == [
        ("trigger-failed", "flow"),
        ("connector-reconnect", "Files"),
        ("hook-disabled", "given up"),
        ("trigger-stalled", "flow"),
    ]
    assert shown[1]["message"] == "Its token is used up."
    assert (shown[3]["id"], shown[3]["since"]) == (workflow_id, "1970-01-01T00:00:00.001Z")
    limited = {"permissions": ["run:read", "workflow:read", "hook:read"], "workflowIds": [workflow_id]}
    made = (await server.owner.post("/v1/api-keys", {"name": "k", **limited})).data
    shown = (await server.client(made["key"]).get(_OVERVIEW)).data["attention"]
    assert [(one["kind"], one["id"]) for one in shown] == [("trigger-stalled", workflow_id)]
    assert (await (await server.client_with("run:read")).get(_OVERVIEW)).data["attention"] == []
    assert (await (await server.other_owner()).get(_OVERVIEW)).data["attention"] == []


def test_an_alert_has_a_series_before_the_first_one() -> None:
    (counter,) = [one for one in metrics.counters if one.name == "dustrun_alerts"]
    assert set(counter.values) == {("proxy",), ("second-opinion",), ("price",), ("allowance",)}


async def test_a_disk_that_fills_up_is_told_to_who_may_see_the_server(tmp_path: Path) -> None:
    async with composed(tmp_path) as server:
        for permissions, told in ((["admin"], []), (["metrics:read"], ["disk-low"])):
            principal = Principal("key", "org", frozenset(permissions))
            found = await list_for(principal, server.parts.database, tmp_path, low_bytes=1 << 62)
            assert [one.kind for one in found] == told


async def test_who_may_read_them(tmp_path: Path) -> None:
    async with composed(tmp_path) as server:
        await _denied(server)
    async with composed(tmp_path, metrics_public=True) as server:
        assert (await server.client(None).http.get("/metrics")).status_code == 200


async def _denied(server: Composition) -> None:
    assert (await server.client(None).get("/metrics")).code == 401001
    assert (await (await server.client_with("run:read")).get("/metrics")).code == 403001
    assert (await (await server.client_with("metrics:read")).http.get("/metrics")).status_code == 200
    for scope in ("read", "read-write"):
        made: dict[str, Any] = (await server.owner.post("/v1/api-keys", {"name": "k", "scope": scope})).data
        assert "metrics:read" not in made["permissions"]


def test_a_histogram_is_cumulative_when_it_is_shown() -> None:
    found = metrics.Histogram("t_seconds", "t", (), (1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 9.0):
        found.observe(value)
    assert (found.series[()].counts, found.series[()].total) == ([2, 1, 1], 12.0)


async def test_the_loop_and_unknown_routes_have_series_of_their_own(tmp_path: Path) -> None:
    async with composed(tmp_path) as server:
        await server.owner.get("/v1/" + "x" * 50)
        async with asyncio.timeout(60):
            while _value(found := await _read(server.owner), "dustrun_event_loop_lag_seconds_count") < 1:
                await asyncio.sleep(0.1)
    assert not [labels for _, labels in found if any("xxx" in value for _, value in labels)]


@pytest.mark.parametrize("method", ["BREW", "GET"])
async def test_a_strange_method_makes_no_series(tmp_path: Path, method: str) -> None:
    async with composed(tmp_path) as server:
        await server.owner.http.request(method, "/v1/workflows")
        found = await _read(server.owner)
    assert not [labels for _, labels in found if ("method", "BREW") in labels]
