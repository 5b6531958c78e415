"""What is known before a run: constants, the payload, items of loops; and who reads a result through what."""

from __future__ import annotations

from typing import Any

from dustrun import catalog
from dustrun.core.money.movements import Unknown
from dustrun.core.workflow.definition import Definition
from dustrun.core.workflow.forecast import MAX_ITEMS, Forecast, ForecastInput, find_readers, forecast_nodes
from dustrun.core.workflow.program import Program, compile_program

_SPECS = catalog.load(None).specs()


def program(**nodes: dict[str, Any]) -> Program:
    """A manual workflow of these nodes."""
    entries = [node_id for node_id, node in nodes.items() if node.pop("first", False)]
    root = {"type": "manual", "children": entries or [next(iter(nodes))]}
    return compile_program(Definition.model_validate({"nodes": {"root": root, **nodes}}), _SPECS)


def log(message: Any, **fields: Any) -> dict[str, Any]:
    return {"type": "log", "payload": {"message": "m", "data": message}, **fields}


def seen(of: Program, given: ForecastInput = ForecastInput(), node_id: str = "say") -> list[Forecast]:  # noqa: B008 (frozen)
    return forecast_nodes(of, given, [node_id])


def data(found: Forecast) -> Any:
    return found.wire["data"]


def test_constants_and_the_payload_are_known() -> None:
    made = program(say=log({"a": "{{1 + 1}}", "b": "{{$trigger.body.to}}", "c": "{{$inputs.to}}", "d": "{{$props.p}}"}))
    (known,) = seen(made, ForecastInput({"to": "bob"}, {"p": 5}))
    assert data(known) == {"a": 2, "b": "bob", "c": "bob", "d": 5}
    assert (known.unknowns, known.repeats, known.path) == ([], None, "say")
    (unknown,) = seen(made)
    assert data(unknown)["a"] == 2
    assert [field for field, _ in unknown.unknowns] == ["data.b", "data.c", "data.d"]
    assert "send it as `payload`" in dict(unknown.unknowns)["data.b"]
    assert "cannot be evaluated" in dict(unknown.unknowns)["data.d"]


def test_what_depends_on_the_run_says_on_what() -> None:
    texts = ["{{$nodes.first.result.x}}", "{{$vars.v}}", "{{$now}}", "{{$run.id}}", "{{first.result}}"]
    made = program(first=log("x", children=["say"]), say=log(texts))
    (found,) = seen(made, ForecastInput({}))
    assert [value.why for value in data(found)] == [
        'depends on the result of "first"',
        "depends on a variable",
        "depends on the time",
        "depends on the run",
        'depends on the result of "first"',
    ]


def test_loops_over_known_lists_are_opened_and_nested_ones_too() -> None:
    inner = {"type": "for-each", "payload": {"array": "{{$item.xs}}"}, "loopBody": ["say"]}
    outer = {
        "type": "for-each",
        "payload": {"array": [{"xs": [1, 2]}, {"xs": [3]}]},
        "loopBody": ["inner"],
        "first": True,
    }
    made = program(
        outer=outer, inner=inner, say=log(["{{$item}}", "{{$index}}", "{{$parent_index}}", "{{$for.outer.index}}"])
    )
    found = seen(made)
    assert [data(one) for one in found] == [[1, 0, 0, 0], [2, 1, 0, 0], [3, 0, 1, 1]]
    assert [one.path for one in found] == ["say[0][0]", "say[0][1]", "say[1][0]"]


def test_while_happens_an_unknown_number_of_times_and_hands_results_on() -> None:
    loop = {"type": "for-each", "payload": {"while": "page.result.more", "next": "{{page.result.at}}"}, "first": True}
    made = program(each={**loop, "loopBody": ["page"]}, page=log("x", children=["say"]), say=log("{{$item}}"))
    (one,) = seen(made, ForecastInput({}))
    assert one.repeats == 'it happens once per item of "each", whose items are unknown'
    assert isinstance(data(one), Unknown)
    assert find_readers(made, ["page"]) == {
        "each": [("while", "page.result.more"), ("next", "page.result.at")],
        "say": [("data", "$item")],
    }


def test_loops_over_unknown_lists_happen_an_unknown_number_of_times() -> None:
    loop = {"type": "for-each", "payload": {"array": "{{$trigger.body.rows}}"}, "loopBody": ["say"], "first": True}
    made = program(each=loop, say=log(["{{$item.a}}", 7]))
    (one,) = seen(made)
    assert one.repeats == 'it happens once per item of "each", whose items are unknown'
    assert isinstance(data(one)[0], Unknown)
    assert data(one)[1] == 7
    assert [data(one)[0] for one in seen(made, ForecastInput({"rows": [{"a": 1}, {"a": 2}]}))] == [1, 2]
    many = seen(made, ForecastInput({"rows": [{"a": 1}] * (MAX_ITEMS + 1)}))
    assert len(many) == MAX_ITEMS
    assert many[0].repeats == f'it happens once per item of "each", and there are {MAX_ITEMS + 1}'


def test_readers_are_found_through_nodes_variables_loops_and_conditions() -> None:
    made = program(
        spend=log("x", children=["calc"]),
        calc=log("{{$nodes.spend.result}}", children=["keep"]),
        keep={"type": "set-variable", "payload": {"name": "got", "value": "{{calc.result}}"}, "children": ["each"]},
        each={"type": "for-each", "payload": {"array": "{{$vars.got}}"}, "loopBody": ["say"], "children": ["check"]},
        say=log("{{$item}}"),
        check={"type": "if", "payload": {"expression": "$vars.got > 900"}, "children": ["other"]},
        other={**log("{{$vars.else}}"), "branch": "then"},
    )
    found = find_readers(made, ["spend"])
    assert set(found) == {"calc", "keep", "each", "say", "check"}
    assert found["check"] == [("then", "$vars.got")]
    assert found["calc"] == [("data", "$nodes.spend.result")]
    assert find_readers(made, []) == {}
