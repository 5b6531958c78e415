"""check(definition, specs) → problems, each with code, node and field. Finds all of them, not just the first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from pydantic import ValidationError

from dustrun.core.expression import ExpressionErrors, measure
from dustrun.core.sources.inputs import money_fields, overlap, steps_of
from dustrun.core.sources.report import describe
from dustrun.core.sources.slicer import ClosedPrograms, Place, Slicer
from dustrun.core.sources.source import Source
from dustrun.core.text.wording import explain
from dustrun.core.validate.model_tools import check_model_tools
from dustrun.core.validate.nodes import check_nodes, holds_template
from dustrun.core.validate.references import check_templates
from dustrun.core.validate.words import field_path, problem, suggest
from dustrun.core.workflow import graph as graphs
from dustrun.core.workflow import variables
from dustrun.core.workflow.control import CONTROL, RESUMABLE
from dustrun.core.workflow.definition import Definition, Node, VariableDef
from dustrun.core.workflow.graph import ERROR_BRANCH, TOP
from dustrun.core.workflow.program import Program, compile_program, split_payload
from dustrun.core.workflow.specs import Specs
from dustrun.errors import Problem

# Rules for control nodes: nesting of loops, awaited triggers, pinned branches, time limits.


MAX_NESTING = 10
_TIMED = frozenset({"call-workflow"})


def check_control(node_id: str, node: Node, graph: graphs.Graph, specs: Specs) -> Iterator[Problem]:
    """Checks nesting, awaited triggers, pinned branches and time limits."""
    if node.type == "for-each":
        yield from _check_loop(node_id, node, graph)
    if node.type == "wait":
        yield from _check_awaited(node_id, node, specs)
    if node.is_pinned and node.type in ("if", "switch"):
        labels = specs[node.type].branches
        offered = labels(node.payload) if labels is not None else ()
        branch = node.pinned.get("branch") if isinstance(node.pinned, Mapping) else None
        if branch not in offered:
            message = f'The pinned result needs a "branch", one of: {", ".join(offered)}.'
            yield problem("pinned_branch", node_id, "pinned", message)
    if node.timeout_ms is not None and node.type in CONTROL and node.type not in _TIMED:
        message = f'A "{node.type}" takes no time of its own, so timeoutMs has no effect here.'
        if node.type in RESUMABLE:
            message = f'A "{node.type}" takes its time limit from payload.timeoutMs.'
        yield problem("timeout_without_effect", node_id, "timeoutMs", message, "warning")


def _check_loop(node_id: str, node: Node, graph: graphs.Graph) -> Iterator[Problem]:
    if len(graph.loops_around(node_id)) >= MAX_NESTING:
        message = f'"{node_id}" would nest {MAX_NESTING + 1} loops; the limit is {MAX_NESTING}.'
        yield problem("loops_too_deep", node_id, "type", message)
    if not node.loop_body:
        message = "The loop has no body: list its first nodes in loopBody."
        yield problem("loop_body_missing", node_id, "loopBody", message, "warning")


def _check_awaited(node_id: str, node: Node, specs: Specs) -> Iterator[Problem]:
    kind = node.payload.get("triggerType")
    if not isinstance(kind, str) or "{{" in kind:
        return
    spec = specs.get(kind)
    if spec is None or spec.kind != "trigger" or kind != "manual":
        known = [name for name, found in specs.items() if found.kind == "trigger" and name == "manual"]
        message = f'A wait cannot wait for "{kind}", only for: {", ".join(known)}.{suggest(kind, known)}'
        yield problem("trigger_not_awaitable", node_id, "payload.triggerType", message)
        return
    config = node.payload.get("triggerConfig")
    try:
        spec.payload.model_validate(config if config is not None else {})
    except ValidationError as error:
        for found in error.errors(include_url=False):
            where = field_path(("triggerConfig", *found["loc"]))
            yield problem("payload_invalid", node_id, f"payload.{where}", explain(found["type"], found["msg"]))


# Checks links between nodes: triggers, children, loop bodies, scopes and branches.


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


# Warns where somebody outside shapes a spend: a model or a tool any field of it, a webhook or an HTTP answer who is
# paid.


MODEL_DECIDES: Final = "MODEL_DECIDES_SPEND"
NAMES_RECIPIENT: Final = "SOURCE_NAMES_RECIPIENT"
_MODELS: Final = frozenset({"model", "mcp"})
_OUTSIDE_TRIGGERS: Final = frozenset({"webhook", "http-poll", "rss"})
_HERE: Final = "this@0"


def check_sources(definition: Definition, specs: Specs) -> Iterator[Problem]:
    """One warning for each field; an `approve` before the spend changes nothing, as a person may overlook it."""
    program = _compile(definition, specs)
    if program is None:
        return
    slicer = Slicer(ClosedPrograms(_HERE, {_HERE: program}), specs)
    models = slicer.bits.where(is_of_model)
    outside = slicer.bits.where(is_outside)
    for place in slicer.spends:
        for field, bits, is_recipient in _fields(slicer, place):
            if bits & models:
                said = _said(slicer, bits & models)
                message = (
                    f'"{field}" hangs on {said}: it may be wrong, or written by others. Limit it by the wallet\'s '
                    "policy, or ask a person with `approve` before."
                )
                yield problem(MODEL_DECIDES, place[1], field, message, "warning")
            elif bits & outside and is_recipient:
                said = _said(slicer, bits & outside)
                message = (
                    f'"{field}" hangs on {said}: whoever controls that names who is paid. Choose among recipients '
                    "that you know, list them in the wallet's policy, or ask a person with `approve` before."
                )
                yield problem(NAMES_RECIPIENT, place[1], field, message, "warning")


def _compile(definition: Definition, specs: Specs) -> Program | None:
    """None if nothing can be warned of, or if it cannot be compiled: then errors say why."""
    kinds = {node.type for node in definition.nodes.values()}
    known = [specs[kind] for kind in kinds if kind in specs]
    asked = {origin.kind for spec in known for origin in spec.origins} & {*_MODELS, "http"}
    if len(known) < len(kinds) or not any(spec.effect == "spend" for spec in known):
        return None
    if not asked and not kinds & _OUTSIDE_TRIGGERS:
        return None
    try:
        return compile_program(definition, specs)
    except (ExpressionErrors, KeyError, TypeError, ValueError):
        return None


def _fields(slicer: Slicer, place: Place) -> Iterator[tuple[str, int, bool]]:
    """(field, what it reads, whether it says who is paid) of each template of a spend."""
    node = slicer.node(place)
    recipients = [steps for money, steps in money_fields(node.spec, node.node.payload) if money == "recipient"]
    for where in dict.fromkeys(where for where, _ in node.payload.references):
        steps = steps_of(where)
        yield f"payload.{where}", slicer.refs(place, steps), any(overlap(steps, one) for one in recipients)
    if node.wallet is not None:
        yield "connector.id", slicer.refs(place, ("connector",)), False


def is_of_model(source: Source) -> bool:
    """Whether a model or a tool says it."""
    return source.kind in _MODELS


def is_outside(source: Source) -> bool:
    """Whether whoever sends a webhook or answers a request says it."""
    return source.kind == "http" or (source.kind == "trigger" and source.name in _OUTSIDE_TRIGGERS)


def _said(slicer: Slicer, bits: int) -> str:
    return " and ".join(sorted(describe(one) for one in slicer.bits.named(bits))[:3])


# Checks declared variables, and the nodes that set and read them.


def check_variables(definition: Definition) -> Iterator[Problem]:
    """Checks that each name is declared once, with a default of its type."""
    names: set[str] = set()
    for position, defined in enumerate(definition.variable_defs):
        field = f"variableDefs[{position}]"
        if defined.name in names:
            yield Problem(f"{field}.name", f'The variable "{defined.name}" is declared twice.', "variable_twice")
        names.add(defined.name)
        wrong = variables.misfit(defined, defined.name, defined.default)
        if wrong is not None:
            yield Problem(f"{field}.default", wrong, "variable_type_mismatch")


def check_variable_node(node_id: str, node: Node, declared: Mapping[str, VariableDef]) -> Iterator[Problem]:
    if node.type not in variables.NODES or not isinstance(node.payload.get("name"), str):
        return
    name, scope = node.payload["name"], node.payload.get("scope")
    defined = declared.get(name)
    if defined is None:
        hint = suggest(name, declared)
        message = f'The variable "{name}" is not declared in variableDefs, so it may have any type.{hint}'
        yield problem("variable_undeclared", node_id, "payload.name", message, "warning")
        return
    if scope is not None and scope != defined.lifetime:
        message = f'The variable "{name}" is declared as "{defined.lifetime}"; remove `scope`.'
        yield problem("variable_scope_mismatch", node_id, "payload.scope", message)
    if node.type == "set-variable" and not holds_template(node.payload.get("value")):
        wrong = variables.misfit(defined, name, node.payload.get("value"))
        if wrong is not None:
            yield problem("variable_type_mismatch", node_id, "payload.value", wrong)
    if node.type == "increment-variable" and defined.type not in ("number", "any"):
        message = f'The variable "{name}" is declared as {defined.type}; only a number can be incremented.'
        yield problem("variable_type_mismatch", node_id, "payload.name", message)


MAX_PROBLEMS = 100
MAX_EXPRESSIONS = 131_072
"""Characters of all expressions of a definition, without plain paths. Compiling them takes up to three seconds."""


def check(definition: Definition, specs: Specs) -> list[Problem]:
    """The problems of a definition; one without any of severity `error` can run.

    Finds all of them, but stops at `MAX_PROBLEMS` once the definition cannot run.
    """
    found: list[Problem] = []
    broken = False
    for one in _find(definition, specs):
        found.append(one)
        broken = broken or one.severity == "error"
        if broken and len(found) >= MAX_PROBLEMS:
            break
    return found


def _find(definition: Definition, specs: Specs) -> Iterator[Problem]:
    """Yields problem by problem, so that a caller that has enough does not pay for the rest."""
    work = sum(map(_expression_work, definition.nodes.values()))
    if work > MAX_EXPRESSIONS:
        message = f"The expressions of all nodes have {work} characters; the limit is {MAX_EXPRESSIONS}."
        yield Problem("nodes", message, "expressions_too_large")
        return
    yield from check_triggers(definition, specs)
    yield from check_nodes(definition, specs)
    for node_id, node in definition.nodes.items():
        yield from check_model_tools(node_id, node, specs)
    is_whole = True
    for one in check_links(definition):
        is_whole = is_whole and one.code != "unknown_child"
        yield one
    yield from check_variables(definition)
    cycle = graphs.find_cycle(definition.nodes)
    if cycle:
        message = f"The nodes form a cycle: {' → '.join(cycle)}. Remove one of these links."
        yield problem("cycle", cycle[0], "children", message)
        return
    for one in check_scopes(definition):
        is_whole = is_whole and one.code != "two_scopes"
        yield one
    if is_whole:
        yield from _check_graph(definition, graphs.build(definition, specs), specs)


def _expression_work(node: Node) -> int:
    templates, tests = split_payload(node)
    connector = measure(node.connector.id) if node.connector is not None else 0
    return measure(templates) + connector + sum(len(text) for text in _texts(tests))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(item)


def _check_graph(definition: Definition, graph: graphs.Graph, specs: Specs) -> Iterator[Problem]:
    """Checks that are possible only when the links are valid."""
    yield from check_branches(definition, graph, specs)
    declared = variables.declared(definition)
    for node_id, node in definition.nodes.items():
        yield from check_control(node_id, node, graph, specs)
        if node.type in specs:
            yield from check_templates(node_id, node, graph, specs)
            yield from check_variable_node(node_id, node, declared)
    yield from check_sources(definition, specs)
