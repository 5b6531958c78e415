"""Arguments of the tools. Their descriptions are all that a model reads of them, so they are short."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, model_validator

from dustrun.core.run.state import Mode, RunStatus
from dustrun.core.values.fields import Fields
from dustrun.operations.declaration.fields import Instant

Id = Annotated[str, StringConstraints(min_length=1, max_length=128)]
Limit = Annotated[int, Field(ge=1, le=50, strict=True)]
Version = Annotated[int, Field(ge=1, le=2**31 - 1, strict=True)]
Json = dict[str, Any]


class SearchNodes(Fields):
    """Finds node types."""

    query: str = Field("", max_length=256, description="Words; empty lists all")
    limit: Limit = 30


class DescribeNodes(Fields):
    """Asks for node types in full."""

    types: list[Id] = Field(min_length=1, max_length=5)


class ListWorkflows(Fields):
    """Finds workflows."""

    query: str | None = Field(None, max_length=256)
    limit: Limit = 20


class GetWorkflow(Fields):
    """Asks for a version of a workflow."""

    id: Id
    version: Version | None = None
    nodes: list[Id] | None = Field(None, max_length=20, description="Only these nodes, of a large workflow")


class ValidateWorkflow(Fields):
    """A definition to check."""

    definition: Json


class SaveWorkflow(Fields):
    """A draft to save."""

    name: str | None = Field(None, max_length=255)
    description: str | None = None
    definition: Json
    workflow_id: Id | None = Field(None, description="Absent: a new workflow")
    expected_version: Version | None = Field(None, description="Refuses if another is current")


class Simulate(Fields):
    """A dry run."""

    workflow_id: Id | None = None
    version: Version | None = None
    definition: Json | None = Field(None, description="Instead of workflowId")
    payload: Json = Field(default_factory=dict)
    prop_values: Json = Field(default_factory=dict)
    wait_s: int = Field(20, ge=0, le=50, strict=True)

    @model_validator(mode="after")
    def _one_of_both(self) -> Simulate:
        if (self.workflow_id is None) == (self.definition is None):
            raise ValueError("give either `workflowId` or `definition`")
        return self


class GetReport(Fields):
    """The run to report on, and the parts of the report."""

    run_id: Id
    what: Literal["summary", "effects", "nodes", "compare"] = "summary"
    node: Id | None = Field(None, description="With nodes: input and result of this path")
    other_run_id: Id | None = Field(None, description="With compare")

    @model_validator(mode="after")
    def _other(self) -> GetReport:
        if (self.what == "compare") != (self.other_run_id is not None):
            raise ValueError("`compare` needs `otherRunId`, and nothing else takes it")
        return self


class ExplainSpend(Fields):
    """Which spends to explain."""

    run_id: Id | None = None
    workflow_id: Id | None = Field(None, description="Instead of runId: what holds for any run of a version")
    version: Version | None = None
    node: Id | None = Field(None, description="Only this node")

    @model_validator(mode="after")
    def _one_of_both(self) -> ExplainSpend:
        if (self.run_id is None) == (self.workflow_id is None):
            raise ValueError("give either `runId` or `workflowId`")
        return self


class ReadPolicy(Fields):
    """A wallet's policy, or sentences to turn into one."""

    wallet_id: Id | None = Field(None, description="Alone: its policy")
    text: str | None = Field(None, max_length=20_000, description="One sentence a line")
    rest: Json = Field(default_factory=dict, description="With text: `rest` as it was told")

    @model_validator(mode="after")
    def _something(self) -> ReadPolicy:
        if self.wallet_id is None and self.text is None:
            raise ValueError("give `walletId`, `text` or both")
        return self


class ListRuns(Fields):
    """Finds runs."""

    workflow_id: Id | None = None
    version: Version | None = Field(None, description="Of the workflow")
    status: RunStatus | None = None
    mode: Mode | None = None
    since: Instant | None = None
    until: Instant | None = None
    q: str | None = Field(None, max_length=256, description="Text in id, workflow, starter, error or end")
    limit: Limit = 20


class Launch(Fields):
    """A run to start for real."""

    workflow_id: Id
    version: Version
    mode: Literal["dust", "live"]
    payload: Json = Field(default_factory=dict)
    prop_values: Json = Field(default_factory=dict)
    rehearsal_run_id: Id = Field(description="Passed simulation of exactly this, at most an hour old")


def schema_of(model: type[Fields]) -> Json:
    """The schema of the arguments, without what a model does not need."""
    schema: Json = _bare(model.model_json_schema(by_alias=True))
    return {key: value for key, value in schema.items() if key != "description"}


def _bare(value: Any) -> Any:
    if isinstance(value, list):
        return [_bare(one) for one in value]
    if not isinstance(value, dict):
        return value
    if "anyOf" in value:  # optional: leave it out rather than send null
        rest = {key: one for key, one in value.items() if key not in ("anyOf", "default", "title")}
        found = next(one for one in value["anyOf"] if one.get("type") != "null")
        return _bare({**found, **rest})
    return {
        key: {name: _bare(one) for name, one in inner.items()} if key == "properties" else _bare(inner)
        for key, inner in value.items()
        if key != "title" or not isinstance(inner, str)
    }
