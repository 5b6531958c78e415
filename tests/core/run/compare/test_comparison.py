"""Two runs side by side, by facts alone: what is a difference, what is a note, what is left out."""

from __future__ import annotations

from typing import Any

from dustrun.core.run import chain_effects
from dustrun.core.run.compare.comparison import compare
from dustrun.core.run.compare.findings import Side
from dustrun.core.run.journal import ReportedExecution
from dustrun.core.run.state import NodeStatus

ME, SHOP, BANK = (f"0x{byte * 20}" for byte in ("a1", "b2", "c3"))
COIN = "eip155:1/native"
ASSETS = {COIN: {"symbol": "ETH", "decimals": 18, "usd": "2000", "source": "static", "ageMs": 0}}
Json = dict[str, Any]


def transaction(item: str, units: int, **fields: Any) -> Json:
    """A payment to the shop."""
    moved = {"kind": "send", "asset": COIN, "amount": str(units), "counterparty": SHOP}
    plain = {"item": item, "chainId": 1, "from": ME, "to": SHOP, "value": str(units), "about": "Pay", "method": None}
    return {**plain, "movements": [moved], "events": [], "approvals": [], **fields}


def simulated(item: str, units: int, **fields: Any) -> Json:
    """One that was simulated."""
    changes = [
        {"address": ME, "asset": COIN, "delta": str(-units)},
        {"address": SHOP, "asset": COIN, "delta": str(units)},
    ]
    return transaction(item, units, status="simulated", gasUsed=21000, fee="10", balanceChanges=changes, **fields)


def sent(item: str, units: int, block: dict[str, int], *, others: tuple[str, ...] = (), **fields: Any) -> Json:
    """One in a block that changed balances by so much, gas included."""
    changes = [{"address": who, "asset": COIN, "delta": str(delta)} for who, delta in block.items()]
    told = [{"address": who, "asset": COIN, "hash": "0xother"} for who in others]
    measured = {"changes": changes, "unchanged": [], "others": told}
    known = {
        "status": "final",
        "measured": True,
        "hash": f"0x{item}",
        "blockHash": "0xb1",
        "gasUsed": 21000,
        "fee": "7",
    }
    return transaction(item, units, block=measured, **{**known, **fields})


def side(mode: str, *transactions: Json, result: Any = None, version: int | None = 1, **fields: Any) -> Side:
    """A run of one node."""
    facts = {"transactions": list(transactions), "assets": ASSETS} if transactions else None
    execution = ReportedExecution("pay", "pay", 1, NodeStatus.SUCCESS, result=result, facts=facts, started_at=1)
    for name, value in fields.items():
        setattr(execution, name, value)
    return Side({"pay": execution}, chain_effects.fold([execution]), list(transactions), mode, version)


def found(left: Side, right: Side) -> tuple[str, list[str], list[str]]:
    """The verdict, the fields that differ, the codes of notes."""
    told = compare(left, right)
    assert told["equal"] is (told["verdict"] == "same")
    return told["verdict"], [d["field"] for d in told["differences"]], [n["code"] for n in told["notes"]]


def test_a_payment_and_its_simulation() -> None:
    live = side("live", sent("a", 100, {ME: -107, SHOP: 100}))
    assert found(side("simulate", simulated("a", 100)), live) == ("same", [], [])


def test_one_unit_is_a_difference() -> None:
    live = side("live", sent("a", 100, {ME: -107, SHOP: 99}))
    told = compare(side("simulate", simulated("a", 100)), live)
    (one,) = told["differences"]
    assert (one["address"], one["left"], one["right"], one["difference"]) == (SHOP, "100", "99", "-1")
    assert one["shown"]["change"] == "-0.000000000000000001 ETH"


def test_transactions_of_one_block_are_compared_together() -> None:
    block = {ME: -314, SHOP: 300}
    live = side("live", sent("a", 100, block), sent("b", 200, block))
    assert found(side("simulate", simulated("a", 100), simulated("b", 200)), live) == ("same", [], [])
    wrong = side("live", sent("a", 100, {**block, SHOP: 299}), sent("b", 200, {**block, SHOP: 299}))
    assert found(side("simulate", simulated("a", 100), simulated("b", 200)), wrong) == (
        "differs",
        ["balanceChanges"],
        [],
    )


