"""The inputs of a node: which references feed which of them, which money field of a spend each one is, and what comes
from outside when the node runs."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final
from urllib.parse import urlsplit

from dustrun.core.expression import Reference
from dustrun.core.expression.fault import Fault
from dustrun.core.expression.references import find_references
from dustrun.core.expression.syntax import tree
from dustrun.core.expression.syntax.parse import parse
from dustrun.core.money.intent import FundsMovement
from dustrun.core.sources.source import ANY
from dustrun.core.workflow.definition import WALLET, Node
from dustrun.core.workflow.model_tools import tool_nodes
from dustrun.core.workflow.program import ProgramNode
from dustrun.core.workflow.specs import NodeSpec, Specs, api_of

Steps = tuple[str, ...]
"""The path of an input: `rows[].recipient` is `("rows", "", "recipient")`; an empty step matches any."""

Named = tuple[str, ...]
"""A source as kind, name and path: cheaper than the value while there are thousands."""

TESTS: Final = "?"
"""First step of what decides and gives no value: the tests of branches, and a loop's `while`."""
MONEY_FIELDS: Final = ("recipient", "amount", "asset", "chain", "calldata", "limits", "wallet")
_WHOLE: Final = re.compile(r"\s*\{\{(.*)\}\}\s*", re.DOTALL)
_NUMBERS: Final = frozenset({"int", "div", "toUnits", "floor", "ceil", "round", "abs"})


def steps_of(path: str) -> Steps:
    """The steps of a field path as payloads write it."""
    return tuple(re.split(r"[.\[]", path.replace("]", "")))


def overlap(one: Steps, other: Steps) -> bool:
    """Whether two paths name the same input, or one lies within the other."""
    if one == other:
        return True
    return all(a == b or a in ("", ANY) or b in ("", ANY) for a, b in zip(one, other, strict=False))


def group_references(node: ProgramNode) -> dict[Steps, list[Reference]]:
    """The references of a node by the input that they feed."""
    found: dict[Steps, list[Reference]] = {}
    for where, reference in node.payload.references:
        found.setdefault(steps_of(where), []).append(reference)
    for name, text in node.node.payload.items():
        if isinstance(text, str) and (name,) in found and (entries := _entries_of_map(text)) is not None:
            del found[name,]
            found |= {(name, "", entry): list(references) for entry, references in entries.items()}
    for name, test in node.choices:
        found.setdefault((TESTS, name), []).extend(test.references)
    if node.repeat is not None:
        for where, reference in node.repeat.references:
            found.setdefault((TESTS, where) if where == "while" else (where,), []).append(reference)
    if node.wallet is not None:
        found["connector", "id"] = list(node.wallet.references)
    return found


# --- money fields ---


def money_fields(spec: NodeSpec, payload: Mapping[str, Any]) -> Iterator[tuple[str, Steps]]:
    """(money field, input) of everything that a spend is given, without its wallet. What no movement names is calldata:
    the input as a whole, or what is left of it."""
    declared = list(_declared(spec.movements))
    for name in payload:
        inside = [(money, steps) for money, steps in declared if steps[0] == name]
        yield from inside or [("calldata", (name,))]


@functools.lru_cache(maxsize=1_000)
def _declared(movements: tuple[FundsMovement, ...]) -> tuple[tuple[str, Steps], ...]:
    found: dict[str, str] = {}
    for one in movements:
        named = {one.amount_field: "amount", one.recipient_field: "recipient", one.token_field: "asset"}
        limits = (one.min_out_field, one.max_in_field, one.approval_field, *one.limit_fields)
        for where, money in {**dict.fromkeys(limits, "limits"), **named, one.chain_field: "chain"}.items():
            if where is not None:
                found.setdefault(where, money)
    return tuple((money, steps_of(where)) for where, money in found.items())


def computed_fields(spec: NodeSpec, payload: Mapping[str, Any]) -> set[str]:
    """The money fields that a spend itself computes from what the chain says: `max`, a swap's quote and its limits."""
    found: set[str] = set()
    for one in spec.movements:
        if one.amount_field is not None and _first(payload, one.amount_field) is None:
            continue
        found.update(one.computed)
        if one.takes_max and one.amount_field is not None and _may_be_max(_first(payload, one.amount_field)):
            found.add("amount")
    return found


def _first(payload: Mapping[str, Any], path: str) -> Any:
    return payload.get(steps_of(path)[0])


def _may_be_max(amount: Any) -> bool:
    return isinstance(amount, str) and (amount == "max" or ("{{" in amount and not _is_number(amount)))


@functools.lru_cache(maxsize=10_000)
def _is_number(text: str) -> bool:
    """Whether a template can only give a number, and so not the word `max`."""
    node = _tree_of(text)
    if isinstance(node, tree.Call) and node.name == "string" and len(node.arguments) == 1:
        node = node.arguments[0]
    if isinstance(node, tree.Chain):
        first = node.first
        is_integer = isinstance(first, tree.Literal) and isinstance(first.value, int)
        return is_integer or any(operator in ("*", "/", "-", "%") for operator, _ in node.rest)
    return isinstance(node, tree.Call) and node.name in _NUMBERS


