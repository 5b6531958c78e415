"""A node whose wallet is an expression: every item is judged by the wallet that it names, in every mode."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from engine.test_subworkflows import call
from outbox import ALICE, ANYTHING, address
from rehearsals import CHAIN_ID, SHOP, Run, Studio, error, open_studio, pay, second_wallet, told
from testkit.chain.contracts import World
from testkit.composition import Client

Json = dict[str, Any]
CHOSEN = "{{$item.wallet}}"
NATIVE = f"eip155:{CHAIN_ID}/native"
SPENDER = ("workflow:create", "workflow:read", "workflow:update", "workflow:execute", "run:read", "wallet:spend")


@pytest.fixture
async def studio(tmp_path: Path, world: World, store_url: str) -> AsyncIterator[Studio]:
    with world.node() as chain:
        async with open_studio(tmp_path, world, chain, store_url=store_url) as studio:
            yield studio


def by(wallet: str = CHOSEN, *one_of: str) -> Json:
    """A reference to the wallet that an expression gives."""
    return {"type": "wallet", "id": wallet, **({"oneOf": [*one_of]} if one_of else {})}


def each(*children: str, **more: Any) -> Json:
    """A loop over the rows of the payload; its body is the node `pay`."""
    payload = {"array": "{{$inputs.rows}}", **more}
    return {"type": "for-each", "payload": payload, "loopBody": ["pay"], "children": [*children]}


def rows(*wallets: str, units: str = "5") -> Json:
    """A payload with a row for each wallet."""
    return {"rows": [{"wallet": wallet, "units": units} for wallet in wallets]}


async def loop(studio: Studio, *one_of: str, client: Client | None = None, goes_on: bool = False, **fields: Any) -> str:
    """A stored workflow that pays from the wallet of each row. `goes_on`: rows may fail."""
    nodes = {"each": each(), "pay": pay("{{$item.units}}", connector=by(CHOSEN, *one_of))}
    if goes_on:
        nodes["each"]["payload"]["onItemError"] = "continue"
    root = {"type": "manual", "children": ["each"]}
    found: str = (await (client or studio.api).create_workflow({"nodes": {"root": root, **nodes}}, **fields))["id"]
    return found


async def wallets(studio: Studio) -> tuple[str, str, str]:
    """The ids of two wallets, and the second one's address."""
    bob = await second_wallet(studio)
    found = (await studio.api.get(f"/v1/wallets/{bob}")).data
    return studio.outbox.wallet_id, bob, found["address"]


async def limited(studio: Studio, *wallet_ids: str) -> Client:
    """A key that may spend from some wallets only."""
    body = {"name": "limited", "permissions": [*SPENDER], "walletIds": [*wallet_ids]}
    made = await studio.api.post("/v1/api-keys", body)
    return studio.outbox.composition.client(made.data["key"])


async def let(studio: Studio, wallet_id: str, **policy: Any) -> None:
    """Changes a wallet's policy."""
    reply = await studio.api.put(f"/v1/wallets/{wallet_id}/policy", {"policy": {**ANYTHING, **policy}})
    assert reply.status == 200, reply.body


def payments(run: Run) -> list[Json]:
    """The node `pay` of every item."""
    return [item["pay"] for item in run["executionState"]["each"]["iterations"]]


async def sent(studio: Studio, run: Run) -> list[tuple[str, str, str]]:
    """Path, wallet and status of every transaction in a run's report."""
    report = await studio.effects(run)
    return [(one["path"], one["walletId"], one["status"]) for one in report["transactions"]]


