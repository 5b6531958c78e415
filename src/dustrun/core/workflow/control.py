"""Control nodes: their payloads and their catalogue entries. They decide which way a run goes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from dustrun.core.values.fields import Fields
from dustrun.core.workflow.responding import RespondPayload
from dustrun.core.workflow.specs import NodeSpec
from dustrun.records import dataclass

# The results of control nodes.


class BranchResult(Fields):
    """The decision of an `if` or a `switch`."""

    branch: str = Field(description="The branch that was taken.")


class Iteration(Fields):
    """One item of a loop."""

    index: int = Field(description="Its place in the list, from 0.")
    status: str = Field(description="`success`, `partial`, `failure` or `skipped`.")
    results: dict[str, Any] | None = Field(None, description="The results of its nodes, by their ids.")
    error: dict[str, Any] | None = Field(None, description="Why it failed.")
    results_omitted: bool | None = Field(None, description="True where its results are left out of a long list.")


class ItemCounts(Fields):
    """How many items ended in which status."""

    success: int = Field(description="Items that succeeded.")
    partial: int = Field(description="Items that succeeded in part.")
    failure: int = Field(description="Items that failed.")
    skipped: int = Field(description="Items in which no node was executed.")


class ForEachResult(Fields):
    """The outcomes of a loop's items."""

    iterations: list[Iteration] = Field(description="The items, in their order.")
    iteration_count: int = Field(description="How many items there were.")
    counts: ItemCounts = Field(description="Number of items by status.")
    results_omitted: int | None = Field(None, description="Number of items without their results.")
    iterations_omitted: int | None = Field(None, description="How many items are left out altogether.")


class DelayResult(Fields):
    """How long it waited."""

    until: str = Field(description="Until when, RFC 3339.")
    delayed_ms: int = Field(description="How many milliseconds that was.")


class StopResult(Fields):
    """How the run ended."""

    status: str = Field(description="`success` or `failure`.")
    message: str = Field(description="The reason.")


class RespondResult(Fields):
    """The answer to the request."""

    status: int = Field(description="The HTTP status.")
    headers: dict[str, Any] = Field(description="The headers.")
    content_type: str | None = Field(description="The media type of the body.")
    body: Any = Field(description="The body.")
    is_effective: bool = Field(description="Whether it was the run's first answer, which counts.")


class WaitResult(Fields):
    """The event that resumed the run."""

    status: str = Field(description="`resumed` or `timed_out`; `waiting` where a simulation ends.")
    branch: str | None = Field(description="The branch that was taken.")
    trigger_result: Any = Field(description="What the resume brought.")
    source: str | None = Field(description="Who resumed it: `link`, `api`; `pinned` or `example` in a simulation.")
    timeout_ms: int = Field(description="The timeout in milliseconds.")


class ApproveResult(Fields):
    """The decision on an approval."""

    decision: str = Field(description="`approved`, `rejected` or `timed_out`.")
    branch: str = Field(description="The branch that was taken.")
    message: str = Field(description="The question.")
    by: str | None = Field(description="Id of the API key that decided.")
    comment: str | None = Field(description="What was said with it.")
    decided_at: str = Field(description="When, RFC 3339.")


class CallWorkflowResult(Fields):
    """The outcome of the called run."""

    run_id: str = Field(description="Id of the called run.")
    workflow_id: str = Field(description="Its workflow.")
    status: str = Field(description="Status of the called run; `started` if the node does not wait for it.")
    result: Any = Field(description="The result of its last node, if it has only one.")
    results: dict[str, Any] = Field(description="The results of its last nodes, by their ids.")


class VariableChange(Fields):
    """The value before and after."""

    name: str = Field(description="The variable's name.")
    value: Any = Field(description="The new value.")
    previous: Any = Field(description="The value before.")


class VariableValue(Fields):
    """The value of a variable."""

    name: str = Field(description="The variable's name.")
    value: Any = Field(description="The value, or the default.")
    exists: bool = Field(description="Whether the variable was ever set.")


Millis = Annotated[int, Field(ge=0, le=2_592_000_000)]
Patience = Annotated[int, Field(ge=1000, le=604_800_000)]
VariableName = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=64, description=("The variable's name, as in `variableDefs`.")
    ),
]
VariableScope = Annotated[
    Literal["persist", "reset"] | None,
    Field(description="For an undeclared variable: kept between runs (default), or only for this run."),
]
RESUMABLE = frozenset({"wait", "approve"})


