"""The statement `sources` of a policy: what shapes a spend decides whether a person is asked, in every mode."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from dustrun.core.money.policy.sources_rule import default_sources
from outbox import address
from rehearsals import Studio, hand, node, open_studio, pay, say, told
from testkit.chain.anvil import CHAIN_ID
from testkit.chain.contracts import World
from testkit.postgres import Cluster

Nodes = dict[str, Any]
_NEW = {name: rule.model_dump(mode="json", by_alias=True) for name, rule in default_sources().items()}


@pytest.fixture
async def studio(tmp_path: Path, world: World) -> AsyncIterator[Studio]:
    with world.node() as chain:
        async with open_studio(tmp_path, world, chain) as studio:
            rules: dict[str, Any] = {"amount": {"allow": ["definition", "starter", "chain"]}}
            rules["recipient"] = {"allow": ["definition", "starter"], "otherwise": "deny"}
            await studio.let(sources=rules)
            yield studio


async def asked(studio: Studio, run_id: str) -> list[str]:
    """Why a run waits for a person; empty if it has ended well."""
    return [one["message"] for one in await asked_by(studio, run_id)]


async def asked_by(studio: Studio, run_id: str) -> list[dict[str, Any]]:
    """The open questions of a run; empty if it has ended well. Before one it may wait for a run that it has called."""
    async with asyncio.timeout(60):
        while True:
            run = await studio.bench.until(run_id, lambda run: run["status"] in ("waiting", "success", "failure"))
            if run["status"] != "waiting":
                assert run["status"] == "success", told(run)
                return []
            items = (await studio.api.get("/v1/approvals")).data["items"]
            if pending := [one for one in items if one["runId"] == run_id and one["status"] == "pending"]:
                return pending
            await asyncio.sleep(0.05)


async def test_what_a_spend_hangs_on_asks_denies_or_passes_by_its_field(studio: Studio) -> None:
    """Constants and payloads of a starter pass; an amount by the clock asks, a recipient by it is denied. Also where
    another run is called, and in a simulation as live."""
    odd = "{{$now != '' ? '7' : '9'}}"
    passing = await studio.workflow({"pay": pay("{{$inputs.n}}")})
    started = await studio.api.post(f"/v1/workflows/{passing}/run", {"payload": {"n": "5"}})
    assert await asked(studio, started.data["runId"]) == []
    await _is_kept(studio, started.data["runId"], passing)

    asking = await studio.workflow({"pay": pay(odd)})
    assert await _simulated(studio, asking) == ["ask"]
    run_id = (await studio.api.post(f"/v1/workflows/{asking}/run", {})).data["runId"]
    (why,) = await asked(studio, run_id)
    assert "The amount hangs on clock" in why, why
    items = (await studio.api.get("/v1/approvals")).data["items"]
    (question,) = [one["id"] for one in items if one["runId"] == run_id]
    (spend,) = (await studio.api.get(f"/v1/approvals/{question}")).data["sources"]
    amount = next(one for one in spend["fields"] if one["field"] == "amount")
    assert (spend["nodeId"], "the time" in {one["says"] for one in amount["sources"]}) == ("pay", True)

    unsaved = await studio.bench.start({"pay": pay(odd)})
    (why,) = await asked(studio, unsaved)
    assert "The amount hangs on clock" in why, "also in a definition that is not saved"

    denied = await studio.workflow({"pay": pay(1, to="{{$now != '' ? '" + address(2) + "' : '" + address(3) + "'}}")})
    assert await _simulated(studio, denied) == ["deny"]
    run = await studio.run(denied)
    assert (run["status"], "The recipient hangs on clock" in str(told(run))) == ("failure", True)

    helper = await studio.workflow({"say": {"type": "log", "payload": {"message": odd}}})
    call = {"type": "call-workflow", "payload": {"workflowId": helper}, "children": ["pay"]}
    calling = await studio.workflow({"call": call, "pay": pay("{{call.result.result.message}}")})
    (why,) = await asked(studio, (await studio.api.post(f"/v1/workflows/{calling}/run", {})).data["runId"])
    assert "The amount hangs on clock" in why

    inner = await studio.workflow({"pay": pay("{{$inputs.n}}")})
    call = {"type": "call-workflow", "payload": {"workflowId": inner, "payload": {"n": odd}}}
    (why,) = await _asked_anywhere(studio, await studio.workflow({"call": call}))
    assert "The amount hangs on clock" in why


async def _is_kept(studio: Studio, run_id: str, workflow_id: str) -> None:
    """What judged a spend stays with it and with its movements in the ledger."""
    (shown,) = (await studio.api.get(f"/v1/transactions?runId={run_id}")).data["items"]
    transaction = (await studio.api.get(f"/v1/transactions/{shown['id']}")).data
    by = [f"definition:{workflow_id}@1"]
    expected = {
        "amount": [f"chain:{CHAIN_ID}", *by, "starter"],
        "chain": by,
        "recipient": by,
        "wallet": ["setting:default-wallet"],
    }
    assert (transaction["sources"], set(transaction["verdict"])) == (expected, {"outcome", "reasons"})
    report = (await studio.api.get(f"/v1/runs/{run_id}/effects")).data
    assert set(report["transactions"][0]["verdict"]) == {"outcome", "reasons"}, "as a simulation shows it"
    async with asyncio.timeout(30):
        while not (entries := (await studio.api.get(f"/v1/ledger?runId={run_id}")).data["items"]):
            await asyncio.sleep(0.05)
    assert [one["sources"] for one in entries] == [expected] * len(entries)


async def _simulated(studio: Studio, workflow_id: str) -> list[str]:
    run = await studio.run(workflow_id, simulate=True)
    return [one["outcome"] for one in (await studio.effects(run))["policyVerdicts"]]


async def _asked_anywhere(studio: Studio, workflow_id: str) -> list[str]:
    before = {one["id"] for one in (await studio.api.get("/v1/approvals")).data["items"]}
    run_id = (await studio.api.post(f"/v1/workflows/{workflow_id}/run", {})).data["runId"]
    await studio.bench.until(run_id, lambda run: run["status"] == "waiting")
    while True:
        items = (await studio.api.get("/v1/approvals")).data["items"]
        found = [one["message"] for one in items if one["id"] not in before]
        if found:
            return found


async def test_who_may_spend_and_saw_the_amount_is_not_asked_twice(studio: Studio) -> None:
    """An `approve` node stands for what its message shows by the same references."""
    make = studio.outbox.composition
    approver = await make.client_with("approval:decide", "wallet:spend")
    clerk = await make.client_with("approval:decide")
    ask = {"type": "approve", "payload": {"message": "Pay {{made.result.message}}?"}, "children": ["pay"]}
    made = {"type": "log", "payload": {"message": "{{$now != '' ? '7' : '9'}}"}, "children": ["ask"]}
    flow = await studio.workflow(
        {"made": made, "ask": ask, "pay": pay("{{string(int(made.result.message))}}", branch="approved")}
    )
    for by, questions in ((approver, 1), (clerk, 2)):
        run_id = (await studio.api.post(f"/v1/workflows/{flow}/run", {})).data["runId"]
        await studio.bench.until(run_id, lambda run: run["status"] == "waiting")
        items = (await studio.api.get("/v1/approvals")).data["items"]
        (question,) = [one["id"] for one in items if one["runId"] == run_id]
        assert (await by.post(f"/v1/approvals/{question}/approve")).status == 200
        waits: list[str] = []
        if questions == 2:
            while not waits:
                items = (await studio.api.get("/v1/approvals")).data["items"]
                waits = [o["message"] for o in items if o["runId"] == run_id and o["status"] == "pending"]
            assert "The amount hangs on clock" in waits[0]
        else:
            assert (await studio.bench.ended(run_id))["status"] == "success"


async def _outcome(studio: Studio, workflow_id: str, **payload: Any) -> list[str]:
    """The verdicts of a simulation by the owner, each with what it asks about."""
    run = await studio.run(workflow_id, simulate=True, payload=payload)
    assert run["status"] == "success", told(run)
    verdicts = (await studio.effects(run))["policyVerdicts"]
    return ["allow" if one["outcome"] == "allow" else f"{one['outcome']} {one['reasons']}" for one in verdicts]


async def test_a_contract_is_judged_by_its_address_in_the_run(tmp_path: Path, world: World, cluster: Cluster) -> None:
    """Where a payload names it: those of the network's file count like the chain, also by symbol, and a token about
    itself; any other asks, alone, retried, in a loop, in a called workflow, and from what an earlier run stored."""
    tokens = [{"address": world.addresses["usdc"], "symbol": "USDC", "decimals": 6}]
    at, strange = world.addresses, f"contract:{CHAIN_ID}/{world.addresses['fee']}"
    with world.node() as chain:
        async with open_studio(tmp_path, world, chain, store_url=cluster.fresh(), network={"tokens": tokens}) as studio:
            await studio.let(sources=_NEW)
            digits = "{{string(%s.result.decimals * 1)}}"
            info = node("get-token-info", "pay", payload={"token": "{{$inputs.token}}"})
            native = await studio.workflow({"info": info, "pay": pay(digits % "info")})
            for token in ("USDC", at["usdc"], at["weth"]):
                assert await _outcome(studio, native, token=token) == ["allow"], token
            (asked,) = await _outcome(studio, native, token=at["fee"])
            assert strange in asked, "whose decimals say how much of another coin is paid"

            by = await studio.outbox.composition.client_with("approval:decide", "wallet:spend")
            run_id = (await studio.api.post(f"/v1/workflows/{native}/run", {"payload": {"token": at["fee"]}})).data[
                "runId"
            ]
            for _ in ("live", "a retry, which keeps what it was told"):
                (why,) = await asked_by(studio, run_id)
                assert strange in why["message"]
                assert (await by.post(f"/v1/approvals/{why['id']}/reject")).status == 200
                assert (await studio.bench.ended(run_id))["status"] == "failure"
                run_id = (await studio.api.post(f"/v1/runs/{run_id}/retry", {})).data["runId"]
            assert await asked_by(studio, run_id)

            own = await studio.workflow({"info": info, "pay": hand("{{info.result.token}}", digits % "info")})
            assert await _outcome(studio, own, token=at["fee"]) == ["allow"]
            (asked,) = await _outcome(
                studio, await studio.workflow({"info": info, "pay": hand(at["usdc"], digits % "info")}), token=at["fee"]
            )
            assert strange in asked

            calls = [{"contract": "{{$inputs.token}}", "function": "decimals() returns (uint8)"}]
            many = node("multicall-read", "pay", payload={"calls": calls})
            several = await studio.workflow({"many": many, "pay": pay("{{string(int(many.result.results[0].value))}}")})
            assert await _outcome(studio, several, token=at["weth"]) == ["allow"]
            assert strange in str(await _outcome(studio, several, token=at["fee"]))

            loop = {"type": "for-each", "payload": {"array": "{{$inputs.tokens}}"}, "loopBody": ["info"]}
            each = {**info, "payload": {**info["payload"], "token": "{{$item}}"}}
            looped = await studio.workflow({"loop": loop, "info": each, "pay": pay(digits % "info")})
            assert await _outcome(studio, looped, tokens=["USDC", at["weth"]]) == ["allow", "allow"]
            assert strange in (await _outcome(studio, looped, tokens=["USDC", at["fee"]]))[1]

            helper = await studio.workflow({"info": {**info, "children": []}})
            ask = {
                "type": "call-workflow",
                "payload": {"workflowId": helper, "payload": {"token": "{{$inputs.token}}"}},
            }
            calling = await studio.workflow(
                {"ask": {**ask, "children": ["pay"]}, "pay": pay("{{string(ask.result.result.decimals * 1)}}")}
            )
            assert await _outcome(studio, calling, token="USDC") == ["allow"]
            assert strange in str(await _outcome(studio, calling, token=at["fee"]))

            keep = {"type": "set-variable", "payload": {"name": "v", "value": "{{info.result.decimals}}"}}
            kept = await studio.workflow(
                {
                    "test": {
                        "type": "if",
                        "payload": {"expression": "$inputs.token != ''"},
                        "children": ["info", "pay"],
                    },
                    "info": {**info, "children": ["keep"], "branch": "then"},
                    "keep": keep,
                    "pay": {**pay("{{string($vars.v * 1)}}"), "branch": "else"},
                },
                defs=[{"name": "v", "type": "any", "default": 1, "lifetime": "persist"}],
            )
            (asked,) = await _outcome(studio, kept, token="")
            assert "contract:*/*" in asked, "whoever wrote it may have asked any contract"


async def test_only_a_key_that_starts_a_run_stands_for_what_it_began_with(studio: Studio) -> None:
    """A form does not, also where a key retries its run, or where it is called by a call that computes its workflow."""
    await studio.let(sources=_NEW)
    schema = {"type": "object", "properties": {"n": {"type": "string"}}}
    for is_computed in (False, True):
        top = flow = await studio.workflow({"pay": pay("{{$inputs.n}}", "fail"), "fail": say("{{int('x')}}")})
        if is_computed:
            pick = {"workflowId": "{{$workflow.name == 'x' ? 'y' : '" + flow + "'}}", "payload": {"n": "{{$inputs.n}}"}}
            top = await studio.workflow({"call": {"type": "call-workflow", "payload": pick}})
        definition = (await studio.api.get(f"/v1/workflows/{top}")).data["definition"]
        definition["nodes"]["root"]["payload"] = {"inputSchema": schema}
        assert (await studio.api.put(f"/v1/workflows/{top}", {"definition": definition})).status == 200
        assert (await studio.api.post(f"/v1/workflows/{top}/publish", {})).status == 200
        made = (await studio.api.post(f"/v1/workflows/{top}/forms", {})).data
        public = studio.outbox.composition.client(None)
        sent = await public.post(f"/v1/forms/{made['url'].rsplit('/', 1)[1]}", {"values": {"n": "7"}})
        assert sent.status < 300, sent.body
        (run,) = (await studio.api.get(f"/v1/runs?workflowId={top}")).data["items"]
        await studio.bench.ended(run["id"])
        again = (await studio.api.post(f"/v1/runs/{run['id']}/retry", {})).data["runId"]
        await studio.bench.ended(again)
        for one in (run["id"], again):
            (verdict,) = (await studio.effects({"id": one}))["policyVerdicts"]
            assert (verdict["outcome"], verdict["reasons"][0]["statement"]) == ("ask", "sources.amount")


async def test_only_the_trigger_that_fired_shapes_a_run(studio: Studio) -> None:
    """An owner who starts a workflow by hand is not asked because a webhook could start it too. What it can be shaped
    by, whoever starts it, is still told before."""
    nodes: Nodes = {
        "root": {"type": "manual", "children": ["pay"]},
        "hook": {"type": "webhook", "payload": {}, "children": ["pay"]},
        "pay": pay("{{string($trigger.body.n)}}"),
    }
    made = await studio.api.create_workflow({"nodes": nodes, "triggerNodeIds": ["root", "hook"]})
    path = f"/v1/workflows/{made['id']}"
    (spend,) = (await studio.api.get(f"{path}/sources")).data["items"]
    assert {"trigger:manual.n", "trigger:webhook.n"} <= _amount_of(spend)
    assert (await studio.run(made["id"], simulate=True, payload={"n": 5}))["status"] == "success"
    started = (await studio.api.post(f"{path}/run", {"payload": {"n": 5}})).data["runId"]
    assert await asked(studio, started) == []
    report = (await studio.api.get(f"/v1/runs/{started}/effects?include=sources")).data
    assert "trigger:webhook.n" not in _amount_of(report["sources"][0])

    assert (await studio.api.post(f"{path}/publish")).status == 200
    hook = (await studio.api.post(f"{path}/webhooks/hook/rotate", {})).data["url"]
    reply = await studio.outbox.composition.client(None).http.post("/" + hook.split("/", 3)[3], json={"n": 5})
    assert reply.json()["data"]["action"] == "triggered"
    (why,) = await _asked_by_webhook(studio, made["id"])
    assert "The amount hangs on trigger:webhook.n" in why, why


async def _asked_by_webhook(studio: Studio, workflow_id: str) -> list[str]:
    async with asyncio.timeout(30):
        while True:
            found = (await studio.api.get(f"/v1/runs?workflowId={workflow_id}")).data["items"]
            for one in found:
                if one["triggerSource"] == "webhook":
                    return await asked(studio, one["id"])
            await asyncio.sleep(0.05)


def _amount_of(spend: dict[str, Any]) -> set[str]:
    return {one["source"] for field in spend["fields"] if field["field"] == "amount" for one in field["sources"]}


@pytest.mark.parametrize("is_in_loop", [False, True])
async def test_a_spend_is_judged_by_the_versions_that_its_run_has_called(studio: Studio, is_in_loop: bool) -> None:
    """What gave the amount may have been edited while the run waited, in either way."""
    odd, plain = "{{$now != '' ? '7' : '9'}}", "7"
    for before, after, questions in ((odd, plain, 1), (plain, odd, 0)):
        helper = await studio.workflow({"say": say(before)})
        between = await studio.workflow(
            {"in": {"type": "call-workflow", "payload": {"workflowId": helper}, "children": ["out"]}}
            | {"out": say("{{in.result.result.message}}")}
        )
        wait = {"type": "wait", "payload": {"timeoutMs": 3_600_000}, "children": ["pay"]}
        nodes: Nodes = {
            "ask": {"type": "call-workflow", "payload": {"workflowId": between}, "children": ["wait"]},
            "wait": wait,
            "pay": pay("{{ask.result.result.message}}"),
        }
        if is_in_loop:
            nodes = {"each": {"type": "for-each", "payload": {"array": [1]}, "loopBody": ["ask"]}, **nodes}
        flow = await studio.workflow(nodes)
        run_id = (await studio.api.post(f"/v1/workflows/{flow}/run", {})).data["runId"]
        await studio.bench.until(run_id, lambda run: _waits_at(run, "wait"))
        named = {"nodes": {"root": {"type": "manual", "children": ["say"]}, "say": say(after)}}
        assert (await studio.api.put(f"/v1/workflows/{helper}", {"definition": named})).status == 200
        node_id = "each[0].wait" if is_in_loop else "wait"
        assert (await studio.api.post(f"/v1/runs/{run_id}/nodes/{node_id}/resume", {"data": {}})).status == 200
        await studio.bench.until(run_id, lambda run: run["finishedAt"] is not None or _waits_at(run, "pay"))
        why = await _asked_after(studio, run_id)
        assert len(why) == questions, (before, why)


def _waits_at(run: dict[str, Any], node_id: str) -> bool:
    """Whether a node waits, in the first item of the loop if there is one."""
    state = run["executionState"]
    inner = (state.get("each") or {}).get("iterations") or [state]
    return bool((inner[0].get(node_id) or {}).get("status") == "waiting")


async def _asked_after(studio: Studio, run_id: str) -> list[str]:
    run = (await studio.api.get(f"/v1/runs/{run_id}")).data
    if run["finishedAt"] is not None:
        assert run["status"] == "success", told(run)
        return []
    items = (await studio.api.get("/v1/approvals?status=pending")).data["items"]
    return [one["message"] for one in items if one["runId"] == run_id]
