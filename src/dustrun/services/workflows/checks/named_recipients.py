"""Warns where somebody outside names who is paid, and only the whole closure shows it: what a called workflow returns,
what is given to one that spends, and what a form's answers say."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from dustrun.core.sources.inputs import money_fields
from dustrun.core.sources.report import describe
from dustrun.core.sources.source import Source
from dustrun.core.validate.whole import MODEL_DECIDES, NAMES_RECIPIENT, is_of_model, is_outside
from dustrun.core.workflow.definition import Definition
from dustrun.core.workflow.specs import Specs
from dustrun.errors import Problem
from dustrun.services.workflows.calls import CALL
from dustrun.services.workflows.closure import Closure, Lookup, call_of
from dustrun.services.workflows.shapes import Shape

_CHOOSE = (
    "Choose among recipients that you know, list them in the wallet's policy, or ask a person with `approve` before."
)


def find_problems(
    lookup: Lookup,
    closure: Closure,
    shapes: Iterable[Shape],
    definition: Definition,
    specs: Specs,
    known: Collection[Problem],
) -> Iterator[Problem]:
    """Yields a warning for each spend of the definition, and each of what it calls. `known`: what is warned of
    already."""
    warned = {one.node_id for one in known if one.code in (MODEL_DECIDES, NAMES_RECIPIENT)}
    for shape in shapes:
        outside = [one for one in _naming(shape) if is_of_model(one) or is_outside(one)]
        if not outside:
            continue
        if shape.member != closure.root.key:
            yield from _of_called(lookup, closure, shape, definition, outside)
        elif shape.node_id not in warned:
            node = definition.nodes[shape.node_id]
            inputs = money_fields(specs[node.type], node.payload)
            field = next((f"payload.{steps[0]}" for money, steps in inputs if money == "recipient"), "payload")
            message = (
                f'"{field}" hangs on {_said(outside)}, by way of a called workflow: whoever controls that names '
                f"who is paid. {_CHOOSE}"
            )
            yield Problem(f"nodes.{shape.node_id}.{field}", message, NAMES_RECIPIENT, shape.node_id, "warning")


def _of_called(
    lookup: Lookup, closure: Closure, shape: Shape, definition: Definition, outside: list[Source]
) -> Iterator[Problem]:
    """At the call that leads there, or the first one if others lie between."""
    member = next(one for one in closure.members if one.key == shape.member)
    calls = {node_id: node for node_id, node in definition.nodes.items() if node.type == CALL}
    direct = [
        node_id
        for node_id, node in calls.items()
        if (called := call_of({"payload": node.payload})) is not None and called[0] == member.workflow.id
    ]
    at = next(iter(direct or calls))
    name = f'"{member.workflow.name}"' if lookup.may_tell(member.workflow.id) else "A workflow that it calls"
    message = f"{name} pays whom {_said(outside)} names: whoever controls that names who is paid. {_CHOOSE}"
    yield Problem(f"nodes.{at}.payload.workflowId", message, NAMES_RECIPIENT, at, "warning")


def warnings_of_form(shapes: Iterable[Shape]) -> list[str]:
    """In sentences, the spends that pay whom the answers of a form name."""
    found = []
    for shape in shapes:
        answers = [one for one in _naming(shape) if one.kind == "trigger" and one.name == "manual"]
        if answers:
            paths = ", ".join(sorted(str(one).partition(":")[2].replace("manual", "$trigger", 1) for one in answers))
            found.append(
                f'"{shape.node_id}" pays whom the answers name (`{paths}`): whoever has the link names who is paid. '
                f"{_CHOOSE}"
            )
    return list(dict.fromkeys(found))


def _naming(shape: Shape) -> frozenset[Source]:
    return shape.slice.fields.get("recipient", frozenset()) if shape.slice is not None else frozenset()


def _said(sources: Iterable[Source]) -> str:
    return " and ".join(sorted(describe(one) for one in sources)[:3])
