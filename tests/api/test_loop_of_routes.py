"""No route, with inputs and stored data at their limits, holds the event loop for 100 ms of processor time."""

from __future__ import annotations

import asyncio
import functools
import json
from typing import Any

from dustrun import ids
from testkit.composition import Composition
from testkit.loop_watch import LoopWatch, least_hold, watched
from testkit.route_drivers import Drivers, body_of, worst_body

MOST_S = 0.1
ROWS = [{"n": number} for number in range(45_000)]
CALLS = 200
NAMED = {"name": "name", "type": "manual", "chainId": "1", "number": "2", "nodeId": "n", "key": "1", "messageId": "x"}


def _definition(count: int, text: str) -> dict[str, Any]:
    names = [f"n{number}" for number in range(count)]
    nodes = {name: {"type": "log", "payload": {"message": f"{name} {text}"}} for name in names}
    return {"nodes": {"root": {"type": "manual", "children": names}, **nodes}, "triggerNodeIds": ["root"]}


def _only(node: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"nodes": {"root": {"type": "manual", "children": ["n"]}, "n": node, **more}, "triggerNodeIds": ["root"]}


LARGE = _definition(900, "x" * 1_000)


class World:
    """A server with a large definition in two versions, a large run, many called runs, and full lists."""

    def __init__(self, server: Composition) -> None:
        self.drivers = Drivers(server)
        self.known: dict[str, str] = {}

    async def send(self, method: str, path: str, document: Any = None) -> Any:
        """The data of an answer that must be a success."""
        body = None if document is None else body_of(document)
        status, answer = await self.drivers.call(method, path, body)
        assert status == 200, (method, path, answer[:500])
        return json.loads(answer)["data"]

    async def build(self) -> None:
        """Makes what the routes are driven with."""
        made = await self.send("POST", "/v1/workflows", {"name": "large", "description": "", "definition": LARGE})
        workflow: str = made["id"]
        await self.send("PUT", f"/v1/workflows/{workflow}", {"definition": _definition(900, "y" * 1_000)})
        await self.send("PUT", f"/v1/workflows/{workflow}/variables/name", {"type": "any"})
        await self._lists()
        columns = [{"name": "id", "type": "integer"}, {"name": "text", "type": "text"}]
        table = await self.send("POST", "/v1/tables", {"name": "rows", "primaryKey": "id", "columns": columns})
        run = await self._run(_only({"type": "sort", "payload": {"array": "{{$trigger.body.rows}}"}}), {"rows": ROWS})
        self.known |= {"workflow": workflow, "table": table["id"], "run": run, "callers": await self._callers()}
        self.drivers.values = {
            "/": {**NAMED, "id": "unknown"},
            "/v1/workflows/": {"id": workflow},
            "/v1/runs/": {"id": run, "otherId": run},
            "/v1/tables/": {"id": table["id"]},
        }

    async def _lists(self) -> None:
        for number in range(50):
            await self.send("POST", "/v1/workflows", {"name": f"w{number}", "description": "d" * 2000,
                                                      "definition": _definition(50, "z")})  # fmt: skip
            await self.send("POST", "/v1/conversations", {"title": "t"})

    async def _callers(self) -> str:
        """A run that has called many others."""
        child = await self.send("POST", "/v1/workflows", {
            "name": "child", "description": "", "definition": _only({"type": "log", "payload": {"message": "x" * 200}}),
        })  # fmt: skip
        call = {"type": "call-workflow", "payload": {"workflowId": child["id"]}}
        loop = {"type": "for-each", "payload": {"array": list(range(CALLS)), "concurrency": 50}, "loopBody": ["call"]}
        return await self._run(_only(loop, call=call), {})

    async def _run(self, definition: dict[str, Any], payload: dict[str, Any]) -> str:
        run_id = ids.new_id("run")
        await self.send("POST", "/v1/runs", {"definition": definition, "payload": payload, "runId": run_id})
        while (await self.send("GET", f"/v1/runs/{run_id}?summary=true"))["status"] in ("running", "waiting"):
            await asyncio.sleep(0.05)
        return run_id

    async def holds(self, watch: LoopWatch, requests: list[tuple[str, str, bytes | None]]) -> dict[str, int]:
        """Which requests hold the loop too long, and for how many milliseconds."""
        found: dict[str, int] = {}
        for method, path, body in requests:
            held = await least_hold(watch, functools.partial(self._call, method, path, body), MOST_S)
            if held >= MOST_S:
                found[f"{method} {path} {(body or b'')[:40]!r}"] = round(held * 1000)
        return found

    async def _call(self, method: str, path: str, body: bytes | None) -> None:
        status, answer = await self.drivers.call(method, path, body)
        assert status < 500, (method, path, answer[:500])