@functools.lru_cache(maxsize=10_000)
def _entries_of_map(text: str) -> dict[str, Sequence[Reference]] | None:
    """The references of each entry of a list of objects that `list.map(row, {…})` builds; None when it is not that."""
    node = _tree_of(text) if ".map(" in text else None
    step = node.steps[-1] if isinstance(node, tree.Member) else None
    if not isinstance(step, tree.Method) or step.name != "map" or len(step.arguments) != 2:
        return None
    assert isinstance(node, tree.Member)
    variable, body = step.arguments
    if not isinstance(body, tree.MapOf) or not isinstance(variable, tree.Name):
        return None
    if not all(isinstance(key, tree.Literal) and isinstance(key.value, str) for key, _ in body.entries):
        return None
    around = find_references(replace(node, steps=node.steps[:-1]) if len(node.steps) > 1 else node.start)
    entries: dict[str, Sequence[Reference]] = {}
    for key, value in body.entries:
        assert isinstance(key, tree.Literal)
        found = [one for one in (*around, *find_references(value)) if one.root != variable.name]
        entries[str(key.value)] = [Reference(one.root, one.path, 0, 0, one.guarded) for one in found]
    return entries


def _tree_of(text: str) -> tree.Node | None:
    """The expression of a text that is one template and nothing else."""
    whole = _WHOLE.fullmatch(text)
    try:
        return parse(whole.group(1)) if whole is not None else None
    except Fault:
        return None


# --- what comes from outside ---


def outside(node: ProgramNode, payload: Mapping[str, Any], specs: Specs) -> Iterator[Named]:
    """The systems whose answers a node's result holds, as far as its inputs say which."""
    connector = node.node.connector
    if connector is not None and connector.type != WALLET:
        yield "connector", connector.id
    yield from _asked(node.spec, node.node, payload)
    for _, tool in tool_nodes(node.node):
        if tool.connector is not None:
            yield "connector", tool.connector.id
        if tool.type in specs:
            yield from _asked(specs[tool.type], tool, tool.payload)


def _asked(spec: NodeSpec, node: Node, payload: Mapping[str, Any]) -> Iterator[Named]:
    if spec.kind != "action" or (spec.effect == "pure" and not spec.origins):
        return
    if spec.effect == "spend":
        yield from _chain_of(spec, payload)
    elif not spec.origins:
        yield "system", spec.type
    for origin in spec.origins:
        name = constant(payload.get(origin.field)) if origin.field is not None else None
        if origin.kind == "http":
            yield "http", host_of(payload.get(origin.field or ""))
        elif origin.kind == "contract":
            chain = constant(payload.get("chainId")) or ANY
            yield from (("contract", chain, one) for one in _contracts_of(_given(spec, payload, origin.field or "")))
        elif origin.kind == "import":
            yield "import", api_of(node.type) or ANY
        elif origin.field is None:
            yield origin.kind, node.connector.id if node.connector is not None else ANY
        else:
            yield origin.kind, name or ANY


def _given(spec: NodeSpec, payload: Mapping[str, Any], name: str) -> Any:
    """An input, or the default of one that is left out."""
    if name in payload:
        return payload[name]
    return next((one.default for key, one in spec.payload.model_fields.items() if name in (one.alias, key)), None)


def _chain_of(spec: NodeSpec, payload: Mapping[str, Any]) -> Iterator[Named]:
    chain = constant(payload.get(spec.movements[0].chain_field if spec.movements else "chainId")) or ANY
    yield "chain", chain
    for token in {one.token_field for one in spec.movements if one.token_field in payload} - {None}:
        name = constant(payload[token]) if token is not None else None
        if name != "native":
            yield "contract", chain, name or ANY


def _contracts_of(asked: Any) -> Iterator[str]:
    """The contracts that an input names: one, or one for each call of a list."""
    for one in asked if isinstance(asked, list) else [asked]:
        name = constant(one.get("contract") if isinstance(one, Mapping) else one)
        if name != "native":
            yield name or ANY


def constant(value: Any) -> str | None:
    """A value of a definition as text; None when a run computes it, or it is no plain value."""
    is_plain = isinstance(value, str | int) and not isinstance(value, bool)
    return str(value) if is_plain and "{{" not in str(value) else None


def host_of(url: Any) -> str:
    """Host and port of an address, as far as a template leaves no doubt of it."""
    if not isinstance(url, str):
        return ANY
    start = url.split("{{")[0]
    try:
        found = urlsplit(start).netloc.rpartition("@")[2]
    except ValueError:
        return ANY
    return found if found and ("{{" not in url or start.count("/") > 2) else ANY