def test_what_others_had_a_part_in_is_a_note() -> None:
    live = side("live", sent("a", 100, {ME: -107, SHOP: 170}, others=(SHOP,)))
    assert found(side("simulate", simulated("a", 100)), live) == ("same", [], ["OTHERS_IN_BLOCK"])


def test_a_balance_that_was_not_read_live_is_a_note() -> None:
    more = simulated("a", 100)
    more["balanceChanges"].append({"address": BANK, "asset": COIN, "delta": "5"})
    live = side("live", sent("a", 100, {ME: -107, SHOP: 100}))
    assert found(side("simulate", more), live) == ("same", [], ["NOT_WATCHED"])


def test_what_was_not_measured_is_a_note() -> None:
    lost = transaction("a", 100, status="final", measured=False, notMeasured="gone", hash="0xa", blockHash="0xb")
    assert found(side("simulate", simulated("a", 100)), side("live", lost)) == ("same", [], ["NOT_MEASURED"])


def test_other_targets_amounts_and_approvals() -> None:
    left = simulated("a", 100, approvals=[{"owner": ME, "spender": SHOP, "asset": COIN, "amount": "1"}])
    right = simulated("a", 150, to=BANK, approvals=[{"owner": ME, "spender": SHOP, "asset": COIN, "amount": "2"}])
    verdict, fields, notes = found(side("simulate", left), side("simulate", right))
    assert (verdict, notes) == ("differs", [])
    assert fields == ["to", "value", "movements", "approvals", "balanceChanges", "balanceChanges"]


def test_a_transaction_that_only_one_run_has() -> None:
    both, one = (simulated("a", 1), simulated("b", 2)), (simulated("a", 1),)
    assert found(side("simulate", *both), side("simulate", *one)) == ("differs", ["transaction"], [])


def test_events_differ_by_their_arguments() -> None:
    def event(value: str) -> Json:
        return {"name": "Paid", "address": SHOP, "args": {"who": ME, "value": value}, "topics": [], "data": "0x"}

    left, right = simulated("a", 1, events=[event("5")]), simulated("a", 1, events=[event("6"), event("7")])
    assert found(side("simulate", left), side("simulate", right)) == ("differs", ["events[0].value", "events[1]"], [])


def test_results_differ_leaf_by_leaf_without_hashes() -> None:
    live = side(
        "live", sent("a", 100, {ME: -107, SHOP: 100}), result={"hash": "0xa", "got": ["1", "2"], "see": "x/0xa"}
    )
    dry = side("simulate", simulated("a", 100), result={"hash": None, "got": ["1", "3"], "see": "x/null"})
    assert found(dry, live) == ("differs", ["result.got[1]"], [])


def test_a_request_that_names_the_transaction_is_the_same() -> None:
    def ask(mode: str, value: Any, *transactions: Json) -> Side:
        body = {
            "request": {"method": "POST", "body": {"tx": value}},
            "transactions": list(transactions),
            "assets": ASSETS,
        }
        return side(mode, *transactions, facts=body)

    dry = ask("simulate", None, simulated("a", 100))
    live = ask("live", "0xa", sent("a", 100, {ME: -107, SHOP: 100}))
    assert found(dry, live) == ("same", [], [])
    assert found(dry, ask("live", "0xc", sent("a", 100, {ME: -107, SHOP: 100})))[1] == ["request.body.tx"]


def test_assumed_results_are_not_compared() -> None:
    dry, live = side("simulate", result={"a": 1}, assumed=True), side("live", result={"a": 2})
    assert found(dry, live) == ("same", [], ["ASSUMED"])


def test_status_branch_and_error() -> None:
    failed = side("live", status=NodeStatus.FAILURE, error={"code": "X", "message": "no"}, branch="else")
    assert found(side("live", branch="then"), failed) == ("differs", ["status", "branch", "error"], [])


def test_versions_and_modes_are_noted() -> None:
    assert found(side("dust"), side("live", version=2)) == ("same", [], ["VERSIONS", "DUST"])


def test_two_runs_of_one_mode_are_called_first_and_second() -> None:
    told = compare(side("live", result=1), side("live", result=2))
    assert told["differences"][0]["message"] == "Result: 1 in the first run, 2 in the second run."


