"""Warnings where somebody outside names who is paid by way of another workflow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from testkit.composition import composed

Json = dict[str, Any]
SOMEBODY = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
ASK: Json = {"type": "http-request", "payload": {"url": "https://api.example.com/x"}}


def flow(trigger: str = "manual", **nodes: Json) -> Json:
    names = [*nodes]
    linked = {name: {**nodes[name], "children": [*following[:1]]} for name, following in _with_rest(names)}
    return {"nodes": {"root": {"type": trigger, "children": names[:1]}, **linked}, "triggerNodeIds": ["root"]}


def _with_rest(names: list[str]) -> list[tuple[str, list[str]]]:
    return [(name, names[place + 1 :]) for place, name in enumerate(names)]


def call(workflow_id: str, **payload: Any) -> Json:
    return {"type": "call-workflow", "payload": {"workflowId": workflow_id, "payload": payload}}


def pay(to: str) -> Json:
    return {"type": "send-native", "payload": {"chainId": 1, "recipient": to, "amount": "1"}}


async def test_what_a_called_workflow_returns_or_is_given(tmp_path: Path) -> None:
    async with composed(tmp_path) as server:
        api = server.owner
        await api.post("/v1/wallets", {"name": "w", "isDefault": True})

        async def warned(definition: Json) -> list[tuple[str, str]]:
            found = (await api.post("/v1/workflows/validate", {"definition": definition})).data
            assert found["errors"] == []
            names = [one for one in found["warnings"] if one["code"] == "SOURCE_NAMES_RECIPIENT"]
            return [(one["field"], one["message"]) for one in names]

        async def saved(definition: Json, name: str) -> str:
            return str((await api.create_workflow(definition, name=name))["id"])

        asking = await saved(flow(ask=ASK), "Asks")
        fixed = await saved(flow(say={"type": "log", "payload": {"message": SOMEBODY}}), "Says")
        paying = await saved(flow(pay=pay("{{$inputs.to}}")), "Pays")

        [(field, message)] = await warned(flow(get=call(asking), pay=pay("{{get.result.result.body.to}}")))
        assert field == "nodes.pay.payload.recipient"
        assert "the answer of api.example.com, by way of a called workflow" in message
        assert await warned(flow(get=call(fixed), pay=pay("{{get.result.result.message}}"))) == []
        assert await warned(flow(get=call(asking), pay=pay(SOMEBODY))) == []

        [(field, message)] = await warned(flow(ask=ASK, get=call(paying, to="{{ask.result.body.to}}")))
        assert field == "nodes.get.payload.workflowId"
        assert message.startswith('"Pays" pays whom the answer of api.example.com names')
        assert await warned(flow(ask=ASK, get=call(paying, to=SOMEBODY))) == []

        both = flow(ask=ASK, get=call(fixed), pay=pay("{{ask.result.body.to}}"))
        assert len(await warned(both)) == 1, "once"