class IfPayload(Fields):
    """Either a condition object or an expression."""

    expression: str | None = Field(None, description="A test in the expression language, true or false.")
    condition: dict[str, Any] | None = Field(
        None,
        description='Instead of `expression`: `{"$and": [{"<left>": {"<operator>": right}}]}`, nested as needed.',
    )

    @model_validator(mode="after")
    def _exactly_one(self) -> IfPayload:
        if (self.condition is None) == (self.expression is None):
            raise ValueError("give exactly one of `condition` and `expression`")
        return self


class SwitchCase(Fields):
    """One named test."""

    name: str = Field(min_length=1, max_length=64, description="The branch that children refer to.")
    expression: str = Field(description="A test in the expression language, true or false.")


class SwitchPayload(Fields):
    """The first case whose condition is true decides the branch; `default` if none does."""

    cases: tuple[SwitchCase, ...] = Field(min_length=1, max_length=100, description="Tests, tried in order.")


class ForEachPayload(Fields):
    """Runs the loop body once per item, or again while a condition is true."""

    array: Any = Field(None, description="The items: a list, or an expression that returns one.")
    while_: str | None = Field(
        None,
        alias="while",
        description="Instead of `array`: an expression evaluated at the end of each iteration; true: another follows.",
    )
    first: Any = Field(None, description="With `while`: `$item` of the first iteration.")
    next: Any = Field(
        None, description="With `while`: `$item` of the next iteration, evaluated at the end of each iteration."
    )
    concurrency: int = Field(1, ge=1, le=50, description="How many items run concurrently.")
    on_item_error: Literal["fail", "continue", "stop"] = Field(
        "fail", description="`fail` fails the loop, `continue` goes on, `stop` starts no further item."
    )
    max_items: int | None = Field(
        None, ge=1, description="Fail on longer lists and on more iterations; at most the setting max_loop_items."
    )

    @model_validator(mode="after")
    def _one_kind(self) -> ForEachPayload:
        given = self.model_fields_set
        if ("array" in given) == (self.while_ is not None):
            raise ValueError("give exactly one of `array` and `while`")
        if self.while_ is None and given & {"first", "next"}:
            raise ValueError("`first` and `next` require `while`")
        if self.while_ is not None and self.concurrency != 1:
            raise ValueError("the iterations of a `while` run one after the other: leave out `concurrency`")
        return self


class DelayPayload(Fields):
    """Waits for a duration, or until a time; durable, and holds no resources meanwhile."""

    delay_ms: Millis | None = Field(None, description="Duration in milliseconds, at most 30 days.")
    until: str | None = Field(None, description="RFC 3339 time to wait for.")

    @model_validator(mode="after")
    def _exactly_one(self) -> DelayPayload:
        if (self.delay_ms is None) == (self.until is None):
            raise ValueError("give exactly one of `delayMs` and `until`")
        if self.until is not None and "{{" not in self.until:
            self.until_ms()
        return self

    def until_ms(self) -> int:
        """`until` in milliseconds since the epoch."""
        assert self.until is not None
        try:
            moment = datetime.fromisoformat(self.until)
        except ValueError:
            raise ValueError(f"`until` is not an RFC 3339 timestamp: {self.until!r}") from None
        if moment.tzinfo is None:
            raise ValueError("`until` needs a time zone: end it with Z or an offset such as +02:00")
        return round(moment.timestamp() * 1000)


class StopPayload(Fields):
    """Ends the run."""

    status: Literal["success", "failure"] = Field("success", description="How the run ends.")
    message: str = Field("", max_length=2000, description="The reason; shown with the run.")


class WaitPayload(Fields):
    """Suspends the run until someone resumes this node or the timeout expires.

    It is resumed by the signed link `{{$run.resumeUrl('id of this node')}}`, or by an API key with `workflow:execute`.
    """

    timeout_ms: Patience = Field(description="Timeout in milliseconds, 1 second to 7 days.")
    trigger_type: str | None = Field(
        None, description="Trigger type whose data is awaited; only `manual` is supported."
    )
    trigger_config: dict[str, Any] | None = Field(
        None, description="Configuration of that trigger: its `inputSchema` validates the resume payload."
    )

    @model_validator(mode="after")
    def _config_of_a_trigger(self) -> WaitPayload:
        if self.trigger_config is not None and self.trigger_type is None:
            raise ValueError("`triggerConfig` requires `triggerType`")
        return self


