"""check(definition, specs) → problems, each with code, node and field. Finds all of them, not just the first."""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from dustrun.core import graph as graphs
from dustrun.core import variables
from dustrun.core.condition import find_condition_errors, parse_condition
from dustrun.core.control import CONTROL, RESUMABLE
from dustrun.core.definition import UNBOUND, Definition, Node, VariableDef
from dustrun.core.expression import CompiledValue, ExpressionError, Reference, compile_value, find_errors
from dustrun.core.graph import ERROR_BRANCH, TOP
from dustrun.core.program import parse_test, split_payload
from dustrun.core.specs import NodeSpec, Specs
from dustrun.errors import Problem

ROOTS = frozenset(
    (
        "$trigger",
        "$nodes",
        "root",
        "$props",
        "$inputs",
        "$vars",
        "$item",
        "$index",
        "$parent_item",
        "$parent_index",
        "$for",
        "$workflow",
        "$run",
        "$now",
        "$env",
        "$workflowId",
    )
)
_LOOP_ROOTS = {"$item": 1, "$index": 1, "$parent_item": 2, "$parent_index": 2}
_NODE_FIELDS = frozenset({"result", "error", "status", "input"})
MAX_NESTING = 10
MAX_PROBLEMS = 100
_RESUME_URL = re.compile(r"""\bresumeUrl\(\s*(?:'([^']*)'|"([^"]*)")\s*\)""")
_WALLET = "wallet"
_TIMED = frozenset({"call-workflow"})


def check(definition: Definition, specs: Specs) -> list[Problem]:
    """The problems of a definition; one without any of severity `error` can run.

    All of them, not just the first; but once there are `MAX_PROBLEMS` and it cannot run, it looks no further.
    """
    found: list[Problem] = []
    broken = False
    for problem in _find(definition, specs):
        found.append(problem)
        broken = broken or problem.severity == "error"
        if broken and len(found) >= MAX_PROBLEMS:
            break
    return found


def _find(definition: Definition, specs: Specs) -> Iterator[Problem]:
    """Problem by problem, so that whoever has enough of them does not pay for the rest."""
    yield from _check_triggers(definition, specs)
    yield from _check_nodes(definition, specs)
    is_whole = True
    for problem in _check_links(definition):
        is_whole = is_whole and problem.code != "unknown_child"
        yield problem
    yield from _check_variables(definition)
    cycle = graphs.find_cycle(definition.nodes)
    if cycle:
        message = f"The nodes form a cycle: {' → '.join(cycle)}. Remove one of these links."
        yield _problem("cycle", cycle[0], "children", message)
        return
    for problem in _check_scopes(definition):
        is_whole = is_whole and problem.code != "two_scopes"
        yield problem
    if is_whole:
        yield from _check_graph(definition, graphs.build(definition, specs), specs)


def _check_graph(definition: Definition, graph: graphs.Graph, specs: Specs) -> Iterator[Problem]:
    """What can only be told of a definition whose links are in order."""
    yield from _check_branches(definition, graph, specs)
    declared = variables.declared(definition)
    for node_id, node in definition.nodes.items():
        yield from _check_control(node_id, node, graph, specs)
        if node.type in specs:
            yield from _check_templates(node_id, node, graph, specs)
            yield from _check_variable_node(node_id, node, declared)


def near(name: str, known: Iterable[str]) -> str:
    """A hint like ` Did you mean "log"?`, or nothing; looks at the first thousand of `known`."""
    close = difflib.get_close_matches(name, list(dict.fromkeys(itertools.islice(known, 1000))), n=2, cutoff=0.6)
    quoted = " or ".join(f'"{match}"' for match in close)
    return f" Did you mean {quoted}?" if close else ""


def _problem(code: str, node_id: str, field: str, message: str, severity: str = "error") -> Problem:
    path = f"nodes.{node_id}.{field}" if field else f"nodes.{node_id}"
    return Problem(path, message, code, node_id, severity)


