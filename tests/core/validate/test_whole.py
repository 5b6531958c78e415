"""Every finding of `check` once, with its exact place and its hint; and that no definition breaks it."""

from __future__ import annotations

import itertools
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dustrun.catalog import load
from dustrun.core import validate
from dustrun.core.validate import MAX_PROBLEMS, check, field_path, seen_location, suggest
from dustrun.core.workflow.definition import Definition
from dustrun.core.workflow.program import compile_program
from dustrun.errors import Problem
from testkit.examples import examples

SPECS = dict(load().specs())
SPECS["tell"] = replace(SPECS["log"], connectors=("apprise",), connector_required=True)
Nodes = dict[str, dict[str, Any]]
ROOT: dict[str, Any] = {"type": "manual", "children": ["a"]}
ASK: dict[str, Any] = {
    "type": "llm",
    "payload": {"prompt": "Say it", "maxCostUsd": "1", "tools": [{"type": "notify"}]},
    "connector": {"type": "llm-openai", "id": "conn_0"},
}


def log(message: Any = "x", **node: Any) -> dict[str, Any]:
    return {"type": "log", "payload": {"message": message}, **node}


def problems(nodes: Nodes, **definition: Any) -> list[Problem]:
    return check(Definition.model_validate({"nodes": nodes, **definition}), SPECS)


def found(nodes: Nodes, **definition: Any) -> list[tuple[str | None, str, str]]:
    return [(problem.code, problem.field, problem.message) for problem in problems(nodes, **definition)]


def loop(*body: str, **node: Any) -> dict[str, Any]:
    return {"type": "for-each", "payload": {"array": []}, "loopBody": list(body), **node}


def test_a_definition_in_order_has_no_problem() -> None:
    nodes: Nodes = {
        "root": {**ROOT, "children": ["check", "each"]},
        "check": {
            "type": "if",
            "payload": {"condition": {"$and": [{"{{$trigger.body.usd}}": {"$gt": 1}}]}},
            "children": ["a", "b"],
            "onError": "branch",
        },
        "a": log("{{check.result.branch}} {{$nodes.root.result.body}} {{root.result.x}}", branch="then"),
        "b": log("{{check.error}}", branch="error"),
        "each": loop("inner", "c"),
        "inner": loop("deep"),
        "c": log("{{$item.x}} {{$index}} {{$for.each.index}} {{inner.result.iterationCount}}"),
        "deep": log("{{$parent_item}} {{$parent_index}} {{$for.inner.item}} {{$for.each.item}} {{$now}} {{$run.id}}"),
    }
    nodes["inner"]["children"] = ["c"]
    nodes["each"]["loopBody"] = ["inner"]
    assert found(nodes) == []
    compile_program(Definition.model_validate({"nodes": nodes}), SPECS)


