"""Warns where somebody outside shapes a spend: a model or a tool any field of it, a webhook or an HTTP answer who is
paid."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from dustrun.core.expression import ExpressionErrors
from dustrun.core.sources.inputs import money_fields, overlap, steps_of
from dustrun.core.sources.slicer import ClosedPrograms, Place, Slicer
from dustrun.core.sources.source import Source
from dustrun.core.sources.words import describe
from dustrun.core.validate.words import problem
from dustrun.core.workflow.definition import Definition
from dustrun.core.workflow.program import Program, compile_program
from dustrun.core.workflow.specs import Specs
from dustrun.errors import Problem

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
    models = slicer.bits.where(lambda one: one.kind in _MODELS)
    outside = slicer.bits.where(_is_outside)
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


def _is_outside(source: Source) -> bool:
    return source.kind == "http" or (source.kind == "trigger" and source.name in _OUTSIDE_TRIGGERS)


def _said(slicer: Slicer, bits: int) -> str:
    return " and ".join(sorted(describe(one) for one in slicer.bits.named(bits))[:3])