def _check_triggers(definition: Definition, specs: Specs) -> Iterator[Problem]:
    is_child = {child for node in definition.nodes.values() for child in (*node.children, *node.loop_body)}
    for position, node_id in enumerate(definition.trigger_node_ids):
        field = f"triggerNodeIds[{position}]"
        node = definition.nodes.get(node_id)
        if node is None:
            hint = near(node_id, definition.nodes)
            yield Problem(field, f'"{node_id}" names no node.{hint}', "unknown_trigger_node")
            continue
        spec = specs.get(node.type)
        if spec is not None and spec.kind != "trigger":
            message = f'"{node_id}" is of type "{node.type}", which is no trigger. Use a trigger such as "manual".'
            yield Problem(field, message, "not_a_trigger", node_id)
        if node_id in definition.trigger_node_ids[:position]:
            yield Problem(field, f'"{node_id}" is named twice.', "duplicate_trigger_node", node_id)
        if node_id in is_child:
            yield Problem(field, f'The trigger "{node_id}" may not follow another node.', "trigger_has_parent", node_id)


def _check_bound(node_id: str, node: Node) -> Iterator[Problem]:
    """An imported definition may still stand for things that nobody has named."""
    if node.connector is not None and node.connector.id.startswith(UNBOUND):
        yield _unbound(node_id, "connector.id", node.connector.id)
    stack: list[tuple[str, Any]] = [("payload", node.payload)]
    while stack:
        path, value = stack.pop()
        if isinstance(value, str):
            if value.startswith(UNBOUND):
                yield _unbound(node_id, path, value)
        elif isinstance(value, dict):
            stack.extend((f"{path}.{key}", item) for key, item in value.items())
        elif isinstance(value, list | tuple):
            stack.extend((f"{path}[{index}]", item) for index, item in enumerate(value))


def _unbound(node_id: str, field: str, value: str) -> Problem:
    name = value.removeprefix(UNBOUND)[:100]
    return _problem(
        "unbound", node_id, field, f'"{name}" came with an import and is not bound yet; put its value here.'
    )


def _check_nodes(definition: Definition, specs: Specs) -> Iterator[Problem]:
    for node_id, node in definition.nodes.items():
        yield from _check_bound(node_id, node)
        spec = specs.get(node.type)
        if spec is None:
            message = f'There is no node type "{node.type}".{near(node.type, specs)} See GET /v1/actions.'
            yield _problem("unknown_type", node_id, "type", message)
            continue
        if spec.kind == "trigger" and node_id not in definition.trigger_node_ids:
            message = f'"{node_id}" is a trigger; name it in triggerNodeIds or give it another type.'
            yield _problem("trigger_not_named", node_id, "type", message)
        yield from _check_connector(node_id, node, spec)
        yield from _check_payload(node_id, node, spec)


def _check_connector(node_id: str, node: Node, spec: NodeSpec) -> Iterator[Problem]:
    given = node.connector.type if node.connector is not None else None
    if given == _WALLET:
        return  # whether an action takes a wallet is not a matter of connectors
    takes = ", ".join(f'"{name}"' for name in spec.connectors)
    if given is None and spec.connector_required:
        yield _problem("connector_missing", node_id, "connector", f"This action needs a connector of type {takes}.")
    elif given is not None and spec.connectors and given not in spec.connectors:
        message = f'This action takes no connector of type "{given}", only {takes}.{near(given, spec.connectors)}'
        yield _problem("connector_type", node_id, "connector.type", message)
    elif given is not None and not spec.connectors:
        message = f'A node of type "{node.type}" uses no connector; take it away.'
        yield _problem("connector_unused", node_id, "connector", message, "warning")