EACH: list[tuple[str, str, Nodes, dict[str, Any], str, str]] = [
    (
        "rate_without_effect",
        "warning",
        {"root": {"type": "manual", "rate": {"count": 1, "perMs": 1000}}},
        {"triggerNodeIds": ["root"]},
        "nodes.root.rate",
        "A trigger begins once in a run, so a rate has no effect here.",
    ),
    (
        "unknown_trigger_node",
        "error",
        {"root": {"type": "manual"}},
        {"triggerNodeIds": ["root", "rot"]},
        "triggerNodeIds[1]",
        'There is no node "rot". Did you mean "root"?',
    ),
    (
        "not_a_trigger",
        "error",
        {"root": {"type": "manual"}, "a": log()},
        {"triggerNodeIds": ["root", "a"]},
        "triggerNodeIds[1]",
        '"a" is of type "log", which is not a trigger. Use a trigger such as "manual".',
    ),
    (
        "duplicate_trigger_node",
        "error",
        {"root": {"type": "manual"}},
        {"triggerNodeIds": ["root", "root"]},
        "triggerNodeIds[1]",
        '"root" is listed twice.',
    ),
    (
        "trigger_has_parent",
        "error",
        {"root": {"type": "manual", "children": ["other"]}, "other": {"type": "manual"}},
        {"triggerNodeIds": ["root", "other"]},
        "triggerNodeIds[1]",
        'The trigger "other" may not follow another node.',
    ),
    (
        "unknown_type",
        "error",
        {"root": ROOT, "a": {"type": "lgo"}},
        {},
        "nodes.a.type",
        'There is no node type "lgo". Did you mean "log"? See GET /v1/actions.',
    ),
    (
        "connector_missing",
        "error",
        {"root": ROOT, "a": log(type="tell")},
        {},
        "nodes.a.connector",
        'This action needs a connector of type "apprise".',
    ),
    (
        "connector_type",
        "error",
        {"root": ROOT, "a": log(type="tell", connector={"type": "aprise", "id": "conn_1"})},
        {},
        "nodes.a.connector.type",
        'This action takes no connector of type "aprise", only "apprise". Did you mean "apprise"?',
    ),
    (
        "connector_unused",
        "warning",
        {"root": ROOT, "a": log(connector={"type": "apprise", "id": "conn_1"})},
        {},
        "nodes.a.connector",
        'A node of type "log" uses no connector; remove it.',
    ),
    (
        "connector_type",
        "error",
        {
            "root": {
                "type": "rss",
                "payload": {"url": "https://a.example"},
                "connector": {"type": "wallet", "id": "wal_1"},
            }
        },
        {},
        "nodes.root.connector.type",
        'This trigger takes no connector of type "wallet", only "aws", "http-basic", "http-bearer", "http-header", '
        '"http-query", "llm-anthropic", "llm-openai", "mcp", "oauth2-authorization-code", "oauth2-client-credentials", '
        '"oauth2-refresh-token".',
    ),
    (
        "secret_in_header",
        "warning",
        {"root": {"type": "rss", "payload": {"url": "https://a.example", "headers": {"X-Api-Key": "0123456789"}}}},
        {},
        "nodes.root.payload.headers.X-Api-Key",
        'The header "X-Api-Key" is part of the definition, which everybody with workflow:read sees. Keep its secret in '
        "a connector, and name that in the node's `connector`: types http-basic, http-bearer, http-header, http-query.",
    ),
    (
        "connector_expression",
        "error",
        {"root": ROOT, "a": log(type="tell", connector={"type": "apprise", "id": "{{$inputs.service}}"})},
        {},
        "nodes.a.connector.id",
        "Only a wallet may be named by an expression; put the id of a connector here.",
    ),
    (
        "connector_expression",
        "error",
        {"root": ROOT, "a": log(connector={"type": "wallet", "id": "wal_1", "oneOf": ["wal_1"]})},
        {},
        "nodes.a.connector.oneOf",
        "oneOf limits the wallets that an expression in `id` may give; this id is none. Remove oneOf.",
    ),
    (
        "reference_outside_loop",
        "error",
        {"root": ROOT, "a": log(connector={"type": "wallet", "id": "{{$item.wallet}}"})},
        {},
        "nodes.a.connector.id",
        '"$item" exists only inside a loop (line 1, column 3).',
    ),
    (
        "expression_invalid",
        "error",
        {"root": ROOT, "a": log(connector={"type": "wallet", "id": "{{1 +}}"})},
        {},
        "nodes.a.connector.id",
        "unexpected end of the expression (line 1, column 6)\n  {{1 +}}\n       ^",
    ),
    (
        "trigger_not_named",
        "error",
        {"root": ROOT, "a": {"type": "manual"}},
        {},
        "nodes.a.type",
        '"a" is a trigger; add it to triggerNodeIds or change its type.',
    ),
    (
        "payload_invalid",
        "error",
        {"root": ROOT, "a": {"type": "http-request", "payload": {"url": "https://x.example", "urrl": "{{$now}}"}}},
        {},
        "nodes.a.payload.urrl",
        'Unknown field. Did you mean "url"?',
    ),
    (
        "unknown_child",
        "error",
        {"root": {"type": "manual", "children": ["log", "lgo"]}, "log": log()},
        {},
        "nodes.root.children[1]",
        'There is no node "lgo". Did you mean "log"?',
    ),
    (
        "duplicate_child",
        "error",
        {"root": {"type": "manual", "children": ["a", "a"]}, "a": log()},
        {},
        "nodes.root.children[1]",
        '"a" is listed twice.',
    ),
    (
        "loop_body_misplaced",
        "error",
        {"root": ROOT, "a": log(loopBody=["b"]), "b": log()},
        {},
        "nodes.a.loopBody",
        'Only a "for-each" has a loop body.',
    ),
    (
        "cycle",
        "error",
        {"root": ROOT, "a": log(children=["b"]), "b": log(children=["a"])},
        {},
        "nodes.a.children",
        "The nodes form a cycle: a → b → a. Remove one of these links.",
    ),
    (
        "unreachable",
        "error",
        {"root": {"type": "manual"}, "a": log()},
        {},
        "nodes.a",
        'No trigger leads to "a". Add it to a node\'s children, or remove it.',
    ),
    (
        "two_scopes",
        "error",
        {"root": {**ROOT, "children": ["each", "a"]}, "each": loop("a"), "a": log()},
        {},
        "nodes.a",
        '"a" is reached outside of loops and in the loop "each"; a node can be in one scope only.',
    ),
    (
        "branch_of_another_parent",
        "warning",
        {
            "root": ROOT,
            "a": {"type": "if", "payload": {"expression": "true"}, "children": ["b", "c"]},
            "b": {
                "type": "approve",
                "branch": "then",
                "payload": {"message": "?"},
                "children": ["c"],
            },
            "c": log(branch="rejected"),
        },
        {},
        "nodes.c.branch",
        '"c" runs whichever way "a" goes, which has no branch "rejected", only then, else. Unless you want that, '
        'remove "c" from its children.',
    ),
    (
        "unknown_branch",
        "error",
        {"root": ROOT, "a": {"type": "if", "payload": {"expression": "true"}, "children": ["b"]}, "b": log(branch="x")},
        {},
        "nodes.b.branch",
        'No parent of "b" has a branch "x". They offer: then, else.',
    ),
    (
        "error_branch_missing",
        "error",
        {"root": ROOT, "a": log(onError="branch", children=["b"]), "b": log()},
        {},
        "nodes.a.onError",
        'onError is "branch", but no child has branch "error". Add one, or use "continue" or "fail".',
    ),
    (
        "variable_twice",
        "error",
        {"root": {"type": "manual"}},
        {"variableDefs": [{"name": "x"}, {"name": "x"}]},
        "variableDefs[1].name",
        'The variable "x" is declared twice.',
    ),
    (
        "variable_type_mismatch",
        "error",
        {"root": {"type": "manual"}},
        {"variableDefs": [{"name": "x", "type": "number", "default": "1"}]},
        "variableDefs[0].default",
        'The variable "x" is declared as number; text does not fit.',
    ),
    (
        "variable_undeclared",
        "warning",
        {"root": ROOT, "a": {"type": "get-variable", "payload": {"name": "totl"}}},
        {"variableDefs": [{"name": "total"}]},
        "nodes.a.payload.name",
        'The variable "totl" is not declared in variableDefs, so it may have any type. Did you mean "total"?',
    ),
    (
        "variable_scope_mismatch",
        "error",
        {"root": ROOT, "a": {"type": "set-variable", "payload": {"name": "x", "value": 1, "scope": "reset"}}},
        {"variableDefs": [{"name": "x"}]},
        "nodes.a.payload.scope",
        'The variable "x" is declared as "persist"; remove `scope`.',
    ),
    (
        "pinned_branch",
        "error",
        {"root": ROOT, "a": {"type": "if", "payload": {"expression": "true"}, "pinned": {"branch": "yes"}}},
        {},
        "nodes.a.pinned",
        'The pinned result needs a "branch", one of: then, else.',
    ),
    (
        "pinned_result",
        "warning",
        {"root": ROOT, "a": log("x", pinned={"message": ["x"]})},
        {},
        "nodes.a.pinned.message",
        'The result of "log" could not be this: Must be a string.',
    ),
    (
        "timeout_without_effect",
        "warning",
        {"root": ROOT, "a": {"type": "approve", "payload": {"message": "?"}, "timeoutMs": 5000}},
        {},
        "nodes.a.timeoutMs",
        'A "approve" takes its time limit from payload.timeoutMs.',
    ),
    (
        "loops_too_deep",
        "error",
        {"root": ROOT, **{f"{'a' * (n + 1)}": loop("a" * (n + 2)) for n in range(11)}, "a" * 12: log()},
        {},
        "nodes.aaaaaaaaaaa.type",
        '"aaaaaaaaaaa" would nest 11 loops; the limit is 10.',
    ),
    (
        "loop_body_missing",
        "warning",
        {"root": ROOT, "a": loop()},
        {},
        "nodes.a.loopBody",
        "The loop has no body: list its first nodes in loopBody.",
    ),
    (
        "trigger_not_awaitable",
        "error",
        {"root": ROOT, "a": {"type": "wait", "payload": {"timeoutMs": 1000, "triggerType": "manul"}}},
        {},
        "nodes.a.payload.triggerType",
        'A wait cannot wait for "manul", only for: manual. Did you mean "manual"?',
    ),
    (
        "resume_url_unknown",
        "error",
        {
            "root": ROOT,
            "a": log("{{$run.resumeUrl('wiat')}}", children=["wait"]),
            "wait": {"type": "wait", "payload": {"timeoutMs": 1000}},
        },
        {},
        "nodes.a.payload.message",
        'resumeUrl: "wiat" is not a `wait` or `approve` node. Did you mean "wait"?',
    ),
    (
        "resume_url_outside_loop",
        "error",
        {
            "root": ROOT,
            "a": log("{{$run.resumeUrl('w')}}", children=["each"]),
            "each": loop("w"),
            "w": {"type": "wait", "payload": {"timeoutMs": 1000}},
        },
        {},
        "nodes.a.payload.message",
        'resumeUrl: "w" is in a loop that does not enclose this node; call it inside that loop.',
    ),
    (
        "expression_invalid",
        "error",
        {"root": ROOT, "a": {"type": "if", "payload": {"condition": {"{{$now}}": {"$gtt": 1}}}}},
        {},
        "nodes.a.payload.condition.{{$now}}.$gtt",
        '"$gtt" is not an operator; did you mean "$gt" or "$gte"?',
    ),
    (
        "reference_outside_loop",
        "error",
        {"root": ROOT, "a": log(["x", "{{$item.id}}"])},
        {},
        "nodes.a.payload.message[1]",
        '"$item" exists only inside a loop (line 1, column 3).',
    ),
    (
        "unknown_root",
        "error",
        {"root": ROOT, "a": log("{{$triger.body}}")},
        {},
        "nodes.a.payload.message",
        '"$triger" is neither a root nor a node (line 1, column 3). Did you mean "$trigger"?',
    ),
    (
        "unknown_node",
        "error",
        {"root": ROOT, "a": log(children=["b"]), "b": log("{{$nodes.rot.result.x}}")},
        {},
        "nodes.b.payload.message",
        'There is no node "rot" (line 1, column 3). Did you mean "root"?',
    ),
    (
        "reference_not_before",
        "error",
        {"root": ROOT, "a": log("{{b.result.message}}", children=["b"]), "b": log()},
        {},
        "nodes.a.payload.message",
        '"b" cannot have run before "a" (line 1, column 3). Make it an ancestor.',
    ),
    (
        "unknown_node_field",
        "error",
        {"root": ROOT, "a": log(children=["b"]), "b": log("{{a.results}}")},
        {},
        "nodes.b.payload.message",
        'A node has error, input, result, status, not "results" (line 1, column 3).',
    ),
    (
        "unknown_result_field",
        "error",
        {"root": ROOT, "a": log(children=["b"]), "b": log("{{a.result.mesage}}")},
        {},
        "nodes.b.payload.message",
        'The result of "a" has no "mesage" (line 1, column 3). Did you mean "message"?',
    ),
    (
        "expressions_too_large",
        "error",
        {"root": ROOT, "a": log("{{" + "1+" * 66_000 + "1}}")},
        {},
        "nodes",
        "The expressions of all nodes have 132001 characters; the limit is 131072.",
    ),
    (
        "model_tool",
        "error",
        {"root": ROOT, "a": ASK},
        {},
        "nodes.a.payload.tools[0].type",
        '"notify" cannot be a tool: a model may only call what computes or reads, and this changes something outside.',
    ),
]