def _copied(mode: str, child: str, block: int, hash: str | None, amount: int = 100) -> Side:
    """A spend in a loop, the loop's result, and the result of a call with a delay: each has copies of the others."""
    paid = {"hash": hash, "blockNumber": block, "explorerUrl": hash and f"https://scan/tx/{hash}", "amount": amount}
    made = simulated("a", 100) if mode == "simulate" else sent("a", 100, {ME: -107, SHOP: 100}, hash=hash)
    facts = {"transactions": [made], "assets": ASSETS}
    until = {"until": f"2026-01-01T00:00:{block % 60:02}Z", "delayedMs": block}
    looped = {
        "iterations": [
            {"results": {"pay": paid, "child": {"runId": child, "told": f"see {child} and {hash or 'null'}"}}}
        ]
    }
    executions = [
        ReportedExecution("each", "each", 1, NodeStatus.SUCCESS, result=looped, started_at=1),
        ReportedExecution("each[0].pay", "pay", 1, NodeStatus.SUCCESS, result=paid, facts=facts, started_at=2),
        ReportedExecution("call/wait", "wait", 1, NodeStatus.SUCCESS, result=until, started_at=3),
        ReportedExecution("call", "call", 1, NodeStatus.SUCCESS, result={"results": {"wait": until}}, started_at=3),
    ]
    report = chain_effects.fold(executions)
    by_path = {one.path: one for one in executions}
    return Side(by_path, report, [made], mode, 1, frozenset({child}), delays=frozenset({"call/wait"}))


def test_copies_of_ids_hashes_blocks_and_times_are_no_difference() -> None:
    rehearsal = _copied("simulate", "run_a", 5, None)
    assert found(rehearsal, _copied("live", "run_b", 77, f"0x{'ab' * 32}")) == ("same", [], [])
    first, second = (_copied("live", f"run_{n}", n, f"0x{n:064x}") for n in (1, 2))
    assert found(first, second) == ("same", [], [])
    _, fields, _ = found(first, _copied("live", "run_2", 2, f"0x{2:064x}", amount=101))
    assert fields == ["result.iterations[0].results.pay.amount", "result.amount"]


def _answered(mode: str, source: str | None, by: str | None, at: str, data: str = "5") -> Side:
    """A wait and an approval in a loop, and the loop's result."""
    waited = {"status": "resumed", "branch": "resumed", "triggerResult": {"source": data}, "source": source}
    approved = {"decision": "approved", "branch": "approved", "by": by, "comment": None, "decidedAt": at}
    looped = {"iterations": [{"results": {"w": waited, "a": approved}}]}
    executions = [
        ReportedExecution("each", "each", 1, NodeStatus.SUCCESS, result=looped, started_at=1),
        ReportedExecution("each[0].w", "w", 1, NodeStatus.SUCCESS, result=waited, branch="resumed", started_at=2),
        ReportedExecution("each[0].a", "a", 1, NodeStatus.SUCCESS, result=approved, branch="approved", started_at=3),
    ]
    by_path = {one.path: one for one in executions}
    answers = frozenset({"each[0].w", "each[0].a"})
    return Side(by_path, chain_effects.fold(executions), [], mode, 1, answers=answers)


def test_who_answered_and_when_is_no_difference() -> None:
    """A rehearsal answers by a pinned result."""
    pinned = _answered("simulate", "pinned", None, "2026-01-01T00:00:00.000Z")
    assert found(pinned, _answered("live", "api", "key_1", "2026-01-01T07:00:00.000Z")) == ("same", [], [])
    other = _answered("live", "link", "key_1", "2026-01-01T07:00:00.000Z", data="6")
    assert found(pinned, other)[1] == [
        "result.iterations[0].results.w.triggerResult.source",
        "result.triggerResult.source",
    ]


def _failed_item(code: str, message: str) -> dict[str, Any]:
    return {"iterations": [{"index": 0, "error": {"code": code, "message": message, "retryable": True}}]}


def test_errors_of_loop_items_are_compared_by_code() -> None:
    """The message of a live failure names the transaction, and that of a simulation has none to name."""
    simulated_result = _failed_item("RESULT", "It was simulated, but its result could not be made.")
    hash = f"0x{7:064x}"
    live = side("live", result=_failed_item("RESULT", f"It was spent ({hash}), but its result could not be made."))
    assert found(side("simulate", result=simulated_result), live) == ("same", [], [])
    other = side("live", result=_failed_item("REVERTED", "It would revert."))
    assert found(side("simulate", result=simulated_result), other)[1] == ["result.iterations[0].error.code"]