def _check_payload(node_id: str, node: Node, spec: NodeSpec) -> Iterator[Problem]:
    """Checks what is known before the run: fields that hold a template are checked when it is resolved. Tests of `if`
    and `switch` are read as they are, never resolved."""
    is_resolved = bool(node.payload) and split_payload(node)[0] is node.payload
    try:
        spec.payload.model_validate(node.payload)
    except ValidationError as error:
        for found in error.errors(include_url=False):
            kind, location = found["type"], found["loc"]
            if is_resolved and kind != "extra_forbidden" and _holds_template(_at(node.payload, location)):
                continue
            where = field_path(seen_location(node.payload, location, kind))
            message = explain(kind, found["msg"])
            if kind == "extra_forbidden":
                message += near(str(location[-1]), _field_names(spec))
            yield _problem("payload_invalid", node_id, f"payload.{where}" if where else "payload", message)


def explain(kind: str, message: str) -> str:
    """A validator's message in words of ours where its own would puzzle."""
    if kind == "missing":
        return "This field is required."
    if kind == "extra_forbidden":
        return "There is no such field here."
    text = message.removeprefix("Value error, ")
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "?", "!")) else ".")


def field_path(location: Iterable[int | str]) -> str:
    """A location like `('rows', 0, 'amount')` as `rows[0].amount`."""
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    return path


def seen_location(value: Any, location: Iterable[int | str], kind: str) -> tuple[int | str, ...]:
    """A validator's location as people can follow it: without the names it gives to the cases of a union."""
    seen: list[int | str] = []
    for part in location:
        if _has(value, part):
            seen.append(part)
            value = value[part]
        elif kind == "missing" and isinstance(value, Mapping) and isinstance(part, str):
            seen.append(part)
            value = None
    return tuple(seen)


def _has(value: Any, part: int | str) -> bool:
    if isinstance(value, list | tuple):
        return isinstance(part, int) and part < len(value)
    return isinstance(value, Mapping) and part in value


def _field_names(spec: NodeSpec) -> list[str]:
    return [info.alias or name for name, info in spec.payload.model_fields.items()]


def _at(value: Any, location: Iterable[int | str]) -> Any:
    for part in location:
        if not _has(value, part):
            return value if isinstance(value, str) else None
        value = value[part]
    return value


def _holds_template(value: Any) -> bool:
    if isinstance(value, str):
        return "{{" in value
    if isinstance(value, Mapping):
        return any(_holds_template(item) for item in value.values())
    if isinstance(value, list | tuple):
        return any(_holds_template(item) for item in value)
    return False


def _check_links(definition: Definition) -> Iterator[Problem]:
    nodes = definition.nodes
    for node_id, node in nodes.items():
        for name, targets in (("children", node.children), ("loopBody", node.loop_body)):
            named: set[str] = set()
            for position, target in enumerate(targets):
                field = f"{name}[{position}]"
                if target not in nodes:
                    message = f'"{target}" names no node.{near(target, nodes)}'
                    yield _problem("unknown_child", node_id, field, message)
                elif target in named:
                    yield _problem("duplicate_child", node_id, field, f'"{target}" is named twice.')
                named.add(target)
        if node.loop_body and node.type != "for-each":
            yield _problem("loop_body_misplaced", node_id, "loopBody", 'Only a "for-each" has a loop body.')


def _check_scopes(definition: Definition) -> Iterator[Problem]:
    _, found_in = graphs.find_scopes(definition)
    for node_id in definition.nodes:
        loops = found_in.get(node_id)
        if loops is None:
            message = f'No trigger leads to "{node_id}". Name it in some node\'s children, or remove it.'
            yield _problem("unreachable", node_id, "", message)
        elif len(loops) > 1:
            places = " and ".join("outside of loops" if loop == TOP else f'in the loop "{loop}"' for loop in loops)
            message = f'"{node_id}" is reached {places}; a node lies in one place only.'
            yield _problem("two_scopes", node_id, "", message)


