"""Amounts that a contract call declares, made dust in a loop over called workflows: an item that failed, its retry, and
a restart in the middle. By the balances each item spends a cent's worth once."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from dustrun.cli.render import report as drawn_report
from engine.conftest import Bench
from engine.test_reports_of_calls import drawn
from engine.test_subworkflows import call
from outbox import ALICE, open_outbox
from rehearsals import SHOP, Run, Studio, describe, node, open_studio, told
from testkit.chain.contracts import RICH, Witness, World

Json = dict[str, Any]
CENT = 4 * 10**12  # of a coin of 2,500 dollars
STOPS = "0x600160005360016000f3"  # creates a contract of one byte, STOP


async def _flow(studio: Studio) -> str:
    """For each token, calls a workflow that waits for a person, sends some by a plain contract call, and deploys a
    contract that is given a coin."""
    payload = {
        "contract": "{{$trigger.token}}",
        "function": "transfer(address to, uint256 amount)",
        "args": {"to": SHOP, "amount": "{{$trigger.units}}"},
        "amounts": [{"argument": "amount", "token": "{{$trigger.token}}"}],
    }
    ask = {
        "type": "approve",
        "payload": {"message": "Go on?", "timeoutMs": 60_000, "allowStarter": True},
        "children": ["send"],
    }
    made = {"bytecode": STOPS, "value": str(10**18), "amounts": []}
    child = await studio.workflow(
        {
            "ask": ask,
            "send": node("write-contract", "make", payload=payload),
            "make": node("deploy-contract", payload=made),
        }
    )
    each = {
        "type": "for-each",
        "payload": {"array": "{{$trigger.rows}}", "onItemError": "continue"},
        "loopBody": ["call"],
    }
    return await studio.workflow({"each": each, "call": call(child, payload={"payload": "{{$item}}"})})


async def _asked(bench: Bench) -> str:
    """The one approval that somebody waits for."""
    async with asyncio.timeout(60):
        while True:
            found = (await bench.api.get("/v1/approvals?status=pending")).data["items"]
            for one in found:
                if one["message"] == "Go on?":
                    return str(one["id"])
            await asyncio.sleep(0.05)


async def _coins_of_contracts(bench: Bench, witness: Witness, tops: tuple[str, ...]) -> list[int]:
    """What each contract has that the runs deployed, by the chain."""
    reports = [(await bench.api.get(f"/v1/runs/{top}/effects")).data for top in tops]
    hashes = [one["hash"] for report in reports for one in report["transactions"] if one["path"].endswith("/make")]
    receipts = [witness.web3.eth.get_transaction_receipt(found) for found in hashes]
    return [witness.native(str(receipt["contractAddress"])) for receipt in receipts]


async def _approve(bench: Bench) -> None:
    assert (await bench.api.post(f"/v1/approvals/{await _asked(bench)}/approve", {})).status == 200


async def test_each_item_spends_its_declared_cent_once(tmp_path: Path, world: World, store_url: str) -> None:
    with world.node() as chain:
        async with open_studio(tmp_path, world, chain, store_url=store_url) as studio:
            await studio.let(allowDeploy=True)
            at, witness = studio.witness.addresses, studio.witness
            had = witness.balance("dai", ALICE)
            witness.send("dai", "transfer", RICH, had, sender=ALICE)  # the second item has nothing to send
            before = [witness.balance(token, SHOP) for token in ("usdc", "dai")]
            rows = [{"token": at["usdc"], "units": "5000000000"}, {"token": at["dai"], "units": str(5 * 10**21)}]
            top = await _flow(studio)
            path = f"/v1/workflows/{top}/run"
            started = (await studio.api.post(path, {"payload": {"rows": rows}, "dustTest": True})).data["runId"]
            await _approve(studio.bench)
            await _approve(studio.bench)
            first: Run = await studio.bench.ended(started)
            assert first["status"] == "partial", told(first)
            witness.send("dai", "transfer", ALICE, had, sender=RICH)
            again = (await studio.api.post(f"/v1/runs/{started}/retry")).data["runId"]
            await _asked(studio.bench)
        described = describe(world.network(chain.url))
        async with open_outbox(tmp_path, chain, store_url, described, reuse=True) as outbox:
            bench = Bench(outbox.composition)
            await Studio(outbox, witness).let(allowDeploy=True)
            await _approve(bench)
            run = await bench.ended(again)
            assert run["status"] == "success", told(run)
            gained = [witness.balance(token, SHOP) - old for token, old in zip(("usdc", "dai"), before, strict=True)]
            assert gained == [10_000, 10**16]
            report: Json = (await bench.api.get(f"/v1/runs/{again}/effects")).data
            scaled = {one["path"]: int(one["dust"]) for one in report["dust"]["scaled"]}
            assert scaled == {"each[1].call/send": 10**16, "each[1].call/make": CENT}
            assert [one["path"] for one in report["transactions"]] == list(scaled)
            assert await _coins_of_contracts(bench, witness, (started, again)) == [CENT, CENT]
            assert "each[1].call/send: amounts[0].units 5000 becomes 0.01 DAI" in drawn(*drawn_report.draw(report))
