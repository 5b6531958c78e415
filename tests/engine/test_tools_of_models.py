"""What a model of a node may call: actions that compute or read, as a node would; nothing else is carried out."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from dustrun.core.validate.whole import MODEL_DECIDES as CODE
from dustrun.errors import Code
from engine.conftest import OWN_ACTIONS, Bench, Definition, trial
from engine.test_mcp_tools import made, read
from testkit.composition import composed
from testkit.mcp_server import Calls, serving, tools
from testkit.model_server import Asked, ModelServer, Reply, serving_model

SECRET = "s3cret-with-odd+signs&more"


@pytest.fixture
def calls(tmp_path: Path) -> Calls:
    return Calls(tmp_path / "calls.txt")


@pytest.fixture
async def bench(tmp_path: Path, store_url: str) -> AsyncIterator[Bench]:
    settings = {"actions_dir": OWN_ACTIONS, "outbound_allow": ("127.0.0.1",)}
    async with composed(tmp_path, database_url=store_url, **settings) as composition:
        yield Bench(composition)


async def connected(bench: Bench, body: dict[str, Any]) -> dict[str, str]:
    one = (await bench.api.post("/v1/connectors", body)).data
    return {"type": one["type"], "id": one["id"]}


def told(model: ModelServer) -> list[str]:
    """What the model was told by its tools, in its last request."""
    return [one["content"] for one in model.asked[-1].messages if one["role"] == "tool"]


class Scripted:
    """A model that makes the calls of a list, one request each, and then answers."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []

    def __call__(self, asked: Asked) -> Reply:
        made = sum(one["role"] == "tool" for one in asked.messages)
        return Reply(calls=(self.calls[made],)) if made < len(self.calls) else Reply("done")


async def test_what_a_model_calls(bench: Bench, calls: Calls) -> None:
    script = Scripted()
    async with (
        serving(tools(calls)) as port,
        serving_model(script=script) as model,
        serving_model(Reply(raw=json.dumps({"seen": f"{SECRET} 0.10000000000000000001"}).encode())) as site,
    ):
        own = await made(bench, port)
        await read(bench, own)
        await read(bench, own, look_up="read")
        bearer = {"type": "http-bearer", "name": "b", "data": {"token": SECRET}, "allowedHosts": [site.url]}
        mcp = {"type": "mcp", "id": own}
        listed = [
            {"type": "http-request", "name": "fetch", "payload": {"method": "GET"}, "hosts": [site.url]},
            {"type": "http-request", "name": "any", "hosts": [site.url], "connector": await connected(bench, bearer)},
            {"type": "mcp-tool", "name": "look", "payload": {"tool": "look_up"}, "connector": mcp},
            {"type": "mcp-tool", "name": "keep", "payload": {"tool": "store"}, "connector": mcp},
            {"type": "mcp-tool", "name": "whole", "connector": mcp},
            {"type": "format", "payload": {"template": "{{$trigger.body.word}}"}},
            {"type": "list-max"},
            {"type": "get-balance", "payload": {"chainId": 31337}},
        ]
        ask: Definition = {
            "type": "llm",
            "connector": await connected(bench, model.connector()),
            "payload": {"prompt": "Find it", "maxCostUsd": "1", "tools": listed, "maxCalls": 13},
        }
        await _reading(bench, script, model, site, calls, ask)
        await _refusing(bench, script, model, site, calls, ask)
        await _limits(bench, script, model, ask)
        await _where_nodes_can_be(bench, script, model, calls, ask)
        await _of_a_key_that_only_simulates(bench, script, model, ask)
        await _exported(bench, ask)
        await _are_none(bench, ask)
        await _deciding_money(bench, ask)


async def _reading(
    bench: Bench, script: Scripted, model: ModelServer, site: ModelServer, calls: Calls, ask: Definition
) -> None:
    """Reads and computing, live and simulated alike; secrets of any connector are masked."""
    script.calls = [
        ("fetch", {"url": f"{site.url}/a"}),
        ("any", {"method": "GET", "url": f"{site.url}/b"}),
        ("look", {"word": "x"}),
        ("format", {}),
        ("whole", {"tool": "look_up", "args": {"word": "y"}}),
    ]
    for number, simulate in enumerate((True, False), 1):
        run = await bench.run({"ask": ask}, simulate=simulate, payload={"word": "fixed"})
        assert run["status"] == "success", run["executionState"]
        found = run["executionState"]["ask"]["result"]
        assert [(one["tool"], one["ok"]) for one in found["toolCalls"]] == [(name, True) for name, _ in script.calls]
        assert (found["text"], found["requests"], found["costUsd"]) == ("done", 6, "0.0018")
        assert calls.seen() == ["look_up x", "look_up y"] * number
        assert [one.path for one in site.asked] == ["/a", "/b"] * number
        assert site.asked[-1].headers["authorization"] == f"Bearer {SECRET}"
        answers = told(model)
        assert "0.10000000000000000001" in answers[0]
        assert '"found":"X"' in answers[2]
        assert '"fixed"' in answers[3]
        assert SECRET not in model.asked[-1].raw.decode()
        assert SECRET not in json.dumps(run)
        assert run["passed"] is True
    offered = {one["function"]["name"]: one["function"] for one in model.asked[-1].body["tools"]}
    assert "method" not in offered["fetch"]["parameters"]["properties"]
    assert "effect" not in offered["any"]["parameters"]["properties"]
    assert site.url in offered["fetch"]["parameters"]["properties"]["url"]["description"]
    assert offered["look"]["parameters"]["properties"].keys() == {"word"}
    assert offered["look"]["description"] == "Looks up"