def _check_branches(definition: Definition, graph: graphs.Graph, specs: Specs) -> Iterator[Problem]:
    for node_id, node in definition.nodes.items():
        parents = [edge.parent for edge in graph.edges_into.get(node_id, ())]
        labels = [label for parent in parents for label in graphs.labels_of(definition.nodes[parent], specs)]
        if node.branch is not None and node.branch not in labels:
            offered = f"They offer: {', '.join(dict.fromkeys(labels))}." if labels else "None of them branches."
            message = f'No parent of "{node_id}" has a branch "{node.branch}". {offered}'
            yield _problem("unknown_branch", node_id, "branch", message)
        if node.on_error == "branch" and not any(
            edge.label == ERROR_BRANCH for edge in graph.edges_from.get(node_id, ())
        ):
            message = 'onError is "branch", but no child has branch "error". Add one, or use "continue" or "fail".'
            yield _problem("error_branch_missing", node_id, "onError", message)


def _check_variables(definition: Definition) -> Iterator[Problem]:
    """Declarations: each name once, and a default of its type."""
    names: set[str] = set()
    for position, defined in enumerate(definition.variable_defs):
        field = f"variableDefs[{position}]"
        if defined.name in names:
            yield Problem(f"{field}.name", f'The variable "{defined.name}" is declared twice.', "variable_twice")
        names.add(defined.name)
        wrong = variables.misfit(defined, defined.name, defined.default)
        if wrong is not None:
            yield Problem(f"{field}.default", wrong, "variable_type_mismatch")


def _check_variable_node(node_id: str, node: Node, declared: Mapping[str, VariableDef]) -> Iterator[Problem]:
    if node.type not in variables.NODES or not isinstance(node.payload.get("name"), str):
        return
    name, scope = node.payload["name"], node.payload.get("scope")
    defined = declared.get(name)
    if defined is None:
        hint = near(name, declared)
        message = f'"{name}" is not in this definition\'s variableDefs; it counts as one of any type.{hint}'
        yield _problem("variable_undeclared", node_id, "payload.name", message, "warning")
        return
    if scope is not None and scope != defined.lifetime:
        message = f'The variable "{name}" is declared as "{defined.lifetime}"; leave `scope` out.'
        yield _problem("variable_scope_mismatch", node_id, "payload.scope", message)
    if node.type == "set-variable" and not _holds_template(node.payload.get("value")):
        wrong = variables.misfit(defined, name, node.payload.get("value"))
        if wrong is not None:
            yield _problem("variable_type_mismatch", node_id, "payload.value", wrong)
    if node.type == "increment-variable" and defined.type not in ("number", "any"):
        message = f'The variable "{name}" is declared as {defined.type}; only a number can be incremented.'
        yield _problem("variable_type_mismatch", node_id, "payload.name", message)


def _check_control(node_id: str, node: Node, graph: graphs.Graph, specs: Specs) -> Iterator[Problem]:
    """What only control nodes have: nesting, awaited triggers, pinned branches."""
    if node.type == "for-each":
        yield from _check_loop(node_id, node, graph)
    if node.type == "wait":
        yield from _check_awaited(node_id, node, specs)
    if node.is_pinned and node.type in ("if", "switch"):
        labels = specs[node.type].branches
        offered = labels(node.payload) if labels is not None else ()
        branch = node.pinned.get("branch") if isinstance(node.pinned, Mapping) else None
        if branch not in offered:
            message = f'The pinned result needs a "branch" of: {", ".join(offered)}.'
            yield _problem("pinned_branch", node_id, "pinned", message)
    if node.timeout_ms is not None and node.type in CONTROL and node.type not in _TIMED:
        message = f'A "{node.type}" takes no time of its own, so timeoutMs does nothing here.'
        if node.type in RESUMABLE:
            message = f'A "{node.type}" takes its time limit from payload.timeoutMs.'
        yield _problem("timeout_without_effect", node_id, "timeoutMs", message, "warning")


