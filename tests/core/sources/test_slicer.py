"""One smallest workflow per rule: the spend has the source, at the level where it belongs. `bench/soak_sources.py`
proves on real runs that the levels are right."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import pytest

from dustrun import catalog
from dustrun.core.sources.slicer import ClosedPrograms
from dustrun.core.sources.source import Source, parse_source
from dustrun.core.sources.spend_slice import SpendSlice, slice_closure, slices_of
from dustrun.core.workflow.definition import Definition
from dustrun.core.workflow.program import Program, compile_program

SPECS = catalog.load().specs()
SOMEBODY = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
OTHER = "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC"
A = "trigger:manual.a"
Nodes = dict[str, dict[str, Any]]


def compiled(nodes: Nodes, trigger: str = "manual", **rest: Any) -> Program:
    """A workflow whose trigger leads to the first node."""
    start = {"type": trigger, "children": [next(iter(nodes))]}
    document = {"nodes": {"root": start, **nodes}, "triggerNodeIds": ["root"], **rest}
    return compile_program(Definition.model_validate(document), SPECS)


def slices(nodes: Nodes, helper: Nodes | None = None, **rest: Any) -> dict[str, SpendSlice]:
    """The slices of the spends of `w@1`, which may call `h`, by node."""
    programs = {"w@1": compiled(nodes, **rest)}
    if helper is not None:
        programs["h@1"] = compiled(helper)
    closed = ClosedPrograms("w@1", programs, {("h", None): "h@1"} if helper is not None else {})
    return {one.place[1]: one for one in slices_of(closed, SPECS)}


def texts(sources: frozenset[Source]) -> set[str]:
    return {str(one) for one in sources}


def field(one: SpendSlice, money: str) -> set[str]:
    """The sources of a field, without the definition."""
    return {text for text in texts(one.fields.get(money, frozenset())) if not text.startswith("definition")}


def pay(amount: str = "5", to: str = SOMEBODY, **rest: Any) -> dict[str, Any]:
    return {"type": "send-native", "payload": {"chainId": 1, "recipient": to, "amount": amount}, **rest}


def write(value: Any, **rest: Any) -> dict[str, Any]:
    return {"type": "set-variable", "payload": {"name": "v", "value": value}, **rest}


def check(*children: str, **rest: Any) -> dict[str, Any]:
    return {"type": "if", "payload": {"expression": "$trigger.body.a == 1"}, "children": [*children], **rest}


def fmt(text: str = "x", *children: str, **rest: Any) -> dict[str, Any]:
    return {"type": "format", "payload": {"template": text}, "children": [*children], **rest}


def odd(*children: str, **rest: Any) -> dict[str, Any]:
    code = "if (input % 2) throw new Error('odd'); return 1"
    payload = {"code": code, "input": "{{$trigger.body.a}}"}
    return {"type": "code-transform", "payload": payload, "children": [*children], **rest}


def call(*children: str, **rest: Any) -> dict[str, Any]:
    payload = {"workflowId": "h", "payload": {"a": "{{$trigger.body.a}}"}}
    return {"type": "call-workflow", "payload": payload, "children": [*children], **rest}


def loop(body: str, *children: str, **payload: Any) -> dict[str, Any]:
    return {"type": "for-each", "payload": payload, "loopBody": [body], "children": [*children]}


TWO_WAYS: Nodes = {"i": check("x", "y"), "x": write(1, branch="then"), "y": write(2, branch="else")}
LONGER = "{{[1,2,3].filter(q, q > $trigger.body.a)}}"
ROWS = f"{{{{[1, 2].map(q, {{'recipient': '{SOMEBODY}', 'amount': string(q + $trigger.body.a)}})}}}}"
CASES: Mapping[str, tuple[Nodes, Nodes | None, str, str]] = {
    "an absent result is data": (
        {
            "i": check("x", "j"),
            "x": fmt("3", "j", branch="then"),
            "j": fmt("m", "p"),
            "p": pay("{{string(int($nodes.x.result.text ?? '9'))}}"),
        },
        None,
        "p",
        "amount",
    ),
    "a status is data": (
        {"x": odd("p", onError="continue"), "p": pay("{{$nodes.x.status == 'success' ? '3' : '9'}}")},
        None,
        "p",
        "amount",
    ),
    "a balance sees what moved before": (
        {
            "p": pay("{{string(1 + $trigger.body.a)}}", children=["b"]),
            "b": {"type": "get-balance", "payload": {"chainId": 1, "address": SOMEBODY}, "children": ["q"]},
            "q": pay("{{string(int($nodes.b.result.balance) % 89)}}", OTHER),
        },
        None,
        "q",
        "amount",
    ),
    "max sees what moved before": (
        {"p": pay("{{string(1 + $trigger.body.a)}}", children=["q"]), "q": pay("max", OTHER)},
        None,
        "q",
        "amount",
    ),
    "a variable has what was written": (
        {"x": write("{{$trigger.body.a}}", children=["p"]), "p": pay("{{string(1 + $vars.v)}}")},
        None,
        "p",
        "amount",
    ),
    "a variable has what decided the writes": (
        {
            "i": check("x", "y"),
            "x": write(7, branch="then", children=["p"]),
            "y": write(8, branch="else", children=["p"]),
            "p": pay("{{string($vars.v)}}"),
        },
        None,
        "p",
        "amount",
    ),
    "a variable read by a node": (
        {
            "x": write("{{$trigger.body.a}}", children=["g"]),
            "g": {"type": "get-variable", "payload": {"name": "v"}, "children": ["p"]},
            "p": pay("{{string(1 + g.result.value)}}"),
        },
        None,
        "p",
        "amount",
    ),
    "a computed name is any variable": (
        {"x": write("{{$trigger.body.a}}", children=["p"]), "p": pay("{{string(1 + $vars[['v'][0]])}}")},
        None,
        "p",
        "amount",
    ),
    "a table has what was written": (
        {
            "w": {
                "type": "write-table",
                "payload": {"table": "t", "mode": "upsert", "rows": {"id": "0", "n": "{{$trigger.body.a}}"}},
                "children": ["r"],
            },
            "r": {"type": "read-table", "payload": {"table": "{{$trigger.body.table}}"}, "children": ["p"]},
            "p": pay("{{string(1 + r.result.first.n)}}"),
        },
        None,
        "p",
        "amount",
    ),
    "which node of a called workflow is the last": (
        {"c": call("p"), "p": pay("{{string(c.result.result.value)}}")},
        TWO_WAYS,
        "p",
        "amount",
    ),
    "the payload of a call": (
        {"c": call("p"), "p": pay("{{c.result.result.message}}")},
        {"l": {"type": "log", "payload": {"message": "{{$inputs.a}}"}}},
        "p",
        "amount",
    ),
    "the result of a loop": (
        {
            "l": loop("x", "p", array=[1, 2], onItemError="continue"),
            "x": odd(),
            "p": pay("{{string(1 + l.result.counts.success)}}"),
        },
        None,
        "p",
        "amount",
    ),
    "an item of a loop": (
        {"l": loop("p", array="{{$trigger.body.a}}"), "p": pay("{{$item.amount}}")},
        None,
        "p",
        "amount",
    ),
    "the first item of a while that is the item of the loop around it": (
        {
            "l": loop("m", array="{{$trigger.body.a}}"),
            "m": loop("p", **{"while": "$index < 1", "first": "{{$item}}", "next": "{{$item + 1}}"}),
            "p": pay("{{string(1 + $item)}}"),
        },
        None,
        "p",
        "amount",
    ),
    "an entry of a list that a template makes": (
        {"p": {"type": "batch-transfer", "payload": {"chainId": 1, "rows": ROWS}}},
        None,
        "p",
        "amount",
    ),
    "an error branch decides": (
        {"x": odd("p", "q", onError="branch"), "p": pay(branch="error"), "q": pay("6")},
        None,
        "p",
        "decides",
    ),
    "the branch of success decides too": (
        {"x": odd("p", "q", onError="branch"), "p": fmt(branch="error"), "q": pay("6")},
        None,
        "q",
        "decides",
    ),
    "a branch decides": ({"i": check("p"), "p": pay(branch="then")}, None, "p", "decides"),
    "the length of a loop decides": ({"l": loop("p", array=LONGER), "p": pay()}, None, "p", "decides"),
    "a while decides": (
        {"l": loop("p", **{"while": "$index < $trigger.body.a", "first": 1, "next": "{{$item + 1}}"}), "p": pay()},
        None,
        "p",
        "decides",
    ),
    "whether a workflow is called decides": (
        {"i": check("c"), "c": call(branch="then")},
        {"p": pay()},
        "p",
        "decides",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_each_rule_names_the_source_at_its_level(name: str) -> None:
    nodes, helper, spend, level = CASES[name]
    found = slices(nodes, helper)[spend]
    assert A in texts(found.decides if level == "decides" else found.fields[level])
    if level == "decides":
        assert A not in texts(found.data)


def test_what_can_only_prevent_a_spend_is_neither_data_nor_decides() -> None:
    found = slices({"x": odd("p"), "p": pay()})["p"]
    assert A in texts(found.stops)
    assert A not in texts(found.data | found.decides)


def test_fields_are_matched_by_their_steps() -> None:
    rows = [{"recipient": "{{$trigger.body.to}}", "amount": "{{$trigger.body.n}}", "key": "{{$trigger.body.k}}"}]
    found = slices({"p": {"type": "batch-transfer", "payload": {"chainId": 1, "rows": rows}}})["p"]
    assert field(found, "recipient") == {"trigger:manual.to"}
    assert field(found, "amount") == {"trigger:manual.n"}
    assert field(found, "calldata") == {"trigger:manual.k"}
    assert field(found, "wallet") == {"setting:default-wallet"}


def test_an_amount_that_is_surely_a_number_does_not_hang_on_the_chain() -> None:
    assert field(slices({"p": pay("{{string(1 + $trigger.body.a)}}")})["p"], "amount") == {A}
    assert field(slices({"p": pay("{{$trigger.body.a}}")})["p"], "amount") == {A, "chain:1"}
    assert field(slices({"p": pay("max")})["p"], "amount") == {"chain:1"}


def test_a_swap_computes_its_limits_from_the_chain() -> None:
    payload = {"chainId": 1, "tokenIn": "native", "tokenOut": "USDC", "amountIn": "7", "slippageBps": "{{$inputs.s}}"}
    found = slices({"p": {"type": "swap-uniswap-v2", "payload": payload}})["p"]
    assert field(found, "limits") == {"chain:1", "contract:1/USDC", "trigger:manual.s"}
    assert field(found, "amount") == set()


def test_outside_systems_are_named() -> None:
    nodes: Nodes = {
        "h": {"type": "http-request", "payload": {"url": "https://api.example.com/x/{{$inputs.a}}"}, "children": ["m"]},
        "m": {"type": "llm", "connector": {"type": "llm-openai", "id": "c1"}, "payload": {"prompt": "?"}},
        "g": {"type": "get-price", "payload": {"chainId": 10}, "children": ["w"]},
        "w": {"type": "wait", "payload": {"timeoutMs": 5000}},
        "p": pay("{{h.result.body.n + w.result.triggerResult.n + g.result.usd + $env.N}}", "{{m.result.text}}"),
    }
    nodes["m"]["children"], nodes["w"]["children"] = ["g"], ["p"]
    found = slices(nodes)["p"]
    assert field(found, "recipient") == {"model:c1", "connector:c1"}
    outside = {"http:api.example.com", A, "price:10", "resume:w@1#w", "clock", "env:N"}
    assert field(found, "amount") - {"chain:1"} == outside


def test_a_price_has_the_symbol_of_its_token_and_what_spends_have_moved() -> None:
    for token, said in ((None, set[str]()), ("native", set()), (OTHER, {f"contract:1/{OTHER}"})):
        payload = {"chainId": 1} | ({} if token is None else {"token": token})
        nodes: Nodes = {
            "s": {**pay("{{string(1 + $trigger.body.a)}}"), "children": ["g"]},
            "g": {"type": "get-price", "payload": payload, "children": ["p"]},
            "p": pay("{{string(1 + size(g.result.symbol))}}"),
        }
        assert field(slices(nodes)["p"], "amount") == {"price:1", A, *said}


def test_a_call_that_is_computed_or_finds_nothing_may_be_anybodys() -> None:
    computed = call("p") | {"payload": {"workflowId": "{{$trigger.body.a}}"}}
    found = slices({"c": computed, "p": pay("{{c.result.result.message}}")}, {"q": pay()})
    assert {"workflow:*", A} <= field(found["p"], "amount")
    assert "workflow:*" in texts(found["q"].decides)
    gone = call("p") | {"payload": {"workflowId": "gone"}}
    assert "workflow:gone" in field(slices({"c": gone, "p": pay("{{c.result.result.message}}")})["p"], "amount")


def test_calls_in_circles_and_variables_written_from_themselves_end() -> None:
    again = {"type": "call-workflow", "payload": {"workflowId": "w"}}
    nodes: Nodes = {"x": write("{{$vars.v + $trigger.body.a}}", children=["p"]), "p": pay("{{$vars.v}}"), "c": again}
    nodes["p"]["children"] = ["c"]
    closed = ClosedPrograms("w@1", {"w@1": compiled(nodes)}, {("w", None): "w@1"})
    (found,) = slices_of(closed, SPECS)
    assert {A, "variable:w/v"} <= field(found, "amount")


def test_a_variable_that_each_run_resets_has_no_other_writer() -> None:
    nodes: Nodes = {"x": write("{{$trigger.body.a}}", children=["p"]), "p": pay("{{string(1 + $vars.v)}}")}
    reset = [{"name": "v", "default": 1, "lifetime": "reset"}]
    assert field(slices(nodes, variableDefs=reset)["p"], "amount") == {A}


def test_a_run_has_only_what_ran_and_keeps_what_decided() -> None:
    nodes: Nodes = {
        "h": {"type": "http-request", "payload": {"url": "{{$trigger.body.a}}"}, "children": ["i"]},
        "i": check("x", "y"),
        "x": write(7, branch="then", children=["p"]),
        "y": write("{{$trigger.body.b}}", branch="else", children=["p"]),
        "p": pay("{{string(1 + $vars.v + h.result.body.n)}}", join="any"),
    }
    ran: dict[tuple[str, str], list[dict[str, Any]]] = {("w@1", name): [{}] for name in ("root", "i", "x", "p")}
    ran["w@1", "h"] = [{"url": "https://rates.example.com/x"}]
    closed = ClosedPrograms("w@1", {"w@1": compiled(nodes)}, ran=ran, kept={("w@1", "h"): [("run_1", "h")]})
    (found,) = slices_of(closed, SPECS)
    assert {"http:rates.example.com", "result:run_1#h", A} <= field(found, "amount")
    assert "trigger:manual.b" not in field(found, "amount")


def test_ten_thousand_nodes_are_bounded() -> None:
    """Ten workflows of 1,000 nodes, all of which call the second: each definition is then one source."""
    nodes: Nodes = {}
    for at in range(997):
        nodes[f"n{at}"] = write(f"{{{{$vars.v + $inputs.k{at % 7}}}}}", children=[f"n{at + 1}"])
    nodes["n997"] = {"type": "call-workflow", "payload": {"workflowId": "w1", "payload": {"k3": "{{$inputs.k5}}"}}}
    program = compiled({**nodes, "p": pay("{{string(1 + $vars.v)}}")} | {"n997": nodes["n997"] | {"children": ["p"]}})
    programs = {f"w{member}@1": program for member in range(10)}
    began = time.process_time()
    found = slices_of(ClosedPrograms("w0@1", programs, {("w1", None): "w1@1"}), SPECS)
    took = time.process_time() - began
    assert {"trigger:manual.k3", "variable:w0/v"} <= field(found[0], "amount")
    assert {"trigger:manual.k5", "variable:w1/v"} <= field(found[1], "amount")
    assert "trigger:manual.k3" not in field(found[1], "amount")
    assert took < 5


def test_a_source_reads_its_own_text() -> None:
    known = (
        "definition:wf_1@3#pay.amount",
        "definition:wf_1@3",
        'trigger:webhook.rows[0]["a b"].x',
        "trigger:manual",
        "contract:1/0xabc",
        "http:127.0.0.1:80",
        "variable:wf_1/last",
        "resume:wf_1@3#wait",
        "workflow:wf_1.name",
        "result:run_1#loop[0].pay",
        "clock",
    )
    assert [str(parse_source(text)) for text in known] == list(known)
    one = parse_source(known[0])
    assert (one.workflow, one.version, one.node, one.path) == ("wf_1", 3, "pay", ("pay", "amount"))
    assert parse_source("trigger:webhook.rows").covers(parse_source("trigger:webhook.rows[0].x"))
    assert parse_source("variable:wf_1/*").covers(parse_source("variable:wf_1/v"))
    assert not parse_source("variable:wf_1/v").covers(parse_source("variable:wf_1/w"))
    with pytest.raises(ValueError, match="is not a source"):
        parse_source("dice:6")


def test_a_contract_that_inputs_name_is_told_with_its_node_unless_a_store_was_between() -> None:
    """Inputs of this run do not say which contract an earlier one asked; the answer of a variable that each run begins
    anew is of this run."""
    info = {"type": "get-token-info", "payload": {"chainId": 1, "token": "{{$inputs.a}}"}, "children": ["next"]}
    direct = slices({"info": info, "next": pay("{{string(info.result.decimals * 1)}}")})["next"]
    asked = [(str(source), place) for source, place, _ in direct.names.of_run(direct.bits["amount"])]
    assert asked == [("contract:1/*", ("w@1", "info"))]
    assert {str(one) for one in direct.contracts(("w@1", "info"), {"token": OTHER})} == {f"contract:1/{OTHER}"}
    assert "contract:1/*" in field(direct, "amount")
    assert "contract:1/*" not in texts(direct.names.named_apart(direct.bits["amount"]))

    through = {
        "info": info,
        "next": write("{{info.result.decimals}}", children=["pay"]),
        "pay": pay("{{string(2 * $vars.v)}}"),
    }
    for lifetime, place in (("persist", []), ("reset", [("w@1", "info")])):
        kept = slices(through, variableDefs=[{"name": "v", "type": "any", "default": 1, "lifetime": lifetime}])["pay"]
        assert [place for _, place, _ in kept.names.of_run(kept.bits["amount"])] == place
        assert any(text.startswith("contract:") for text in field(kept, "amount"))


def test_what_is_written_to_a_table_is_told_by_column() -> None:
    """Whatever says which rows there are shapes all columns; a list that is computed as a whole, each of them."""
    change = {"where": {"id": "{{$inputs.which}}"}, "values": {"n": "{{$inputs.n}}"}}
    mapped = "{{$inputs.all.map(one, {'id': one.id, 'n': $vars.v})}}"
    payloads: dict[str, dict[str, Any]] = {
        "put": {"rows": {"id": "{{$inputs.id}}", "n": "{{$inputs.n}}"}},
        "set": {"mode": "update", **change},
        "all": {"rows": mapped},
        "any": {"rows": "{{$inputs.rows}}"},
    }
    nodes = {name: {"type": "write-table", "payload": {"table": "t", **one}} for name, one in payloads.items()}
    closed = ClosedPrograms("w@1", {"w@1": compiled({"start": fmt("x", *nodes), **nodes})})
    told = {
        (one.place[1], part): sorted(
            str(source).removeprefix("trigger:manual.") for source in sources if source.kind in ("trigger", "variable")
        )
        for one in slice_closure(closed, SPECS)[1]
        for part, sources in one.fields.items()
    }
    assert told == {
        ("put", ""): [],
        ("put", "id"): ["id"],
        ("put", "n"): ["n"],
        ("set", ""): ["which"],
        ("set", "n"): ["n"],
        ("all", ""): [],
        ("all", "id"): ["all"],
        ("all", "n"): ["all", "variable:w/v"],
        ("any", ""): [],
        ("any", "*"): ["rows"],
    }


def test_a_comment_is_told_from_the_decision_that_it_comes_with() -> None:
    ask = {"type": "approve", "payload": {"message": "Pay?"}, "children": ["pay"]}
    named = slices({"ask": ask, "pay": pay(to="{{ask.result.comment}}", branch="approved")})["pay"]
    chosen = slices({"ask": ask, "pay": pay("{{ask.result.decision == 'approved' ? '5' : '6'}}")})["pay"]
    assert field(named, "recipient") == {"approval:w@1#ask", "approval:w@1#ask.comment", "clock"}
    assert "approval:w@1#ask.comment" not in texts(named.decides) | field(chosen, "amount")
