"""`/v1/workflows/{id}/variables`: variables of a workflow, and the history of their writes."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from dustrun.core.values.fields import Fields
from dustrun.core.workflow.definition import VariableDef
from dustrun.errors import Code, Invalid, Problem
from dustrun.operations.declaration.answers import STORED, Answer, From, PageAnswer, Time
from dustrun.operations.declaration.fields import Paged
from dustrun.operations.declaration.operation import Noun
from dustrun.operations.declaration.parts import Call
from dustrun.operations.runs import RunId, WorkflowId
from dustrun.services.access.paging import Page
from dustrun.services.data.variables import Variable
from dustrun.storage.data.variables import WriteRow

noun = Noun("Variables")

Name = Annotated[str, Field(description="Name of the variable.", max_length=64)]
Kind = Literal["number", "text", "boolean", "list", "object", "any"]
_UNKNOWN = [Code.WORKFLOW_UNKNOWN, Code.VARIABLE_UNKNOWN]


class DeclareVariable(Fields):
    """The declaration of a variable."""

    name: str | None = Field(None, description="If given, the same name as in the path.")
    type: Kind = Field("any", description="Type of its values.", examples=["number"])
    default: Any = Field(None, description="Value before the first write.")
    description: str | None = Field(None, max_length=2000, description="Free text.")
    lifetime: Literal["persist", "reset"] = Field(
        "persist", description="Whether the value is kept between runs or reset by each run."
    )


class SetVariable(Fields):
    """A value to set."""

    value: Any = Field(description="The new value.", examples=[42])


class VariableAnswer(Answer):
    """A variable with its value."""

    name: str
    definition: Annotated[
        dict[str, Any] | None,
        From(lambda one: one.defined.model_dump(by_alias=True) if one.defined is not None else None),
    ] = Field(alias="def", description="The declaration; null if it was written without one.")
    value: Any = Field(description="Value that the next run starts with: the stored one, or the default.")
    has_value: bool = Field(description="Whether a value is stored.")
    version: Annotated[int, From("row.version", missing=0)] = Field(description="Number of writes.")
    updated_at: Annotated[Time | None, From("row.updated_at")]
    last_run_id: Annotated[str | None, From("row.last_run_id")] = Field(
        description="The run of the last write; null if it was set through the API."
    )


class VariablesAnswer(Answer):
    """The variables of a workflow."""

    items: Annotated[list[VariableAnswer], From(list)]


class WriteAnswer(Answer):
    """One write of a variable."""

    id: int
    workflow_id: str = Field(description="Empty for an inline run.")
    name: str
    op: Literal["set", "increment", "manual_set", "manual_reset"]
    scope: Literal["workflow", "run"] = Field(description="Whether it was written to the workflow or only to the run.")
    old_value: Annotated[Any, STORED]
    new_value: Annotated[Any, STORED]
    run_id: str | None
    written_by_node: Annotated[str | None, From("path")] = Field(description="Path of the node.")
    written_by_key: Annotated[str | None, From("key_id")] = Field(
        description="Id of the key, for a write through the API."
    )
    simulated: bool = Field(description="Whether it was written only to a simulation.")
    written_at: Time


@noun.get(
    "/v1/workflows/{id}/variables",
    permission="workflow:read",
    answers=VariablesAnswer,
    refusals=[Code.WORKFLOW_UNKNOWN],
)
async def list_variables(call: Call, workflow_id: WorkflowId) -> list[Variable]:
    """List all declared or written variables with their values, ordered by name."""
    return await call.parts.data.variables.list_all(call.principal, workflow_id)


@noun.put(
    "/v1/workflows/{id}/variables/{name}",
    permission="workflow:update",
    reads="workflow:read",
    needed=["name"],
    answers=VariableAnswer,
    refusals=[Code.WORKFLOW_UNKNOWN, Code.VARIABLE_INVALID, Code.STATE_CONFLICT],
    example={"type": "number", "default": 0, "lifetime": "persist"},
)
async def declare_variable(call: Call, workflow_id: WorkflowId, name: Name, body: DeclareVariable) -> Variable:
    """Declare or redeclare a variable for all versions of the workflow.

    If the workflow, or one that calls it, can spend, this and every other change by hand needs `wallet:spend` on its
    wallets. Answers 409 for a variable that the definition declares: change it there."""
    if body.name is not None and body.name != name:
        raise Invalid("The variable has two names.", details=[Problem("name", f'must be "{name}", as in the path')])
    try:
        defined = VariableDef.model_validate({**body.model_dump(by_alias=True, exclude_unset=True), "name": name})
    except ValueError:
        problem = Problem("name", "must be a letter or _, then letters, digits or _, at most 64 characters")
        raise Invalid("The name is not valid.", code=Code.VARIABLE_INVALID, details=[problem]) from None
    return await call.parts.data.variables.declare(call.principal, workflow_id, defined)


@noun.delete(
    "/v1/workflows/{id}/variables/{name}",
    permission="workflow:update",
    reads="workflow:read",
    needed=["name"],
    answers=VariableAnswer,
    refusals=[*_UNKNOWN, Code.STATE_CONFLICT],
)
async def delete_variable(call: Call, workflow_id: WorkflowId, name: Name) -> Variable:
    """Delete a variable and its value; its history is kept."""
    return await call.parts.data.variables.remove(call.principal, workflow_id, name)


@noun.post(
    "/v1/workflows/{id}/variables/{name}/value",
    permission="workflow:update",
    reads="workflow:read",
    needed=["name"],
    answers=VariableAnswer,
    refusals=[*_UNKNOWN, Code.VARIABLE_INVALID, Code.STATE_CONFLICT],
    example={"value": 17},
)
async def set_variable(call: Call, workflow_id: WorkflowId, name: Name, body: SetVariable) -> Variable:
    """Set a variable."""
    return await call.parts.data.variables.set_value(call.principal, workflow_id, name, body.value)


@noun.post(
    "/v1/workflows/{id}/variables/{name}/reset",
    permission="workflow:update",
    reads="workflow:read",
    needed=["name"],
    answers=VariableAnswer,
    refusals=[*_UNKNOWN, Code.STATE_CONFLICT],
)
async def reset_variable(call: Call, workflow_id: WorkflowId, name: Name) -> Variable:
    """Reset a variable to its default."""
    return await call.parts.data.variables.reset(call.principal, workflow_id, name)


@noun.get(
    "/v1/workflows/{id}/variables/{name}/history",
    permission="workflow:read",
    answers=PageAnswer[WriteAnswer],
    refusals=_UNKNOWN,
)
async def list_variable_history(call: Call, workflow_id: WorkflowId, name: Name, paging: Paged) -> Page[WriteRow]:
    """List the writes of one variable, newest first, without simulated ones."""
    return await call.parts.data.variables.history(call.principal, workflow_id, name, paging)


@noun.get(
    "/v1/runs/{id}/variable-writes",
    permission="run:read",
    answers=PageAnswer[WriteAnswer],
    refusals=[Code.RUN_UNKNOWN],
)
async def list_variable_writes(call: Call, run_id: RunId, paging: Paged) -> Page[WriteRow]:
    """List the writes of one run, oldest first, including simulated ones."""
    return await call.parts.data.variables.writes_of(call.principal, run_id, paging)