async def _refusing(
    bench: Bench, script: Scripted, model: ModelServer, site: ModelServer, calls: Calls, ask: Definition
) -> None:
    """Whatever a model calls, nothing is written, and it learns why."""
    expected = {
        ("fetch", '{"url": "http://127.0.0.1:1/x"}'): "must be on one of these hosts",
        ("fetch", '{"url": "file:///etc/passwd"}'): "must start with",
        ("fetch", '{"url": 7}'): "url",
        ("any", json.dumps({"method": "POST", "url": f"{site.url}/w"})): "would change something outside",
        ("any", json.dumps({"method": "POST", "url": f"{site.url}/w", "effect": "read"})): "`effect` is not yours",
        ("keep", '{"text": "t"}'): "would change something outside",
        ("whole", '{"tool": "store", "args": {"text": "t"}}'): "would change something outside",
        ("look", '{"word": 7}'): "do not satisfy",
        ("list_max", '{"nothing": 1}'): "arguments are not valid",
        ("get_balance", "{}"): "give the address",
        ("send_native", "{}"): "There is no such tool",
        ("look", "[1]"): "must be one JSON object",
        ("look", '{"wor'): "must be one JSON object",
    }
    script.calls = [(tool, args) for tool, args in expected]
    for simulate in (True, False):
        before = (calls.seen(), len(site.asked))
        run = await bench.run({"ask": ask}, simulate=simulate, payload={"word": "w"})
        assert run["executionState"]["ask"]["status"] == "success", run["executionState"]["ask"]
        assert [one["ok"] for one in run["executionState"]["ask"]["result"]["toolCalls"]] == [False] * len(expected)
        for answer, why in zip(told(model), expected.values(), strict=True):
            assert why in answer
        assert (calls.seen(), len(site.asked)) == before


async def _limits(bench: Bench, script: Scripted, model: ModelServer, ask: Definition) -> None:
    script.calls = [("format", {})] * 40
    before = len(model.asked)
    run = await bench.run({"ask": ask}, payload={"word": "w"})
    assert run["executionState"]["ask"]["error"]["code"] == "MODEL_TOOL_LOOP"
    assert len(model.asked) == before + 14
    poor = {**ask, "payload": {**ask["payload"], "maxCostUsd": "0.03"}}
    run = await bench.run({"ask": poor}, payload={"word": "w" * 9_000})
    assert run["executionState"]["ask"]["error"]["code"] == "MODEL_OVER_BUDGET"


async def _where_nodes_can_be(
    bench: Bench, script: Scripted, model: ModelServer, calls: Calls, ask: Definition
) -> None:
    """In a loop, in a called workflow, in a dust test, and not again in a retry."""
    script.calls = [("look", {"word": "loop"})]
    each = {"type": "for-each", "payload": {"array": ["a", "b"]}, "loopBody": ["ask"]}
    child = await bench.api.create_workflow(
        {"nodes": {"root": {"type": "manual", "children": ["ask"]}, "ask": ask}}, name="asks"
    )
    call = {"type": "call-workflow", "payload": {"workflowId": child["id"], "payload": {"word": "w"}}}
    nodes = {"each": each, "ask": ask, "call": call}
    for body in ({"simulate": True}, {"dustTest": True}, {}):
        before = len(calls.seen())
        run = await bench.run(nodes, payload={"word": "w"}, **body)
        assert (run["status"], len(calls.seen()) - before) == ("success", 3), run["executionState"]
    failing = {"ask": {**ask, "children": ["then"]}, "then": trial(outcomes=["permanent", "ok"])}
    failed = await bench.run(failing, payload={"word": "w"})
    assert failed["status"] == "failure"
    before, asked = len(calls.seen()), len(model.asked)
    again = await bench.ended((await bench.api.post(f"/v1/runs/{failed['id']}/retry", {})).data["runId"])
    assert (again["status"], len(calls.seen()), len(model.asked)) == ("success", before, asked)