@pytest.mark.parametrize(
    ("code", "severity", "nodes", "definition", "field", "message"),
    EACH,
    ids=[case[0] for case in EACH],
)
def test_each_problem_is_told_alone_with_its_place(
    code: str, severity: str, nodes: Nodes, definition: dict[str, Any], field: str, message: str
) -> None:
    assert [(p.code, p.severity, p.field, p.message) for p in problems(nodes, **definition)] == [
        (code, severity, field, message)
    ]


def test_no_code_is_left_out() -> None:
    source = "".join(file.read_text() for file in Path(validate.__file__).parent.glob("*.py"))
    made = re.findall(r'\bproblem\(\s*"(\w+)"', source) + re.findall(r'"(\w+)"(?:, node_id)?\)\n', source)
    assert {code for code in made if "_" in code or code in ("cycle", "unreachable")} == {case[0] for case in EACH}


@pytest.mark.parametrize(
    ("node", "field", "message"),
    [
        ({"type": "log", "payload": {}}, "payload.message", "This field is required."),
        (
            {"type": "log", "payload": {"message": 1, "level": "loud"}},
            "payload.level",
            'Must be "debug", "info", "warning" or "error".',
        ),
        (
            {"type": "switch", "payload": {"cases": [{"name": "x", "expression": "true"}, {"name": "y"}]}},
            "payload.cases[1].expression",
            "This field is required.",
        ),
        (
            {"type": "if", "payload": {"condition": "{{$trigger.body.x > 1}}"}},
            "payload.condition",
            "Must be a JSON object.",
        ),
        (
            {"type": "switch", "payload": {"cases": "{{$trigger.body.cases}}"}},
            "payload.cases",
            "Must be a list.",
        ),
        ({"type": "if", "payload": {}}, "payload", "Give exactly one of `condition` and `expression`."),
        (
            {"type": "pluck", "payload": {"array": [], "fields": {"x": 5}}},
            "payload.fields.x",
            "Must be a string.",
        ),
        (
            {"type": "filter", "payload": {"array": [], "condition": {"x": {"$gtt": 1}}}},
            "payload.condition",
            '"$gtt" at x is not an operator; did you mean "$gt" or "$gte"?',
        ),
    ],
)
def test_payload_is_checked_field_by_field(node: dict[str, Any], field: str, message: str) -> None:
    told = found({"root": ROOT, "a": node})
    assert ("payload_invalid", f"nodes.a.{field}", message) in told


