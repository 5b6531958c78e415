"""Nodes to scopes, edges, ancestors; cycles; chains so long that recursion would end."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dustrun.core.workflow.control import CONTROL
from dustrun.core.workflow.definition import Definition
from dustrun.core.workflow.graph import TOP, Edge, Graph, build, find_cycle, find_scopes, labels_of, reachable
from testkit.models.graphs import SPECS, graph_of, random_definition

Nodes = dict[str, dict[str, Any]]


def definition(nodes: Nodes, triggers: tuple[str, ...] = ("root",)) -> Definition:
    filled = {name: {"type": "step", **node} for name, node in nodes.items()}
    return Definition.model_validate({"nodes": filled, "triggerNodeIds": list(triggers)})


def graph(nodes: Nodes, triggers: tuple[str, ...] = ("root",)) -> Graph:
    return build(definition(nodes, triggers), SPECS)


def cycle(nodes: Nodes) -> list[str] | None:
    return find_cycle(definition(nodes).nodes)


LOOP: Nodes = {
    "root": {"type": "manual", "children": ["before"]},
    "before": {"children": ["outer"]},
    "outer": {"type": "for-each", "loopBody": ["a"], "children": ["after"]},
    "a": {"children": ["inner"]},
    "inner": {"type": "for-each", "loopBody": ["x", "y"], "children": ["b"]},
    "x": {"children": ["z"]},
    "y": {"children": ["z"]},
    "z": {},
    "b": {},
    "after": {},
}


def test_every_loop_is_a_scope_of_its_own() -> None:
    found = graph(LOOP)
    assert {loop: (scope.node_ids, scope.entries) for loop, scope in found.scopes.items()} == {
        TOP: (("root", "before", "outer", "after"), ("root",)),
        "outer": (("a", "inner", "b"), ("a",)),
        "inner": (("x", "y", "z"), ("x", "y")),
    }
    assert found.scope_of["z"] == "inner"
    assert found.scope_of["after"] == TOP


def test_loops_around_are_innermost_first() -> None:
    found = graph(LOOP)
    assert found.loops_around("z") == ("inner", "outer")
    assert found.loops_around("inner") == ("outer",)
    assert found.loops_around("after") == ()


def test_ancestors_are_all_before_in_the_scope_and_around_it() -> None:
    found = graph(LOOP)
    assert found.ancestors("root") == frozenset()
    assert found.ancestors("after") == {"outer", "before", "root"}
    assert found.ancestors("b") == {"inner", "a", "outer", "before", "root"}
    assert found.ancestors("z") == {"x", "y", "inner", "a", "outer", "before", "root"}
    assert found.ancestors("x") == {"inner", "a", "outer", "before", "root"}


def test_edges_carry_the_branch_that_the_parent_offers() -> None:
    found = graph(
        {
            "root": {"type": "manual", "children": ["check", "plain"]},
            "check": {"type": "if", "children": ["yes", "no", "either"], "onError": "branch"},
            "plain": {"children": ["yes", "yes"]},
            "yes": {"branch": "then"},
            "no": {"branch": "error"},
            "either": {},
        }
    )
    assert found.edges_from["check"] == (
        Edge("check", "yes", "then"),
        Edge("check", "no", "error"),
        Edge("check", "either", None),
    )
    assert found.edges_into["yes"] == (Edge("check", "yes", "then"), Edge("plain", "yes", None))


@pytest.mark.parametrize(
    ("node", "labels"),
    [
        ({"type": "if"}, ("then", "else")),
        ({"type": "if", "onError": "branch"}, ("then", "else", "error")),
        ({"type": "step"}, ()),
        ({"type": "step", "onError": "branch"}, ("error",)),
        ({"type": "step", "onError": "continue"}, ()),
        ({"type": "no-such-type", "onError": "branch"}, ("error",)),
        (
            {"type": "switch", "payload": {"cases": [{"name": "a"}, {"name": "b"}, {"name": 7}, "c"]}},
            ("a", "b", "default"),
        ),
        ({"type": "switch", "payload": {"cases": "{{no}}"}}, ("default",)),
        ({"type": "switch"}, ("default",)),
    ],
)
def test_branches_that_a_node_offers(node: dict[str, Any], labels: tuple[str, ...]) -> None:
    assert labels_of(definition({"root": node}).nodes["root"], SPECS) == labels


def test_branches_of_control_nodes_do_not_depend_on_their_payload_being_valid() -> None:
    for kind, spec in CONTROL.items():
        for payload in ({}, {"cases": None}, {"cases": [None, {"name": None}]}, {"condition": 5}):
            found = labels_of(definition({"root": {"type": kind, "payload": payload}}).nodes["root"], CONTROL)
            assert all(isinstance(label, str) for label in found), spec.type


def test_several_triggers_share_one_graph() -> None:
    found = graph(
        {
            "root": {"type": "manual", "children": ["join"]},
            "other": {"type": "manual", "children": ["join"]},
            "join": {},
        },
        ("root", "other"),
    )
    assert found.scopes[TOP].entries == ("root", "other")
    assert found.ancestors("join") == {"root", "other"}


def test_a_node_in_two_places_is_found_in_both() -> None:
    scopes, found_in = find_scopes(
        definition(
            {
                "root": {"type": "manual", "children": ["loop", "shared"]},
                "loop": {"type": "for-each", "loopBody": ["shared"]},
                "shared": {},
                "lost": {},
            }
        )
    )
    assert sorted(found_in["shared"]) == [TOP, "loop"]
    assert "lost" not in found_in
    assert set(scopes) == {TOP, "loop"}


def test_links_to_nowhere_are_passed_over() -> None:
    nodes = definition({"root": {"children": ["gone", "a"]}, "a": {"loopBody": ["gone"]}}).nodes
    assert reachable(nodes, ["nobody", "root"]) == ["root", "a"]
    assert find_cycle(nodes) is None


@pytest.mark.parametrize(
    ("nodes", "found"),
    [
        ({"root": {"children": ["root"]}}, ["root", "root"]),
        ({"root": {"children": ["a"]}, "a": {"children": ["b"]}, "b": {"children": ["a"]}}, ["a", "b", "a"]),
        ({"root": {"children": ["l"]}, "l": {"loopBody": ["a"]}, "a": {"children": ["l"]}}, ["l", "a", "l"]),
        ({"root": {}, "l": {"loopBody": ["l"]}}, ["l", "l"]),
        ({"root": {"children": ["a", "b"]}, "a": {"children": ["c"]}, "b": {"children": ["c"]}, "c": {}}, None),
        (LOOP, None),
    ],
)
def test_cycle_is_told_node_by_node(nodes: Nodes, found: list[str] | None) -> None:
    assert cycle(nodes) == found


def chain(length: int, last: list[str]) -> Nodes:
    nodes: Nodes = {f"n{number}": {"children": [f"n{number + 1}"]} for number in range(length - 1)}
    nodes[f"n{length - 1}"] = {"children": last}
    return nodes


def test_a_chain_of_a_thousand_nodes_needs_no_recursion() -> None:
    nodes = chain(1000, [])
    found = graph(nodes, ("n0",))
    assert len(found.ancestors("n999")) == 999
    assert len(found.scopes[TOP].node_ids) == 1000
    assert cycle(nodes) is None
    round_trip = cycle(chain(1000, ["n0"]))
    assert round_trip is not None
    assert len(round_trip) == 1001


def test_loops_in_loops_need_no_recursion() -> None:
    nodes: Nodes = {f"n{number}": {"type": "for-each", "loopBody": [f"n{number + 1}"]} for number in range(999)}
    nodes["n999"] = {}
    found = graph(nodes, ("n0",))
    assert len(found.loops_around("n999")) == 999
    assert len(found.ancestors("n999")) == 999
    nodes["n999"] = {"children": ["n500"]}
    round_trip = cycle(nodes)
    assert round_trip is not None
    assert len(round_trip) == 501


@given(st.integers(0, 2**32))
def test_random_graphs_are_whole(seed: int) -> None:
    made = random_definition(random.Random(seed), failing=True)
    found = graph_of(made)
    assert find_cycle(made.nodes) is None
    inside = [node_id for scope in found.scopes.values() for node_id in scope.node_ids]
    assert sorted(inside) == sorted(set(inside)) == sorted(found.scope_of)
    for node_id in inside:
        ancestors = found.ancestors(node_id)
        assert node_id not in ancestors
        for other in ancestors:
            assert found.ancestors(other) <= ancestors
            assert set(found.loops_around(other)) <= {*found.loops_around(node_id)}
    edges = [edge for group in found.edges_from.values() for edge in group]
    assert sorted(map(repr, edges)) == sorted(repr(edge) for group in found.edges_into.values() for edge in group)


@given(st.dictionaries(st.sampled_from("abcdef"), st.lists(st.sampled_from("abcdefg"), max_size=3), min_size=1))
def test_a_cycle_is_found_where_there_is_one(links: dict[str, list[str]]) -> None:
    found = cycle({name: {"children": children} for name, children in links.items()})
    if found is not None:
        assert found[0] == found[-1]
        assert all(then in links[now] for now, then in itertools.pairwise(found))
        return
    order: set[str] = set()
    while len(order) < len(links):
        ready = {name for name, children in links.items() if all(c in order or c not in links for c in children)}
        assert ready - order, "there is no cycle, so something can always come next"
        order |= ready
