"""Checks declared variables, and the nodes that set and read them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from dustrun.core.validate.nodes import holds_template
from dustrun.core.validate.words import problem, suggest
from dustrun.core.workflow import variables
from dustrun.core.workflow.definition import Definition, Node, VariableDef
from dustrun.errors import Problem


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