def test_what_a_template_will_fill_is_not_judged_before() -> None:
    payload = {"url": "{{$trigger.body.url}}", "timeoutMs": "{{$props.patience}}", "headers": {"x": "{{$now}}"}}
    assert found({"root": ROOT, "a": {"type": "http-request", "payload": payload}}) == []


def test_every_error_of_a_condition_is_told() -> None:
    condition = {"$or": [{"{{a}}": {"$equals": 1}}, {"{{1 +}}": {"$eq": 1}}]}
    told = found({"root": ROOT, "a": {"type": "if", "payload": {"condition": condition}}})
    assert [(code, field) for code, field, _ in told] == [
        ("expression_invalid", "nodes.a.payload.condition.$or[0].{{a}}.$equals"),
        ("expression_invalid", "nodes.a.payload.condition.$or[1].{{1 +}}"),
    ]


def test_every_error_of_a_payload_is_told_with_its_place() -> None:
    told = found({"root": ROOT, "a": log(["{{1 +}}", {"deep": "{{nope}}"}, "{{ 'x }}"])})
    assert [(code, field) for code, field, _ in told] == [
        ("expression_invalid", "nodes.a.payload.message[0]"),
        ("expression_invalid", "nodes.a.payload.message[2]"),
    ]


def test_a_template_in_the_settings_of_a_trigger_is_a_problem() -> None:
    nodes: Nodes = {"root": {**ROOT, "payload": {"inputSchema": "{{$env.SCHEMA}}"}}, "a": log()}
    assert found(nodes) == [("payload_invalid", "nodes.root.payload.inputSchema", "Must be a JSON object.")]