class ApprovePayload(Fields):
    """Waits for a person to approve or reject. It is listed under `/v1/approvals` meanwhile."""

    message: str = Field(min_length=1, max_length=4000, description="The question to decide.")
    approvers: tuple[str, ...] = Field(
        (), max_length=100, description="Ids of the API keys that may decide; empty: every key with `approval:decide`."
    )
    allow_starter: bool = Field(
        False,
        description="Whether the key that started the run, and keys that it made, may decide; a key that `approvers` "
        "names always may.",
    )
    timeout_ms: Patience = Field(604_800_000, description="Timeout in milliseconds, 1 second to 7 days.")


class CallWorkflowPayload(Fields):
    """Runs another workflow of the organisation, in the same mode as this run."""

    workflow_id: str = Field(
        min_length=1, max_length=128, description="The workflow to run.", json_schema_extra={"x-widget": "workflow"}
    )
    version: int | None = Field(
        None, ge=1, description=("The version to run; default: the live one, or the draft if none is live.")
    )
    payload: dict[str, Any] = Field(default_factory=dict, description="The trigger payload of the called run.")
    prop_values: dict[str, Any] = Field(default_factory=dict, description="Values for its `{{$props.key}}`.")
    mode: Literal["wait", "start"] = Field("wait", description="`wait` for its end, or only `start` it.")


class SetVariablePayload(Fields):
    """Stores a value under a name."""

    name: VariableName
    value: Any = Field(description="The new value.")
    scope: VariableScope = None


class GetVariablePayload(Fields):
    """Reads the current value of a variable; `$vars.name` in an expression does the same."""

    name: VariableName
    default: Any = Field(None, description="The value if the variable has none.")


class IncrementVariablePayload(Fields):
    """Adds to a number; concurrent runs lose no update."""

    name: VariableName
    by: Any = Field(1, description="The amount to add; may be negative.", json_schema_extra={"type": "number"})
    scope: VariableScope = None

    @field_validator("by")
    @classmethod
    def _is_number(cls, value: Any) -> Any:
        if not (isinstance(value, int | Decimal) and not isinstance(value, bool)) and not _is_template(value):
            raise ValueError("must be a number")
        return value


def _is_template(value: Any) -> bool:
    return isinstance(value, str) and "{{" in value


@dataclass(frozen=True, slots=True)
class ControlDoc:
    """The catalogue entry of a control node."""

    summary: str
    example_input: dict[str, Any]
    example_output: dict[str, Any]


def _cases(payload: Mapping[str, Any]) -> tuple[str, ...]:
    cases = payload.get("cases")
    names = [case.get("name") for case in cases if isinstance(case, Mapping)] if isinstance(cases, list | tuple) else []
    return (*(name for name in names if isinstance(name, str)), "default")


def _spec(kind: str, payload: type[Fields], result: type[Fields], branches: Any = None) -> NodeSpec:
    names = frozenset(info.alias or name for name, info in result.model_fields.items())
    return NodeSpec(kind, "control", "pure", payload, branches, names)


RESULTS: Mapping[str, type[Fields]] = {
    "if": BranchResult,
    "switch": BranchResult,
    "for-each": ForEachResult,
    "delay": DelayResult,
    "stop": StopResult,
    "respond": RespondResult,
    "wait": WaitResult,
    "approve": ApproveResult,
    "call-workflow": CallWorkflowResult,
    "set-variable": VariableChange,
    "get-variable": VariableValue,
    "increment-variable": VariableChange,
}

_PAYLOADS: Mapping[str, type[Fields]] = {
    "if": IfPayload,
    "switch": SwitchPayload,
    "for-each": ForEachPayload,
    "delay": DelayPayload,
    "stop": StopPayload,
    "respond": RespondPayload,
    "wait": WaitPayload,
    "approve": ApprovePayload,
    "call-workflow": CallWorkflowPayload,
    "set-variable": SetVariablePayload,
    "get-variable": GetVariablePayload,
    "increment-variable": IncrementVariablePayload,
}
_BRANCHES: Mapping[str, Any] = {
    "if": lambda _: ("then", "else"),
    "switch": _cases,
    "wait": lambda _: ("resumed", "timed_out"),
    "approve": lambda _: ("approved", "rejected", "timed_out"),
}
CONTROL: Mapping[str, NodeSpec] = {
    kind: _spec(kind, payload, RESULTS[kind], _BRANCHES.get(kind)) for kind, payload in _PAYLOADS.items()
}
BRANCHES_IN: Mapping[str, str] = {"switch": "cases"}
"""The field of a payload that lists more branches, each by its `name`."""

