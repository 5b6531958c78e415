"""`/v1/approvals`: questions that wait for a person's decision."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Path, Query
from pydantic import Field, StringConstraints

from dustrun.api.routing import Call, Routes
from dustrun.api.shapes.wire import ANY_OF, Commas, PageAnswer, Paged, Text, Time, page_shape, time
from dustrun.core.run.state import Mode
from dustrun.core.values.exact_json import loads
from dustrun.core.values.fields import Fields
from dustrun.errors import Code
from dustrun.services.access.paging import Page
from dustrun.services.runs.approvals import APPROVED, REJECTED
from dustrun.storage.runs.approvals import ApprovalRow

routes = Routes("Approvals")
router = routes.router

Status = Literal["pending", "approved", "rejected", "timed_out", "cancelled"]
ApprovalId = Annotated[str, Path(alias="id", description="Id of the approval.", max_length=64)]
Comment = Annotated[Text, StringConstraints(max_length=2000)]
_REFUSALS = [Code.APPROVAL_UNKNOWN, Code.APPROVAL_DECIDED]


class DecideBody(Fields):
    """The decision's comment."""

    comment: Comment | None = Field(None, description="Reason, shown in the node's result.")


class ApprovalAnswer(Fields):
    """A question to a person, and the decision."""

    id: str = Field(examples=["apr_0f3a9c1b2d4e5f60718293a4b5"])
    run_id: str
    workflow_id: str = Field(description="Empty for an inline run.")
    workflow_name: str
    node_id: str
    path: str = Field(description="The node's path; it names loop items.")
    message: str
    approvers: list[str] = Field(description="Ids of the keys that may decide; empty: every key with the permission.")
    mode: Mode
    status: Status
    created_at: Time
    expires_at: Time
    decided_at: Time | None
    decided_by: str | None = Field(description="Id of the key, or `link`.")
    comment: str | None
    binding: str | None = Field(
        description="For a spend: SHA-256 over what is approved (chain, from, to, value, calldata and fee ceiling)."
    )


def _shape(row: ApprovalRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "runId": row.run_id,
        "workflowId": row.workflow_id or "",
        "workflowName": row.workflow_name,
        "nodeId": row.path.rpartition(".")[2],
        "path": row.path,
        "message": row.message,
        "approvers": loads(row.approvers),
        "mode": row.mode,
        "status": row.status,
        "createdAt": time(row.created_at),
        "expiresAt": time(row.expires_at),
        "decidedAt": time(row.decided_at),
        "decidedBy": row.decided_by,
        "comment": row.comment,
        "binding": row.binding,
    }


@routes.get("/v1/approvals", permission="run:read", answers=PageAnswer[ApprovalAnswer], shape=page_shape(_shape))
async def list_approvals(
    call: Call,
    paging: Paged,
    statuses: Annotated[
        list[Status] | None,
        Commas,
        Query(alias="status", description=f"Statuses, {ANY_OF}; default: the open ones."),
    ] = None,
) -> Page[ApprovalRow]:
    """List approval questions, newest first."""
    wanted = statuses if statuses is not None else ["pending"]
    return await call.parts.waits.approvals.list_page(call.principal, wanted, paging)


@routes.post(
    "/v1/approvals/{id}/approve",
    permission="approval:decide",
    answers=ApprovalAnswer,
    shape=_shape,
    refusals=_REFUSALS,
)
async def approve_approval(call: Call, approval_id: ApprovalId, body: DecideBody | None = None) -> ApprovalRow:
    """Approve; the node continues with its `approved` children."""
    comment = body.comment if body is not None else None
    return await call.parts.waits.approvals.decide(call.principal, approval_id, APPROVED, comment)


@routes.post(
    "/v1/approvals/{id}/reject",
    permission="approval:decide",
    answers=ApprovalAnswer,
    shape=_shape,
    refusals=_REFUSALS,
)
async def reject_approval(call: Call, approval_id: ApprovalId, body: DecideBody | None = None) -> ApprovalRow:
    """Reject; the node continues with its `rejected` children."""
    comment = body.comment if body is not None else None
    return await call.parts.waits.approvals.decide(call.principal, approval_id, REJECTED, comment)