def test_raw_fields_hold_no_templates() -> None:
    assert found({"root": ROOT, "a": {"type": "code-transform", "payload": {"code": "return `{{ ${1} `"}}}) == []


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("{{a.result.message}}", None),
        ("{{a.result.anything}}", "unknown_result_field"),
        ("{{root.result.anything}}", None),
        ("{{$nodes.root.result.anything}}", "unknown_result_field"),
        ("{{a.result.mesage ?? 1}}", None),
        ("{{has(a.result.mesage)}}", None),
        ("{{$parent_item}}", "reference_outside_loop"),
        ("{{$for.a.item}}", "reference_outside_loop"),
        ("{{$nodes}}", None),
        ("{{[1].map(x, x)}}", None),
    ],
)
def test_reference_is_judged_by_what_is_known(message: str, code: str | None) -> None:
    nodes: Nodes = {"root": ROOT, "a": log(children=["b"]), "b": log(message)}
    assert [told[0] for told in found(nodes)] == ([code] if code else [])


def test_a_broken_definition_is_told_up_to_a_limit() -> None:
    nodes: Nodes = {f"n{number}": {"type": "nope"} for number in range(MAX_PROBLEMS + 50)}
    assert len(problems({"root": {"type": "manual"}, **nodes})) == MAX_PROBLEMS