DOCS: Mapping[str, ControlDoc] = {
    "if": ControlDoc(
        "Goes one way if yes, another if no: the branches `then` and `else`.",
        {"expression": "$trigger.body.usd > 2000"},
        {"branch": "then"},
    ),
    "switch": ControlDoc(
        "Takes the branch of the first case whose condition is true; children name the case, or `default`.",
        {"cases": [{"name": "large", "expression": "$trigger.body.usd > 1000"}]},
        {"branch": "large"},
    ),
    "for-each": ControlDoc(
        "Runs its loop body once per item of a list, optionally several at once, or again while a condition is true.",
        {"array": "{{$trigger.body.rows}}", "concurrency": 5},
        {
            "iterations": [{"index": 0, "status": "success", "results": {}}],
            "iterationCount": 1,
            "counts": {"success": 1, "partial": 0, "failure": 0, "skipped": 0},
        },
    ),
    "delay": ControlDoc(
        "Waits for a duration or until a time; survives restarts and holds no resources meanwhile.",
        {"delayMs": 60000},
        {"until": "2026-01-31T12:00:00.000Z", "delayedMs": 60000},
    ),
    "stop": ControlDoc(
        "Ends the run as a success or a failure.",
        {"status": "failure", "message": "The price is too low."},
        {"status": "failure", "message": "The price is too low."},
    ),
    "respond": ControlDoc(
        "Answers the request that started the run (a webhook, or `run-sync`); the run goes on. The first one counts.",
        {"status": 201, "body": {"order": "{{$trigger.body.id}}"}},
        {
            "status": 201,
            "headers": {},
            "contentType": "application/json",
            "body": {"order": "A-17"},
            "isEffective": True,
        },
    ),
    "wait": ControlDoc(
        "Waits for an external event; children use branch `resumed` or `timed_out`.",
        {"timeoutMs": 86400000},
        {
            "status": "resumed",
            "branch": "resumed",
            "triggerResult": {"paid": True},
            "source": "link",
            "timeoutMs": 86400000,
        },
    ),
    "approve": ControlDoc(
        "Asks a person for approval; children use branch `approved`, `rejected` or `timed_out`.",
        {"message": "Pay {{$trigger.body.usd}} USD?", "timeoutMs": 86400000},
        {
            "decision": "approved",
            "branch": "approved",
            "message": "Pay 20 USD?",
            "by": "key_01k9w3x7q2c4v6b8n0m1a2s3d4",
            "comment": None,
            "decidedAt": "2026-01-31T12:00:00.000Z",
        },
    ),
    "call-workflow": ControlDoc(
        "Runs another workflow, and waits for its result or only starts it.",
        {"workflowId": "wf_01k9w3x7q2c4v6b8n0m1a2s3d4", "payload": {"usd": "{{$trigger.body.usd}}"}, "mode": "wait"},
        {
            "runId": "run_01k9w3x7q2c4v6b8n0m1a2s3d4",
            "workflowId": "wf_01k9w3x7q2c4v6b8n0m1a2s3d4",
            "status": "success",
            "result": {"message": "done"},
            "results": {"say": {"message": "done"}},
        },
    ),
    "set-variable": ControlDoc(
        "Stores a value under a name, for later nodes and later runs.",
        {"name": "last_price", "value": "{{$trigger.body.usd}}"},
        {"name": "last_price", "value": 2000, "previous": 1990},
    ),
    "get-variable": ControlDoc(
        "Reads a variable.",
        {"name": "last_price", "default": 0},
        {"name": "last_price", "value": 2000, "exists": True},
    ),
    "increment-variable": ControlDoc(
        "Adds to a number; concurrent runs lose no update.",
        {"name": "orders", "by": 1},
        {"name": "orders", "value": 8, "previous": 7},
    ),
}