def _check_loop(node_id: str, node: Node, graph: graphs.Graph) -> Iterator[Problem]:
    if len(graph.loops_around(node_id)) >= MAX_NESTING:
        message = f'"{node_id}" would be loop {MAX_NESTING + 1} in loops; they nest to {MAX_NESTING}.'
        yield _problem("loops_too_deep", node_id, "type", message)
    if not node.loop_body:
        message = "The loop has no body: name its first nodes in loopBody."
        yield _problem("loop_body_missing", node_id, "loopBody", message, "warning")


def _check_awaited(node_id: str, node: Node, specs: Specs) -> Iterator[Problem]:
    kind = node.payload.get("triggerType")
    if not isinstance(kind, str) or "{{" in kind:
        return
    spec = specs.get(kind)
    if spec is None or spec.kind != "trigger" or kind != "manual":
        known = [name for name, found in specs.items() if found.kind == "trigger" and name == "manual"]
        message = f'A wait cannot wait for "{kind}"; it can for: {", ".join(known)}.{near(kind, known)}'
        yield _problem("trigger_not_awaitable", node_id, "payload.triggerType", message)
        return
    config = node.payload.get("triggerConfig")
    try:
        spec.payload.model_validate(config if config is not None else {})
    except ValidationError as error:
        for found in error.errors(include_url=False):
            where = field_path(("triggerConfig", *found["loc"]))
            yield _problem("payload_invalid", node_id, f"payload.{where}", explain(found["type"], found["msg"]))


def _check_links_to_waits(node_id: str, node: Node, graph: graphs.Graph) -> Iterator[Problem]:
    """`$run.resumeUrl('x')` with a name that is written there."""
    for field, text in _texts("payload", node.payload):
        for match in _RESUME_URL.finditer(text) if "{{" in text or node.type in ("if", "switch") else ():
            target = match.group(1) if match.group(1) is not None else match.group(2)
            found = graph.nodes.get(target)
            waits = [name for name, other in graph.nodes.items() if other.type in RESUMABLE]
            if found is None or found.type not in RESUMABLE:
                message = f'resumeUrl: "{target}" names no `wait` or `approve`.{near(target, waits)}'
                yield _problem("resume_url_unknown", node_id, field, message)
            elif not set(graph.loops_around(target)) <= set(graph.loops_around(node_id)):
                message = f'resumeUrl: "{target}" lies in a loop that is not around here; call it inside of that loop.'
                yield _problem("resume_url_outside_loop", node_id, field, message)