def test_warnings_never_hide_an_error() -> None:
    names = [f"n{number}" for number in range(MAX_PROBLEMS + 50)]
    nodes: Nodes = {name: loop() for name in names}
    told = problems({"root": {"type": "manual", "children": [*names, "last"]}, **nodes, "last": log("{{nope}}")})
    assert [problem.code for problem in told if problem.severity == "error"] == ["unknown_root"]
    assert len(told) == len(names) + 1


@pytest.mark.parametrize("kind", ["children twice", "unknown children", "deep loops", "long chain", "many references"])
def test_a_definition_made_to_be_slow_is_checked_soon(kind: str) -> None:
    names = [f"n{number}{'x' * 20}" for number in range(900)]
    nodes: Nodes = {"root": {"type": "manual", "children": names}, **{name: log() for name in names}}
    if kind == "children twice":
        nodes["root"]["children"] = [names[0]] * 50_000
    elif kind == "unknown children":
        nodes["root"]["children"] = [f"n{number}{'y' * 20}" for number in range(5000)]
    elif kind == "many references":
        nodes[names[0]] = log(["{{n%dyyyyyyyyyy}}" % number for number in range(2000)])  # noqa: UP031
    else:
        link = "loopBody" if kind == "deep loops" else "children"
        shape = loop() if kind == "deep loops" else log()
        for name, then in itertools.pairwise(names):
            nodes[name] = {**shape, link: [then]}
        nodes["root"]["children"] = names[:1]
        nodes[names[-1]] = log("{{root.result.x}} {{" + names[0] + ".result}}")
    begun = time.process_time()
    problems(nodes)
    assert time.process_time() - begun < 10  # a guard against squares: they took minutes


@pytest.mark.parametrize(
    ("value", "location", "kind", "seen"),
    [
        ({"rows": [{"a": 1}]}, ("rows", 0, "a"), "int_type", "rows[0].a"),
        ({"rows": [{}]}, ("rows", 0, "a"), "missing", "rows[0].a"),
        ({"fields": 5}, ("fields", "list[str]"), "list_type", "fields"),
        ({"fields": {"x": 5}}, ("fields", "dict[str,str]", "x"), "string_type", "fields.x"),
        ({"by": [{}]}, ("by", "function-after[f(), list]", 0, "field"), "missing", "by[0].field"),
        ({}, (), "value_error", ""),
    ],
)
def test_a_place_is_one_that_people_can_follow(
    value: Any, location: tuple[int | str, ...], kind: str, seen: str
) -> None:
    assert field_path(seen_location(value, location, kind)) == seen


def test_near_names_at_most_two_and_each_once() -> None:
    assert suggest("lgo", ["log", "log", "if"]) == ' Did you mean "log"?'
    assert suggest("sum", ["sub", "sun", "suma"]).count('"') == 4
    assert suggest("sum", []) == ""