@pytest.mark.both_stores
async def test_each_item_spends_from_its_wallet_in_every_mode_and_through_a_call(studio: Studio) -> None:
    alice, bob, bobs = await wallets(studio)
    child = await loop(studio)
    parent = await studio.workflow({"call": call(child, payload={"payload": "{{$inputs}}"})})
    given = rows(bob, alice, bob, units=str(10**18))
    paths = [f"call/each[{index}].pay" for index in range(3)]
    named = [*zip(paths, [bob, alice, bob], strict=True)]

    plan = (await studio.api.post(f"/v1/workflows/{parent}/dust-plan", {"payload": given})).data
    assert [(one["walletId"], one["walletAddress"]) for one in plan["spends"]] == [
        (bob, bobs),
        (alice, ALICE),
        (bob, bobs),
    ]
    assert (plan["refusals"], plan["unknowns"]) == ([], [])
    unknown = (await studio.api.post(f"/v1/workflows/{parent}/dust-plan", {})).data["unknowns"]
    assert [(one["field"], one["message"]) for one in unknown if one["field"] == "connector"] == [
        ("connector", "connector.id depends on an item of a loop")
    ]
    needed = (await studio.api.get(f"/v1/workflows/{parent}/analyze-funds")).data
    assert needed["requirements"] == []
    reason = "connector.id depends on an item of a loop"
    assert reason in {one["unresolvedReason"] for one in needed["unresolved"]}

    before = [studio.outbox.nonce(), studio.outbox.nonce(bobs)]
    done = {}
    for mode, body in (("simulate", {"simulate": True}), ("live", {}), ("dust", {"dustTest": True})):
        run = done[mode] = await studio.run(parent, payload=given, **body)
        assert (run["status"], run["passed"]) == ("success", True), told(run)
        status = "simulated" if mode == "simulate" else "final"
        assert await sent(studio, run) == [(path, wallet, status) for path, wallet in named]
    assert [studio.outbox.nonce(), studio.outbox.nonce(bobs)] == [before[0] + 2, before[1] + 4]
    compared = (await studio.api.get(f"/v1/runs/{done['simulate']['id']}/compare/{done['live']['id']}")).data
    assert (compared["verdict"], compared["differences"]) == ("same", [])
    other = await studio.run(parent, payload=rows(bob, bob, bob, units=str(10**18)), simulate=True)
    differing = (await studio.api.get(f"/v1/runs/{other['id']}/compare/{done['live']['id']}")).data
    assert ("call/each[1].pay", "from") in [(one["path"], one["field"]) for one in differing["differences"]]


async def test_the_policy_of_an_items_wallet_decides_about_its_loop_and_a_retry_pays_all(studio: Studio) -> None:
    """The loop is judged before its first item; one whose items may fail pays what no policy refuses."""
    alice, bob, bobs = await wallets(studio)
    await let(studio, bob, recipients=[address(9)])
    before = [studio.outbox.nonce(), studio.outbox.nonce(bobs)]
    flow, tolerant = await loop(studio), await loop(studio, goes_on=True)
    body: Json = {"payload": rows(alice, bob)}
    for mode in ({"simulate": True}, {"dustTest": True}, {}):
        run = await studio.run(flow, **body, **mode)
        found = error(run, "each")
        assert (run["status"], found["code"]) == ("failure", "REFUSED"), told(run)
        assert [one["field"] for one in found["details"]] == ["each[1].pay"]
    assert [studio.outbox.nonce(), studio.outbox.nonce(bobs)] == before
    for mode in ({"simulate": True}, {}):
        other = await studio.run(tolerant, **body, **mode)
        items = payments(other)
        assert (other["status"], [one["status"] for one in items]) == ("partial", ["success", "failure"]), told(other)
        assert (items[1]["error"]["code"], items[1]["error"]["details"][0]["field"]) == ("REFUSED", "recipients")
    await let(studio, bob)
    again = await studio.api.post(f"/v1/runs/{run['id']}/retry")
    retried = await studio.bench.ended(again.data["runId"])
    assert retried["status"] == "success", told(retried)
    assert await sent(studio, retried) == [("each[0].pay", alice, "final"), ("each[1].pay", bob, "final")]
    assert [studio.outbox.nonce(), studio.outbox.nonce(bobs)] == [before[0] + 2, before[1] + 1]


