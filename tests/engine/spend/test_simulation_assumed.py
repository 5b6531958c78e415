"""What a simulation cannot know: signatures, results that were not made, values that hang on them. It never passes for
what it does not show, and passes in spite of what does not count."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from engine.conftest import OWN_ACTIONS, trial
from outbox import ALICE, address
from rehearsals import SHOP, Run, Studio, balance, call, node, open_studio, pay, result, say, told
from testkit.chain.anvil import CHAIN_ID
from testkit.chain.contracts import World

PINNED = f"0x{'11' * 32}{'22' * 32}1b"


@pytest.fixture
async def studio(tmp_path: Path, world: World) -> AsyncIterator[Studio]:
    with world.node() as chain:
        async with open_studio(tmp_path, world, chain, actions_dir=OWN_ACTIONS) as studio:
            yield studio
            assert studio.held == 0


async def passed(studio: Studio, run: Run) -> bool:
    """What the run itself and its report both say."""
    report = await studio.effects(run)
    assert report["passed"] is run["passed"]
    found: bool = run["passed"]
    return found


def permit(studio: Studio, spender: str, *children: str, **more: Any) -> dict[str, Any]:
    """Signs a permit of the token."""
    usdc = studio.witness.addresses["usdc"]
    fields = {
        "Permit": [
            {"name": name, "type": type}
            for name, type in (
                ("owner", "address"),
                ("spender", "address"),
                ("value", "uint256"),
                ("nonce", "uint256"),
                ("deadline", "uint256"),
            )
        ]
    }
    document = {
        "types": fields,
        "primaryType": "Permit",
        "domain": {"name": "USD Coin", "version": "1", "chainId": CHAIN_ID, "verifyingContract": usdc},
        "message": {"owner": ALICE, "spender": spender, "value": "5", "nonce": "0", "deadline": "4102444800"},
    }
    return node("sign-typed-data", *children, payload={"typedData": document}, **more)


USE = "permit(address owner, address spender, uint256 value, uint256 deadline, uint8 v, bytes32 r, bytes32 s)"

USE_SIGNATURE = "permit(address,address,uint256,uint256,uint8,bytes32,bytes32)"


def use(studio: Studio, spender: str, *children: str, **more: Any) -> dict[str, Any]:
    """Hands the signature of the node `sign` to the token."""
    signed = ["{{sign.result.v}}", "{{sign.result.r}}", "{{sign.result.s}}"]
    arguments = [ALICE, spender, "5", "4102444800", *signed]
    return call(studio.witness.addresses["usdc"], USE, *children, args=arguments, **more)


async def test_a_signature_alone_is_a_placeholder_and_passes(studio: Studio) -> None:
    run = await studio.simulate({"sign": permit(studio, SHOP), "pay": pay(1)})
    assert run["status"] == "success", told(run)
    assert run["executionState"]["sign"]["assumed"] is True
    assert await passed(studio, run)
    assert (await studio.api.get("/v1/signatures")).data["items"] == []


async def test_a_transaction_that_needs_a_signature_is_reported_as_not_simulable(studio: Studio) -> None:
    await studio.let(methods=["*", USE_SIGNATURE])  # "*" covers nothing that grants, so the permit is named
    run = await studio.simulate({"sign": permit(studio, SHOP, "use"), "use": use(studio, SHOP, "pay"), "pay": pay(1)})
    assert run["status"] == "success", told(run)
    assert not await passed(studio, run)
    report = await studio.effects(run)
    shown = {one["nodeId"]: one for one in report["transactions"]}
    assert (shown["use"]["status"], shown["pay"]["status"]) == ("notSimulable", "simulated")
    warned = [one for one in report["warnings"] if one["code"] == "NOT_SIMULABLE"]
    assert [one["path"] for one in warned] == ["use"]
    assert "Pin a result" in warned[0]["message"]
    assert {"sign", "use"} <= {one["path"] for one in report["assumed"]}
    assert studio.witness.allowance("usdc", ALICE, SHOP) == 0
    live = await studio.bench.run({"sign": permit(studio, SHOP, "use"), "use": use(studio, SHOP)})
    assert live["status"] == "success", told(live)
    assert studio.witness.allowance("usdc", ALICE, SHOP) == 5


@pytest.mark.parametrize(
    "part", ["signature", pytest.param("r", marks=pytest.mark.long), pytest.param("s", marks=pytest.mark.long)]
)
async def test_a_signature_within_calldata_is_found_too(studio: Studio, part: str) -> None:
    sign = {"type": "sign-message", "payload": {"message": "hello"}, "children": ["send"]}
    data = "{{'0xd505accf00' + sign.result." + part + ".slice(2) + '00'}}"
    send = node("write-contract", payload={"contract": studio.witness.addresses["usdc"], "data": data})
    run = await studio.simulate({"sign": sign, "send": send})
    assert run["status"] == "success", told(run)
    assert not await passed(studio, run)
    (shown,) = (await studio.effects(run))["transactions"]
    assert shown["status"] == "notSimulable"


async def test_pinned_results_make_it_pass(studio: Studio) -> None:
    """A pinned signature is what its author says; a transaction with it is simulated, and fails by the token's word.
    Pinned itself, it is not sent."""
    signed = {"signature": PINNED, "r": f"0x{'11' * 32}", "s": f"0x{'22' * 32}", "v": 27}
    sign = permit(studio, SHOP, "use", pinned=signed)
    run = await studio.simulate({"sign": sign, "use": use(studio, SHOP)})
    assert run["status"] == "failure"  # the token recovers another signer
    run = await studio.simulate({"sign": sign, "use": use(studio, SHOP, "pay", pinned={"hash": None}), "pay": pay(2)})
    assert run["status"] == "success", told(run)
    assert await passed(studio, run)
    assert [one["nodeId"] for one in (await studio.effects(run))["transactions"]] == ["pay"]


@pytest.mark.parametrize("pinned", [True, False])
async def test_a_spend_that_hangs_on_an_assumed_value_does_not_pass(studio: Studio, pinned: bool) -> None:
    """Through a node in between, too; what is pinned is not assumed."""
    pin = {"pinned": {"value": "7", "attempts": 1}} if pinned else {}
    nodes = {
        "ask": trial(name="ask", value="9", children=["say"], **pin),
        "say": say("{{ask.result.attempts + 6}}", "pay"),
        "pay": pay("{{say.result.message}}", "free"),
        "free": pay(1),
    }
    run = await studio.simulate(nodes)
    assert run["status"] == "success", told(run)
    assert result(run, "pay")["amount"] == "7"
    assert await passed(studio, run) is pinned
    report = await studio.effects(run)
    marked = {one["nodeId"]: bool(one.get("assumed")) for one in report["transactions"]}
    assert marked == {"pay": not pinned, "free": False}
    assert {one["path"] for one in report["assumed"]} == (set() if pinned else {"ask", "say", "pay"})


async def test_an_assumed_value_that_nothing_hangs_on_passes(studio: Studio) -> None:
    nodes = {
        "ask": trial(name="ask", value="9", children=["say", "pay"]),
        "say": say("{{ask.result.value}}"),
        "pay": pay(5),
    }
    run = await studio.simulate(nodes)
    assert run["status"] == "success", told(run)
    assert await passed(studio, run)
    assert {one["path"] for one in (await studio.effects(run))["assumed"]} == {"ask", "say"}


@pytest.mark.parametrize("kind", ["if", pytest.param("switch", marks=pytest.mark.long)])
async def test_a_branch_that_hangs_on_an_assumed_value_does_not_pass(studio: Studio, kind: str) -> None:
    test = "ask.result.attempts > 0"
    tests = {"if": {"expression": test}, "switch": {"cases": [{"name": "then", "expression": test}]}}
    nodes = {
        "ask": trial(name="ask", children=["way"]),
        "way": {"type": kind, "payload": tests[kind], "children": ["pay"]},
        "pay": pay(1, branch="then"),
    }
    run = await studio.simulate(nodes)
    assert run["status"] == "success", told(run)
    assert not await passed(studio, run)
    assert "ASSUMED_BRANCH" in {one["code"] for one in (await studio.effects(run))["warnings"]}


async def test_a_loop_over_assumed_items_does_not_pass_when_it_spends(studio: Studio) -> None:
    each = {"type": "for-each", "payload": {"array": "{{[ask.result.attempts]}}"}}
    ask = trial(name="ask", children=["each"])
    spends = {"ask": ask, "each": {**each, "loopBody": ["pay"]}, "pay": pay(3)}
    run = await studio.simulate(spends)
    assert run["status"] == "success", told(run)
    assert not await passed(studio, run), "how often it pays is not known"
    run = await studio.simulate({"ask": ask, "each": {**each, "loopBody": ["say"]}, "say": say("x")})
    assert await passed(studio, run)


async def test_an_assumed_failure_or_input_counts_like_an_assumed_result(studio: Studio) -> None:
    """What a node did with an assumed value is assumed, its error and its input too."""
    nodes = {
        "ask": trial(name="ask", value="no address", children=["pay"]),
        "pay": pay(1, "after", to="{{ask.result.value}}", onError="continue"),
        "after": pay("{{pay.error.code == 'INVALID_INPUT' ? 4 : 5}}"),
    }
    run = await studio.simulate(nodes)
    assert run["executionState"]["pay"]["status"] == "failure"
    assert not await passed(studio, run)
    assert {"pay", "after"} <= {one["path"] for one in (await studio.effects(run))["assumed"]}


async def test_an_assumed_value_counts_over_calls(studio: Studio) -> None:
    callee = await studio.workflow({"pay": pay("{{$inputs.units}}")})
    quiet = await studio.workflow({"read": balance(SHOP)})

    def nodes(workflow: str, mode: str) -> dict[str, Any]:
        payload = {"workflowId": workflow, "mode": mode, "payload": {"units": "{{ask.result.attempts}}"}}
        return {"ask": trial(name="ask", children=["call"]), "call": {"type": "call-workflow", "payload": payload}}

    for mode in ("wait", "start"):
        run = await studio.simulate(nodes(callee, mode))
        assert run["status"] == "success", told(run)
        assert not await passed(studio, run)
    assumes = await studio.workflow({"ask": trial(name="ask", children=["pay"]), "pay": pay("{{ask.result.attempts}}")})
    for mode in ("wait", "start"):
        plain = {"call": {"type": "call-workflow", "payload": {"workflowId": assumes, "mode": mode}}}
        run = await studio.simulate(plain)
        assert run["status"] == "success", told(run)
        assert not await passed(studio, run)
    assert await passed(
        studio, await studio.simulate({"call": {"type": "call-workflow", "payload": {"workflowId": quiet}}})
    )


async def test_a_result_that_a_called_run_assumes_is_assumed_by_its_caller(studio: Studio) -> None:
    """A branch on it does not pass; a call whose result nothing depends on does."""
    asks = await studio.workflow({"ask": trial(name="ask")})
    call = {"type": "call-workflow", "payload": {"workflowId": asks}}
    assert await passed(studio, await studio.simulate({"call": call}))
    test = {"type": "if", "payload": {"expression": "call.result.result.attempts > 0"}}
    run = await studio.simulate({"call": {**call, "children": ["test"]}, "test": test})
    assert run["status"] == "success", told(run)
    assert not await passed(studio, run)
    assert [one["path"] for one in (await studio.effects(run))["assumed"] if one["decides"]] == ["test"]


async def test_a_called_run_that_is_partial_assumes_nothing(studio: Studio) -> None:
    """Its failed node fails live too: what depends on its result is not assumed, and a loop goes on as live."""
    fails = {"pay": pay(10**30, "read", onError="continue"), "read": balance(SHOP)}
    callee = await studio.workflow(fails)
    again = {"while": "call.status == 'partial' && $index < 2", "first": 0, "next": 0, "maxItems": 5}
    nodes = {
        "each": {"type": "for-each", "payload": again, "loopBody": ["call"]},
        "call": {"type": "call-workflow", "payload": {"workflowId": callee}},
    }
    run = await studio.simulate(nodes)
    assert (run["status"], result(run, "each")["iterationCount"]) == ("partial", 3), told(run)
    report = await studio.effects(run)
    assert (report["assumed"], report["passed"]) == ([], False)


async def test_an_approval_of_a_person_is_assumed_and_its_branch_does_not_pass(studio: Studio) -> None:
    ask = {"type": "approve", "payload": {"message": "Pay?", "timeoutMs": 60_000}, "children": ["pay"]}
    nodes = {"ask": ask, "pay": pay(1, branch="approved", to=address(3))}
    run = await studio.simulate(nodes)
    assert run["status"] == "success", told(run)
    assert not await passed(studio, run)
    run = await studio.simulate({**nodes, "ask": {**ask, "pinned": "approved"}})
    assert await passed(studio, run)
