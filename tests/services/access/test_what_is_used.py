"""Quotas of an organisation: shown, and refused by name with what is used and how it becomes less."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from dustrun.errors import Code
from testkit.composition import Composition, composed
from testkit.model_server import Reply, serving_model
from testkit.sharing import ended

_TABLE = {"name": "kept", "columns": [{"name": "id", "type": "text"}]}
_CONNECTOR = {"type": "http-bearer", "data": {"token": "t" * 30}, "allowedHosts": ["example.com"]}
_LIMITS = {"max_connectors": 1, "max_tables": 1, "max_table_rows": 2, "max_hooks": 1}


async def _quotas(server: Composition) -> dict[str, tuple[int, int | None]]:
    own = (await server.owner.get("/v1/organizations")).data["items"][0]["id"]
    items = (await server.owner.get(f"/v1/organizations/{own}/quotas")).data["items"]
    return {one["name"]: (one["used"], one["limit"]) for one in items}


@pytest.mark.both_stores
async def test_quotas_are_shown_and_refused_with_what_is_used(tmp_path: Path, store_url: str) -> None:
    async with composed(tmp_path, database_url=store_url, **_LIMITS) as server:
        assert (await server.owner.post("/v1/tables", _TABLE)).status == 200
        made = await server.owner.post("/v1/connectors", {**_CONNECTOR, "name": "a"})
        assert made.status == 200
        refused = {
            Code.TABLE_LIMIT: ("tables", await server.owner.post("/v1/tables", {**_TABLE, "name": "more"})),
            Code.CONNECTOR_LIMIT: (
                "connectors",
                await server.owner.post("/v1/connectors", {**_CONNECTOR, "name": "b"}),
            ),
        }
        for code, (what, answer) in refused.items():
            says = f"The organisation has 1 {what}, and may have 1 (setting max_{what}). Delete what nobody needs, or"
            assert (answer.code, answer.body["message"].startswith(says)) == (code, True), answer.body
        shown = await _quotas(server)
        assert (shown["tables"], shown["connectors"], shown["hooks"], shown["runs"]) == (
            (1, 1), (1, 1), (0, 1), (0, None)
        )  # fmt: skip
        assert (await server.owner.delete(f"/v1/connectors/{made.data['id']}")).status == 200
        assert (await server.owner.post("/v1/connectors", {**_CONNECTOR, "name": "b"})).status == 200


@pytest.mark.both_stores
async def test_no_turn_begins_once_the_assistants_tokens_are_used(tmp_path: Path, store_url: str) -> None:
    limits: dict[str, Any] = {"outbound_allow": ("127.0.0.1",), "max_model_tokens": 1}
    async with serving_model(Reply("Hello.")) as models, composed(tmp_path, database_url=store_url, **limits) as server:
        await server.owner.post("/v1/connectors", models.connector())
        chat = (await server.owner.post("/v1/conversations", {"title": "Plan"})).data["id"]
        assert (await _quotas(server))["modelTokens"] == (0, 1)
        begun = await server.owner.post(f"/v1/conversations/{chat}/turns", {"text": "Hi"})
        async with asyncio.timeout(180):
            while (await server.owner.get(f"/v1/conversations/{chat}/messages/{begun.data['messageId']}")).data[
                "status"
            ] == "streaming":
                await asyncio.sleep(0.02)
        used = (await _quotas(server))["modelTokens"][0]
        refused = await server.owner.post(f"/v1/conversations/{chat}/turns", {"text": "Hi"})
        assert (refused.code, f"has used {used} tokens" in refused.body["message"]) == (Code.MODEL_TOKEN_LIMIT, True)


async def test_a_quota_that_a_run_reaches_fails_its_step_and_nothing_is_lost(tmp_path: Path) -> None:
    """What was written before stays; with room again, a retry goes on from the step that failed."""
    async with composed(tmp_path, **_LIMITS) as server:
        table = (await server.owner.post("/v1/tables", _TABLE)).data["id"]
        steps: dict[str, Any] = {"root": {"type": "manual", "children": ["first"]}}
        for name, rows, after in (("first", 2, ["second"]), ("second", 1, [])):
            payload = {"table": table, "rows": [{"id": f"{name} {n}"} for n in range(rows)], "mode": "insert"}
            steps[name] = {"type": "write-table", "payload": payload, "children": after}
        run = (await server.owner.post("/v1/runs", {"definition": {"nodes": steps}})).data
        found = await ended(server.owner, run["runId"])
        error = found["executionState"]["second"]["error"]
        says = "The organisation would have 3 rows in tables, and may have 2 (setting max_table_rows)."
        assert (found["status"], found["executionState"]["first"]["status"]) == ("failure", "success")
        assert (error["code"], error["message"].startswith(says)) == ("TABLE_LIMIT", True), error
        assert (await _quotas(server))["tableRows"] == (2, 2)
        assert (await server.owner.delete(f"/v1/tables/{table}/rows/first%200")).status == 200
        again = await server.owner.post(f"/v1/runs/{run['runId']}/retry")
        assert again.status == 200, again.body
        assert (await ended(server.owner, again.data["runId"]))["status"] == "success"
        assert (await _quotas(server))["tableRows"] == (2, 2)