async def test_what_names_no_wallet_fails_alike_in_simulation_and_live(studio: Studio) -> None:
    alice, bob, bobs = await wallets(studio)
    before = [studio.outbox.nonce(), studio.outbox.nonce(bobs)]
    old = (await studio.api.post("/v1/wallets", {"name": "old"})).data["id"]
    assert (await studio.api.delete(f"/v1/wallets/{old}")).status == 200
    any_wallet, listed = await loop(studio), await loop(studio, alice)
    no_id = "connector.id: The expression does not give the id of a wallet (wal_…); GET /v1/wallets lists the ids."
    missing = 'There is no wallet "{}" in this organisation; GET /v1/wallets lists the ids.'
    cases = [
        (any_wallet, "a secret", no_id),
        (any_wallet, "", no_id),
        (any_wallet, None, no_id),
        (any_wallet, old, missing.format(old)),
        (any_wallet, "wal_0", missing.format("wal_0")),
        (listed, bob, f'connector.id: The expression gives the wallet "{bob}", which connector.oneOf does not list.'),
    ]
    for flow, wallet, message in cases:
        for mode in ({"simulate": True}, {}):
            run = await studio.run(flow, payload={"rows": [{"wallet": wallet, "units": "5"}]}, **mode)
            found = error(run, "each")
            if found["code"] == "ITEM_FAILED":  # whether there is such a wallet is only looked up in the item's turn
                (found,) = [one["error"] for one in payments(run)]
            told_of = found["details"][0]["message"] if message == no_id or flow == listed else found["message"]
            assert (run["status"], found["code"], told_of) == ("failure", "INVALID_INPUT", message)
    assert [studio.outbox.nonce(), studio.outbox.nonce(bobs)] == before


async def test_a_limited_key_needs_a_list_within_its_limits(studio: Studio) -> None:
    alice, bob, _ = await wallets(studio)
    key = await limited(studio, bob)
    open_flow, wide, own = await loop(studio), await loop(studio, alice, bob), await loop(studio, bob)
    for flow, message in (
        (open_flow, "an expression of this workflow may name any wallet"),
        (wide, f'it may not spend from "{alice}"'),
    ):
        for mode in ({}, {"dustTest": True}):
            reply = await key.post(f"/v1/workflows/{flow}/run", {"payload": rows(bob), **mode})
            assert (reply.status, message in reply.body["message"]) == (403, True), reply.body
        parent = (
            await key.create_workflow(
                {
                    "nodes": {
                        "root": {"type": "manual", "children": ["call"]},
                        "call": {**call(flow, payload={"payload": "{{$inputs}}"})},
                    }
                }
            )
        )["id"]
        accepted = await studio.api.post(f"/v1/workflows/{parent}/versions/1/accept")
        assert accepted.status == 200
        begun = await key.post(f"/v1/workflows/{parent}/run", {"payload": rows(bob)})
        run = await studio.bench.ended(begun.data["runId"])
        assert (error(run, "call")["code"], message in error(run, "call")["message"]) == ("REFUSED", True)
    begun = await key.post(f"/v1/workflows/{own}/run", {"payload": rows(bob, bob)})
    assert (await studio.bench.ended(begun.data["runId"]))["status"] == "success"
    begun = await key.post(f"/v1/workflows/{own}/run", {"payload": rows(alice)})
    assert error(await studio.bench.ended(begun.data["runId"]), "each")["code"] == "INVALID_INPUT"


async def test_an_expression_needs_an_author_or_acceptance_for_every_wallet_that_it_may_name(studio: Studio) -> None:
    alice, bob, _ = await wallets(studio)
    key = await limited(studio, bob)
    for listed, accepted in (((), False), ((alice, bob), False), ((bob,), True)):
        flow = await loop(studio, *listed, client=key)
        ladder = (await studio.api.get(f"/v1/workflows/{flow}/ladder")).data["acceptance"]
        assert ladder["accepted"] is accepted
        (added,) = ladder["differences"]["added"]
        assert (added["walletId"], added["oneOf"]) == (CHOSEN, [*listed] or None)
        begun = await studio.api.post(f"/v1/workflows/{flow}/run", {"payload": rows(bob)})
        assert (begun.status, begun.code) == ((200, 200) if accepted else (409, 409011))
        if not accepted:
            assert (await key.post(f"/v1/workflows/{flow}/versions/1/accept")).status == 403
            assert (await studio.api.post(f"/v1/workflows/{flow}/versions/1/accept")).status == 200
            assert (await studio.run(flow, payload=rows(bob)))["status"] == "success"