names = st.sampled_from(["root", "a", "b", "c", "each", "nope"])
texts = st.sampled_from(
    [
        "x",
        "{{a.result.message}}",
        "{{$item}}",
        "{{$nodes.b.error ?? 1}}",
        "{{1 +",
        "{{{{",
        "{{$for.each.item}}",
        "{{$run.resumeUrl('c')}}",
        "{{$nodes[",
        "\ud7ff{{'ä'}}",
        "{{a.b[0]['c']}}",
        "{{$vars.x}}",
        "",
    ]
)
junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.decimals(allow_nan=False) | texts | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | texts, inner, max_size=3),
    max_leaves=6,
)
FIELDS = sorted({info.alias or name for spec in SPECS.values() for name, info in spec.payload.model_fields.items()})
payloads = st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=5), junk, max_size=5)
branches = st.none() | st.sampled_from(["then", "else", "error", "default", "x"])
nodes_of_any_kind = st.fixed_dictionaries(
    {"type": st.sampled_from([*SPECS, "nope"]), "payload": payloads},
    optional={
        "children": st.lists(names, max_size=3),
        "loopBody": st.lists(names, max_size=2),
        "branch": branches,
        "onError": st.sampled_from(["fail", "continue", "branch"]),
        "join": st.sampled_from(["all", "any"]),
        "pinned": junk,
        "timeoutMs": st.integers(1, 10_000),
        "retry": st.just({"maxAttempts": 3}),
    },
)
definitions = st.fixed_dictionaries(
    {"nodes": st.dictionaries(names, nodes_of_any_kind, min_size=1, max_size=6)},
    optional={
        "triggerNodeIds": st.lists(names, min_size=1, max_size=3),
        "variableDefs": st.lists(
            st.fixed_dictionaries(
                {"name": st.sampled_from(["x", "y"])},
                optional={"type": st.sampled_from(["number", "text", "boolean", "list", "object", "any"])},
            ),
            max_size=3,
        ),
    },
)


@given(definitions)
@examples(300)
def test_no_definition_breaks_the_check_and_what_passes_compiles(document: dict[str, Any]) -> None:
    definition = Definition.model_validate(document)
    told = check(definition, SPECS)
    assert all(problem.code and problem.field and problem.message for problem in told)
    assert all(problem.field.startswith(("nodes.", "triggerNodeIds[", "variableDefs[")) for problem in told)
    assert check(definition, SPECS) == told
    if not any(problem.severity == "error" for problem in told):
        compile_program(definition, SPECS)


@pytest.mark.parametrize(
    ("node", "field", "meant"),
    [
        (log(message="a {{$item.x}} b"), "payload.message", "$item.x"),
        (log(message="🧊 {{ $nodes['no-pe'].result.a ?? 1 }}"), "payload.message", "$nodes['no-pe'].result.a"),
        (log(message="{{1 +}}"), "payload.message", "}"),
        (log(message="a\n {{ 1 ) }}"), "payload.message", ")"),
        (log(message="{{ $triger.body.a }} {{ $now }}"), "payload.message", "$triger.body.a"),
        (log(message=["{{$item}}"]), "payload.message[0]", "$item"),
        (log(connector={"type": "wallet", "id": " {{$item.wallet}}"}), "connector.id", "$item.wallet"),
        ({"type": "if", "payload": {"expression": " {{ $item > 1 }}"}}, "payload.expression", "$item"),
        ({"type": "if", "payload": {"expression": " 1 > )"}}, "payload.expression", ")"),
        (
            {"type": "if", "payload": {"condition": {"{{$trigger.body.a}}": {"$gt": "{{1 2}}"}}}},
            "payload.condition.{{$trigger.body.a}}.$gt",
            "2",
        ),
    ],
)
def test_a_problem_of_an_expression_says_which_characters_are_meant(
    node: dict[str, Any], field: str, meant: str
) -> None:
    definition = Definition.model_validate({"nodes": {"root": {**ROOT, "children": ["a"]}, "a": node}})
    (one,) = [one for one in check(definition, SPECS) if one.span is not None]
    assert one.field == f"nodes.a.{field}"
    text: Any = node
    for part in re.findall(r"\{\{.*?\}\}|[^.\[\]]+", field):
        text = text[int(part)] if part.isdigit() else text[part]
    assert one.span is not None
    start, end = one.span
    assert text[start:end] == meant
    assert (one.public()["start"], one.public()["end"]) == one.span


def test_a_problem_of_a_whole_field_has_no_characters() -> None:
    definition = Definition.model_validate(
        {"nodes": {"root": {**ROOT, "children": ["a"]}, "a": {"type": "log", "payload": {"urrl": "x"}}}}
    )
    assert {one.span for one in check(definition, SPECS)} == {None}
    # a text inside of it is meant
    test = {"type": "if", "payload": {"condition": {"{{$itm}}": {"$gt": 1}}}}
    definition = Definition.model_validate({"nodes": {"root": {**ROOT, "children": ["a"]}, "a": test}})
    assert [(one.field, one.span) for one in check(definition, SPECS)] == [("nodes.a.payload.condition", None)]
