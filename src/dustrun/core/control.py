"""The control nodes: their payloads and what the planner must know of them. They decide where a run goes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from dustrun.core.fields import Fields
from dustrun.core.specs import NodeSpec

Millis = Annotated[int, Field(ge=0, le=2_592_000_000)]


class IfPayload(Fields):
    """Either a condition object or an expression."""

    condition: dict[str, Any] | None = Field(
        None, description='`{"$and": [{"<left>": {"<operator>": right}}]}`, nested as needed.'
    )
    expression: str | None = Field(None, description="A test in the expression language, true or false.")

    @model_validator(mode="after")
    def _exactly_one(self) -> IfPayload:
        if (self.condition is None) == (self.expression is None):
            raise ValueError("give either `condition` or `expression`")
        return self


class SwitchCase(Fields):
    """One named test."""

    name: str = Field(min_length=1, max_length=64, description="The branch that children name.")
    expression: str = Field(description="A test in the expression language, true or false.")


class SwitchPayload(Fields):
    """The first case whose test holds names the branch; `default` when none does."""

    cases: tuple[SwitchCase, ...] = Field(min_length=1, max_length=100, description="Tests, tried in order.")


class ForEachPayload(Fields):
    """Runs the loop body once per item."""

    array: Any = Field(description="The items: a list, or an expression that gives one.")
    concurrency: int = Field(1, ge=1, le=50, description="Items that run at once.")
    on_item_error: Literal["fail", "continue", "stop"] = Field(
        "fail", description="`fail` fails the loop, `continue` goes on, `stop` starts no further item."
    )
    max_items: int | None = Field(None, ge=1, description="Refuse longer lists; at most the setting max_loop_items.")


class DelayPayload(Fields):
    """Waits for a time, or until an instant; durable, and it holds nothing meanwhile."""

    delay_ms: Millis | None = Field(None, description="Time to wait in milliseconds, at most 30 days.")
    until: str | None = Field(None, description="RFC 3339 instant to wait for.")

    @model_validator(mode="after")
    def _exactly_one(self) -> DelayPayload:
        if (self.delay_ms is None) == (self.until is None):
            raise ValueError("give either `delayMs` or `until`")
        if self.until is not None and "{{" not in self.until:
            self.until_ms()
        return self

    def until_ms(self) -> int:
        """`until` in milliseconds since the epoch."""
        assert self.until is not None
        try:
            moment = datetime.fromisoformat(self.until)
        except ValueError:
            raise ValueError(f"`until` is no RFC 3339 instant: {self.until!r}") from None
        if moment.tzinfo is None:
            raise ValueError("`until` needs a time zone: end it with Z or an offset such as +02:00")
        return round(moment.timestamp() * 1000)


class StopPayload(Fields):
    """Ends the run."""

    status: Literal["success", "failure"] = Field("success", description="How the run ends.")
    message: str = Field("", max_length=2000, description="Why; shown with the run.")


@dataclass(frozen=True, slots=True)
class ControlDoc:
    """What the catalogue shows of a control node."""

    summary: str
    example_input: dict[str, Any]
    example_output: dict[str, Any]


def _cases(payload: Mapping[str, Any]) -> tuple[str, ...]:
    cases = payload.get("cases")
    names = [case.get("name") for case in cases if isinstance(case, Mapping)] if isinstance(cases, list | tuple) else []
    return (*(name for name in names if isinstance(name, str)), "default")


def _spec(kind: str, payload: type[Fields], fields: set[str], branches: Any = None) -> NodeSpec:
    return NodeSpec(kind, "control", "pure", payload, branches, frozenset(fields))


CONTROL: Mapping[str, NodeSpec] = {
    "if": _spec("if", IfPayload, {"branch"}, lambda _: ("then", "else")),
    "switch": _spec("switch", SwitchPayload, {"branch"}, _cases),
    "for-each": _spec("for-each", ForEachPayload, {"iterations", "iterationCount"}),
    "delay": _spec("delay", DelayPayload, {"until", "delayedMs"}),
    "stop": _spec("stop", StopPayload, {"status", "message"}),
}

DOCS: Mapping[str, ControlDoc] = {
    "if": ControlDoc(
        "Goes one of two ways: children with branch `then` or `else`.",
        {"condition": {"$and": [{"{{$trigger.body.usd}}": {"$gt": 2000}}]}},
        {"branch": "then"},
    ),
    "switch": ControlDoc(
        "Goes the way of the first case whose test holds; children name the case, or `default`.",
        {"cases": [{"name": "large", "expression": "$trigger.body.usd > 1000"}]},
        {"branch": "large"},
    ),
    "for-each": ControlDoc(
        "Runs its loop body once per item of a list, several at once if you like.",
        {"array": "{{$trigger.body.rows}}", "concurrency": 5},
        {"iterations": [{"index": 0, "status": "success", "results": {}}], "iterationCount": 1},
    ),
    "delay": ControlDoc(
        "Waits for a time or until an instant; survives restarts and holds nothing meanwhile.",
        {"delayMs": 60000},
        {"until": "2026-01-31T12:00:00.000Z", "delayedMs": 60000},
    ),
    "stop": ControlDoc(
        "Ends the run as a success or a failure.",
        {"status": "failure", "message": "The price is too low."},
        {"status": "failure", "message": "The price is too low."},
    ),
}