async def test_a_wallet_that_was_not_rehearsed_is_refused_where_rehearsals_are_enforced(studio: Studio) -> None:
    """The payload is the same; what the expression reads is not."""
    alice, bob, _ = await wallets(studio)
    keep = {"type": "set-variable", "payload": {"name": "from", "value": "{{$inputs.next}}"}}
    defs = [{"name": "from", "type": "text", "default": alice, "lifetime": "persist"}]
    nodes = {"pay": pay(5, "keep", connector=by("{{$vars.from}}", alice, bob)), "keep": keep}
    flow = await studio.workflow(nodes, defs=defs, enforceRehearsal={"tolerancePercent": 1})
    body: Json = {"payload": {"next": bob}}
    assert (await studio.run(flow, **body, simulate=True))["passed"] is True
    assert (await studio.run(flow, **body))["status"] == "success"
    run = await studio.run(flow, **body)
    assert (run["status"], f"from the wallet {bob}, rehearsed from {alice}" in error(run, "pay")["message"]) == (
        "failure",
        True,
    ), told(run)


async def test_a_spend_keeps_its_wallet_while_it_waits_and_when_it_is_tried_again(studio: Studio) -> None:
    """Another default wallet, and another value of the variable that the expression reads: what is stored wins, until
    it came to nothing."""
    alice, bob, bobs = await wallets(studio)
    before = studio.outbox.nonce(bobs)
    await let(studio, alice, approvalAbove={"assets": {NATIVE: "4"}})
    asked = await studio.bench.start({"pay": pay(5)})
    await studio.bench.until(asked, lambda run: run["executionState"].get("pay", {}).get("status") == "waiting")
    assert (await studio.api.put(f"/v1/wallets/{bob}/default")).status == 200
    question = next(one for one in (await studio.api.get("/v1/approvals")).data["items"] if one["runId"] == asked)
    decider = await studio.outbox.composition.client_with("approval:decide")
    assert (await decider.post(f"/v1/approvals/{question['id']}/approve")).status == 200
    run = await studio.bench.ended(asked)
    assert (run["status"], await sent(studio, run)) == ("success", [("pay", alice, "final")]), told(run)
    await let(studio, alice)

    await let(studio, alice, recipients=[SHOP])
    transfers = [{"recipient": SHOP, "amount": "5"}, {"recipient": address(2), "amount": "5"}]
    batch = {
        "type": "batch-transfer",
        "payload": {"chainId": CHAIN_ID, "rows": transfers},
        "connector": by("{{$vars.from}}"),
    }
    defs = [{"name": "from", "type": "text", "default": alice, "lifetime": "persist"}]
    flow = await studio.workflow({"batch": batch}, defs=defs)
    first = await studio.run(flow)
    assert (first["status"], error(first, "batch")["code"]) == ("failure", "REFUSED"), told(first)
    assert [state for _, _, state in await sent(studio, first)] == ["cancelled", "refused"]
    changed = await studio.api.post(f"/v1/workflows/{flow}/variables/from/value", {"value": bob})
    assert changed.status == 200, changed.body
    await let(studio, alice)
    again = await studio.api.post(f"/v1/runs/{first['id']}/retry")
    retried = await studio.bench.ended(again.data["runId"])
    assert retried["status"] == "success", told(retried)
    assert studio.outbox.nonce(bobs) == before + 2
    assert {wallet for _, wallet, state in await sent(studio, retried) if state == "final"} == {bob}


async def test_references_are_checked_and_travel_in_a_file(studio: Studio) -> None:
    alice, bob, _ = await wallets(studio)
    nodes = {
        "nodes": {
            "root": {"type": "manual", "children": ["pay"]},
            "pay": pay(5, connector=by("{{$inputs.w}}", bob, "wal_0")),
        }
    }
    checked = (await studio.api.post("/v1/workflows/validate", {"definition": nodes})).data
    assert [(one["code"], one["field"]) for one in checked["errors"]] == [
        ("unknown_wallet", "nodes.pay.connector.oneOf[1]")
    ]
    flow = await studio.workflow({"pay": pay(5, connector=by("{{$inputs.w}}", bob, alice))}, name="Pay by wallet")
    file = (await studio.api.get(f"/v1/workflows/{flow}/export")).data["content"]
    assert (bob in file, alice in file) == (False, False)
    made = (await studio.api.post("/v1/workflows/import", {"content": file})).data
    assert (made["toBind"], made["problems"]) == ([], [])
    copied = (await studio.api.get(f"/v1/workflows/{made['workflow']['id']}")).data["definition"]["nodes"]["pay"]
    assert copied["connector"] == by("{{$inputs.w}}", bob, alice)
    assert (await studio.api.delete(f"/v1/wallets/{bob}")).status == 409