def _fields(route: Any) -> list[str]:
    """The wire names of the fields of a route's body."""
    model = getattr(getattr(route, "body_field", None), "field_info", None)
    kinds = [model.annotation, *getattr(model.annotation, "__args__", ())] if model is not None else []
    fields: dict[str, Any] = next((kind.model_fields for kind in kinds if hasattr(kind, "model_fields")), {})
    return [field.alias or name for name, field in fields.items()]


async def test_no_route_holds_the_loop(server: Composition) -> None:
    """Each route with the largest wrong body, and what some accept or show at its largest. Those that delete come last.
    A route without a driver fails."""
    world = World(server)
    await world.build()
    requests: list[tuple[str, str, bytes | None]] = []
    undriven: list[str] = []
    for route in server.app.routes:
        for method in sorted(route.methods - {"HEAD"}):
            path = world.drivers.path(route.path)
            body = worst_body(_fields(route)) if method not in ("GET", "DELETE") else None
            if path is None:
                undriven.append(f"{method} {route.path}: a placeholder of its path is unknown to the test")
            else:
                requests.append((method, path, body))
    assert undriven == []
    requests.sort(key=lambda request: request[0] == "DELETE")
    with watched() as watch:
        held = await world.holds(watch, await _large(world))
        assert held | await world.holds(watch, requests) == {}


async def _large(world: World) -> list[tuple[str, str, bytes | None]]:
    """Requests that are valid and large, or whose answers are large."""
    workflow, run, callers, table = (f"/v1/{kind}s/{world.known[name]}" for kind, name in (
        ("workflow", "workflow"), ("run", "run"), ("run", "callers"), ("table", "table")))  # fmt: skip
    other = world.known["callers"]
    exported = (await world.send("GET", f"{workflow}/export?format=yaml"))["content"]
    assert len(exported) > 900_000
    items = [{"id": number, "text": "t" * 900} for number in range(1_000)]
    data = {"payload": {"rows": ROWS, "decimals": ["1.5"] * 20_000}}
    quick = _only({"type": "stop", "payload": {}})
    sent: list[tuple[str, str, Any]] = [
        ("POST", "/v1/workflows", {"name": "copy", "description": "", "definition": LARGE}),
        ("PUT", workflow, {"definition": LARGE}),
        ("PATCH", f"{workflow}/ui-metadata", {"uiMetadata": {"rows": ROWS}}),
        ("POST", "/v1/workflows/validate", {"definition": LARGE}),
        ("POST", "/v1/workflows/validate", {"definition": _definition(12_000, "")}),
        ("POST", "/v1/workflows/analyze-funds", {"definition": LARGE}),
        ("POST", f"{workflow}/dust-plan", data),
        ("POST", "/v1/workflows/import", {"content": exported, "name": "imported"}),
        ("POST", "/v1/workflows/apply", {"files": [{"path": "a.yaml", "content": exported}], "dryRun": True}),
        ("POST", f"{workflow}/run", {}),
        ("POST", "/v1/runs/sync", {"definition": quick, **data}),
        ("POST", f"{workflow}/variables/name/value", {"value": ROWS[:20_000]}),
        ("POST", f"{table}/rows", {"rows": items}),
        ("PATCH", f"{table}/rows", {"where": {"id": {"$gte": 0}}, "values": {"text": "new"}}),
        ("GET", workflow, None),
        ("GET", f"{workflow}/draft", None),
        ("GET", f"{workflow}/versions", None),
        ("GET", f"{workflow}/versions/1", None),
        ("GET", f"{workflow}/versions/2/diff?against=1", None),
        ("GET", f"{workflow}/export?format=json", None),
        ("GET", f"{workflow}/variables", None),
        ("GET", f"{workflow}/variables/name/history", None),
        ("GET", run, None),
        ("GET", f"{run}/effects", None),
        ("GET", callers, None),
        ("GET", f"{callers}/effects", None),
        ("GET", f"{callers}/compare/{other}", None),
        ("GET", "/v1/runs?limit=100", None),
        ("GET", "/v1/workflows?limit=100", None),
        ("GET", f"{table}/rows?limit=100", None),
        ("GET", f"{table}/export", None),
        ("POST", f"{table}/rows/delete", {"where": {"id": {"$gte": 0}}}),
    ]  # fmt: skip
    return [(method, path, None if body is None else body_of(body)) for method, path, body in sent]