async def _of_a_key_that_only_simulates(bench: Bench, script: Scripted, model: ModelServer, ask: Definition) -> None:
    """A tool's address must be one that somebody else has named, as a node's."""
    limited = await bench.composition.client_with("workflow:read", "workflow:simulate", "run:inline", "run:read")
    script.calls = []

    async def simulate(*listed: dict[str, Any]) -> tuple[int, str]:
        payload = {**ask["payload"], "tools": list(listed)}
        nodes = {"root": {"type": "manual", "children": ["ask"]}, "ask": {**ask, "payload": payload}}
        reply = await limited.post("/v1/runs", {"definition": {"nodes": nodes}, "simulate": True})
        return (reply.code if reply.status != 200 else 200), json.dumps(reply.body.get("details"))

    get = {"type": "http-request", "payload": {"method": "GET"}}
    allowed = model.url  # of the connector that asks it
    assert (await simulate({**get, "hosts": [allowed]}))[0] == 200
    assert await simulate({**get, "hosts": [allowed, "https://elsewhere.example"]}) == (
        Code.HOST_NOT_ALLOWED,
        json.dumps(
            [
                {
                    "field": "nodes.ask.payload.tools[0].payload.hosts",
                    "message": '"elsewhere.example" is in no live version, in no connector\'s allowedHosts, not in the '
                    "setting assistant_hosts, and the person has not named it",
                }
            ]
        ),
    )
    fixed = {"type": "http-request", "payload": {"url": "https://{{$trigger.body.host}}/x"}}
    assert (await simulate(fixed))[0] == Code.HOST_NOT_ALLOWED


async def _exported(bench: Bench, ask: Definition) -> None:
    """The connectors of tools are references of the workflow as those of nodes."""
    made = await bench.api.create_workflow(
        {"nodes": {"root": {"type": "manual", "children": ["ask"]}, "ask": ask}}, name="portable"
    )
    text = (await bench.api.get(f"/v1/workflows/{made['id']}/export")).data["content"]
    assert "conn_" not in text
    fields = [field for one in json.loads(text)["references"] for field in one["fields"]]
    assert "nodes.ask.payload.tools[1].connector.id" in fields
    assert len(fields) == len(set(fields))
    used = ask["payload"]["tools"][1]["connector"]["id"]
    assert (await bench.api.delete(f"/v1/connectors/{used}")).status == 409


NONE = [
    ({"type": "send-native"}, "[0].type", "would|changes something outside"),
    ({"type": "send-webhook"}, "[0].type", "changes something outside"),
    ({"type": "write-table"}, "[0].type", "changes something outside"),
    ({"type": "llm"}, "[0].type", "may not ask a model"),
    ({"type": "if"}, "[0].type", "only actions"),
    ({"type": "formt"}, "[0].type", 'Did you mean "format"'),
    ({"type": "{{$trigger.body.x}}"}, "[0].type", "write it out"),
    ({"type": "http-request"}, "[0].hosts", "where the model may choose"),
    ({"type": "http-request", "hosts": ["api.example.com"]}, "[0].hosts[0]", "pattern"),
    ({"type": "http-request", "payload": {"url": "https://a.example", "method": 7}}, "[0].payload.method", ""),
    ({"type": "format", "payload": {"tmplate": "x"}}, "[0].payload.tmplate", "template"),
    ({"type": "mcp-tool"}, "[0].connector", "needs a connector"),
    ({"type": "mcp-tool", "connector": {"type": "mcp", "id": "conn_x"}}, "[0].connector.id", "no connector"),
    ({"type": "get-balance", "connector": {"type": "wallet", "id": "wal_x"}}, "[0].connector", "no wallet"),
    ({"type": "format", "name": "two words"}, "[0].name", "pattern"),
]


async def _are_none(bench: Bench, ask: Definition) -> None:
    """What cannot be a tool, or does not fit it, is told before anything runs."""
    for tool, field, says in NONE:
        nodes = {
            "root": {"type": "manual", "children": ["ask"]},
            "ask": {**ask, "payload": {**ask["payload"], "tools": [tool]}},
        }
        found = (await bench.api.post("/v1/workflows/validate", {"definition": {"nodes": nodes}})).data["errors"]
        told = {one["field"]: one["message"] for one in found}
        assert any(part in told[f"nodes.ask.payload.tools{field}"] for part in says.split("|")), told
    twice = {**ask, "payload": {**ask["payload"], "tools": [{"type": "format"}, {"type": "format"}]}}
    nodes = {"root": {"type": "manual", "children": ["ask"]}, "ask": twice}
    found = (await bench.api.post("/v1/workflows/validate", {"definition": {"nodes": nodes}})).data["errors"]
    assert [one["field"] for one in found] == ["nodes.ask.payload.tools[1].name"]


async def _deciding_money(bench: Bench, ask: Definition) -> None:
    """A model with tools decides no less."""
    pay = {"type": "send-native", "payload": {"chainId": 1, "recipient": "{{ask.result.text}}", "amount": "1"}}
    root = {"type": "manual", "children": ["ask"]}
    nodes = {"root": root, "ask": {**ask, "children": ["pay"]}, "pay": pay}
    found = (await bench.api.post("/v1/workflows/validate", {"definition": {"nodes": nodes}})).data
    assert [one["field"] for one in found["warnings"] if one["code"] == CODE] == ["nodes.pay.payload.recipient"]
