"""Checks links between nodes: triggers, children, loop bodies, scopes and branches."""

from __future__ import annotations

from collections.abc import Iterator

from dustrun.core.validate.words import problem, suggest
from dustrun.core.workflow import graph as graphs
from dustrun.core.workflow.definition import Definition
from dustrun.core.workflow.graph import ERROR_BRANCH, TOP
from dustrun.core.workflow.specs import Specs
from dustrun.errors import Problem


def check_triggers(definition: Definition, specs: Specs) -> Iterator[Problem]:
    is_child = {child for node in definition.nodes.values() for child in (*node.children, *node.loop_body)}
    for position, node_id in enumerate(definition.trigger_node_ids):
        field = f"triggerNodeIds[{position}]"
        node = definition.nodes.get(node_id)
        if node is None:
            hint = suggest(node_id, definition.nodes)
            yield Problem(field, f'There is no node "{node_id}".{hint}', "unknown_trigger_node")
            continue
        spec = specs.get(node.type)
        if spec is not None and spec.kind != "trigger":
            message = f'"{node_id}" is of type "{node.type}", which is not a trigger. Use a trigger such as "manual".'
            yield Problem(field, message, "not_a_trigger", node_id)
        if node_id in definition.trigger_node_ids[:position]:
            yield Problem(field, f'"{node_id}" is listed twice.', "duplicate_trigger_node", node_id)
        if node_id in is_child:
            yield Problem(field, f'The trigger "{node_id}" may not follow another node.', "trigger_has_parent", node_id)


def check_links(definition: Definition) -> Iterator[Problem]:
    nodes = definition.nodes
    for node_id, node in nodes.items():
        for name, targets in (("children", node.children), ("loopBody", node.loop_body)):
            named: set[str] = set()
            for position, target in enumerate(targets):
                field = f"{name}[{position}]"
                if target not in nodes:
                    message = f'There is no node "{target}".{suggest(target, nodes)}'
                    yield problem("unknown_child", node_id, field, message)
                elif target in named:
                    yield problem("duplicate_child", node_id, field, f'"{target}" is listed twice.')
                named.add(target)
        if node.loop_body and node.type != "for-each":
            yield problem("loop_body_misplaced", node_id, "loopBody", 'Only a "for-each" has a loop body.')


def check_scopes(definition: Definition) -> Iterator[Problem]:
    _, found_in = graphs.find_scopes(definition)
    for node_id in definition.nodes:
        loops = found_in.get(node_id)
        if loops is None:
            message = f'No trigger leads to "{node_id}". Add it to a node\'s children, or remove it.'
            yield problem("unreachable", node_id, "", message)
        elif len(loops) > 1:
            places = " and ".join("outside of loops" if loop == TOP else f'in the loop "{loop}"' for loop in loops)
            message = f'"{node_id}" is reached {places}; a node can be in one scope only.'
            yield problem("two_scopes", node_id, "", message)


def check_branches(definition: Definition, graph: graphs.Graph, specs: Specs) -> Iterator[Problem]:
    for node_id, node in definition.nodes.items():
        parents = [edge.parent for edge in graph.edges_into.get(node_id, ())]
        labels = [label for parent in parents for label in graphs.labels_of(definition.nodes[parent], specs)]
        if node.branch is not None and node.branch not in labels:
            offered = f"They offer: {', '.join(dict.fromkeys(labels))}." if labels else "None of them branches."
            message = f'No parent of "{node_id}" has a branch "{node.branch}". {offered}'
            yield problem("unknown_branch", node_id, "branch", message)
        elif node.branch is not None:
            yield from _check_other_parents(node_id, node.branch, parents, definition, specs)
        if node.on_error == "branch" and not any(
            edge.label == ERROR_BRANCH for edge in graph.edges_from.get(node_id, ())
        ):
            message = 'onError is "branch", but no child has branch "error". Add one, or use "continue" or "fail".'
            yield problem("error_branch_missing", node_id, "onError", message)


def _check_other_parents(
    node_id: str, branch: str, parents: list[str], definition: Definition, specs: Specs
) -> Iterator[Problem]:
    """Warns of a branching parent without that branch: the child runs whichever way it goes, which is rarely
    intended.
    """
    for parent in dict.fromkeys(parents):
        labels = graphs.labels_of(definition.nodes[parent], specs)
        if branch not in labels and (labels or branch == ERROR_BRANCH):
            has = f"only {', '.join(labels)}" if labels else "and does not branch"
            message = (
                f'"{node_id}" runs whichever way "{parent}" goes, which has no branch "{branch}", {has}. Unless you '
                f'want that, remove "{node_id}" from its children.'
            )
            yield problem("branch_of_another_parent", node_id, "branch", message, "warning")