def _texts(field: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield field, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _texts(f"{field}.{key}", item)
    elif isinstance(value, list | tuple):
        for position, item in enumerate(value):
            yield from _texts(f"{field}[{position}]", item)


def _check_templates(node_id: str, node: Node, graph: graphs.Graph, specs: Specs) -> Iterator[Problem]:
    spec = specs[node.type]
    templates, tests = split_payload(node)
    errors = find_errors(templates, spec.raw_fields)
    for error in errors:
        yield _expression_problem(node_id, f"payload.{error.field}" if error.field else "payload", error)
    if not errors:
        for field, reference in compile_value(templates, spec.raw_fields).references:
            yield from check_reference(node_id, f"payload.{field}", reference, graph, specs)
    if tests:
        yield from _check_tests(node_id, node, graph, specs)
    yield from _check_links_to_waits(node_id, node, graph)


def _expression_problem(node_id: str, field: str, error: ExpressionError) -> Problem:
    return _problem("expression_invalid", node_id, field, str(error))


def _check_tests(node_id: str, node: Node, graph: graphs.Graph, specs: Specs) -> Iterator[Problem]:
    for field, read in _tests_of(node):
        errors, references = read()
        for error in errors:
            inner = getattr(error, "field", None)
            yield _expression_problem(node_id, f"{field}.{inner}" if inner else field, error)
        for reference in references:
            yield from check_reference(node_id, field, reference, graph, specs)


Read = Callable[[], tuple[Iterable[ExpressionError], Iterable[Reference]]]


def _tests_of(node: Node) -> Iterator[tuple[str, Read]]:
    payload = node.payload
    if node.type == "if" and isinstance(payload.get("expression"), str):
        yield "payload.expression", _reader(payload["expression"])
    elif node.type == "if" and isinstance(payload.get("condition"), Mapping):
        yield "payload.condition", _condition_reader(payload["condition"])
    cases = payload.get("cases") if node.type == "switch" else None
    for position, case in enumerate(cases if isinstance(cases, list | tuple) else ()):
        if isinstance(case, Mapping) and isinstance(case.get("expression"), str):
            yield f"payload.cases[{position}].expression", _reader(case["expression"])


def _reader(text: str) -> Read:
    def read() -> tuple[Iterable[ExpressionError], Iterable[Reference]]:
        try:
            return (), parse_test(text).references
        except ExpressionError as error:
            return (error,), ()

    return read


def _condition_reader(condition: Any) -> Read:
    def read() -> tuple[Iterable[ExpressionError], Iterable[Reference]]:
        errors = find_condition_errors(condition)
        return (errors, ()) if errors else ((), parse_condition(condition).references)

    return read


def check_reference(
    node_id: str, field: str, reference: Reference, graph: graphs.Graph, specs: Specs
) -> Iterator[Problem]:
    """What is wrong with one reference of a node, as far as can be known before the run."""
    root, path = reference.root, reference.path
    where = f" (line {reference.line}, column {reference.column})"
    if root == "root" and "root" not in graph.nodes:
        return
    if root in _LOOP_ROOTS and len(graph.loops_around(node_id)) < _LOOP_ROOTS[root]:
        message = f'"{root}" exists only inside {"a loop" if _LOOP_ROOTS[root] == 1 else "two loops"}{where}.'
        yield _problem("reference_outside_loop", node_id, field, message)
    elif root == "$for" and path and path[0] not in graph.loops_around(node_id):
        around = near(str(path[0]), graph.loops_around(node_id))
        yield _problem(
            "reference_outside_loop", node_id, field, f'No loop "{path[0]}" lies around here{where}.{around}'
        )
    elif root == "$nodes":
        if path:
            yield from _check_node_reference(node_id, field, str(path[0]), path[1:], reference, graph, specs)
    elif root in graph.nodes and root != "root":
        yield from _check_node_reference(node_id, field, root, path, reference, graph, specs)
    elif root not in ROOTS and root != "root":
        message = f'"{root}" is neither a root nor a node{where}.{near(root, [*ROOTS, *graph.nodes])}'
        yield _problem("unknown_root", node_id, field, message)


def _check_node_reference(
    node_id: str,
    field: str,
    target: str,
    path: tuple[str | int, ...],
    reference: Reference,
    graph: graphs.Graph,
    specs: Specs,
) -> Iterator[Problem]:
    where = f" (line {reference.line}, column {reference.column})"
    if target not in graph.nodes:
        yield _problem(
            "unknown_node", node_id, field, f'There is no node "{target}"{where}.{near(target, graph.nodes)}'
        )
        return
    if target not in graph.ancestors(node_id):
        message = f'"{target}" cannot have run before "{node_id}"{where}. Make it an ancestor.'
        yield _problem("reference_not_before", node_id, field, message)
        return
    if path and path[0] not in _NODE_FIELDS:
        message = f'A node has {", ".join(sorted(_NODE_FIELDS))}, not "{path[0]}"{where}.'
        yield _problem("unknown_node_field", node_id, field, message)
        return
    spec = specs.get(graph.nodes[target].type)
    known = spec.result_fields if spec is not None else None
    if known and len(path) > 1 and path[0] == "result" and path[1] not in known and not reference.guarded:
        message = f'The result of "{target}" has no "{path[1]}"{where}.{near(str(path[1]), known)}'
        severity = "warning" if target in graph.triggers else "error"
        yield _problem("unknown_result_field", node_id, field, message, severity)


__all__ = ["CompiledValue", "check", "check_reference", "explain", "field_path", "near"]
