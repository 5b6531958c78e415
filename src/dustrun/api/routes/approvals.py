"""`/v1/approvals`: questions that wait for a person's decision."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Path, Query
from pydantic import Field, StringConstraints

from dustrun.api.routing import Call, Routes
from dustrun.api.shapes.wire import ANY_OF, Answer, Commas, PageAnswer, Paged, Text, Time, page_shape, time
from dustrun.core.run.state import Mode
from dustrun.core.values.exact_json import loads
from dustrun.core.values.fields import Fields
from dustrun.errors import Code
from dustrun.services.access.paging import Page
from dustrun.services.runs.approvals import APPROVED, REJECTED, votes_of
from dustrun.services.runs.launching.decision import Decided
from dustrun.storage.runs.approvals import ApprovalRow

routes = Routes("Approvals")
router = routes.router

Status = Literal["pending", "approved", "rejected", "timed_out", "cancelled"]
ApprovalId = Annotated[str, Path(alias="id", description="Id of the approval.", max_length=64)]
Comment = Annotated[Text, StringConstraints(max_length=2000)]
_REFUSALS = [Code.APPROVAL_UNKNOWN, Code.APPROVAL_DECIDED]
_OF_APPROVING = [*_REFUSALS, Code.BINDING_MISMATCH, Code.REHEARSAL_MISMATCH]


class DecideBody(Fields):
    """The decision's comment."""

    comment: Comment | None = Field(None, description="Reason, shown in the node's result.")


class ApproveBody(DecideBody):
    """The decision's comment, and what it is about."""

    binding: str | None = Field(
        None,
        max_length=128,
        description="The approval's `binding`, as you saw it: another one is refused. A launch needs it.",
    )


class LaunchAnswer(Answer):
    """What an approved launch starts."""

    version: int
    run_id: str = Field(description="The run that the approval starts; it exists once it is approved.")
    rehearsal_run_id: str = Field(description="The simulation that showed what the run does.")
    proposed_by: str = Field(description="Id of the key that proposed it.")


class VoteAnswer(Answer):
    """One of several approvals that a question needs."""

    by: str = Field(description="Id of the key.")
    at: Time
    comment: str | None


class ApprovalAnswer(Answer):
    """A question to a person, and the decision."""

    id: str = Field(examples=["apr_0f3a9c1b2d4e5f60718293a4b5"])
    kind: Literal["node", "spend", "launch"] = Field(
        description="An `approve` node asks, a spend that the wallet's policy asks about, or the start of a run."
    )
    run_id: str = Field(description="The run that asks; of a launch, its rehearsal.")
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
        description="SHA-256 over what is approved. Of a spend: chain, from, to, value, calldata and fee ceiling. Of a "
        "launch: workflow, version, mode, payload, values, rehearsal and its report."
    )
    launch: LaunchAnswer | None = Field(description="Of a launch: what it starts.")
    quorum: int = Field(description="How many keys must approve it, no two of them one hand.")
    votes: list[VoteAnswer] = Field(description="Those that have approved it, if it needs several; oldest first.")


def _shape(row: ApprovalRow) -> dict[str, Any]:
    launch: dict[str, Any] | None = loads(row.launch) if row.launch is not None else None
    return {
        "id": row.id,
        "kind": "launch" if launch is not None else "node" if row.binding is None else "spend",
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
        "launch": None if launch is None else {**_launch(launch), "rehearsalRunId": row.run_id},
        "quorum": row.quorum or 1,
        "votes": [{**one, "at": time(one["at"])} for one in votes_of(row)],
    }


def _launch(launch: dict[str, Any]) -> dict[str, Any]:
    return {name: launch[name] for name in ("version", "runId", "proposedBy")}


def _row_of(result: ApprovalRow | Decided) -> ApprovalRow:
    return result.row if isinstance(result, Decided) else result


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


@routes.get(
    "/v1/approvals/{id}",
    permission="run:read",
    answers=ApprovalAnswer,
    shape=_shape,
    refusals=[Code.APPROVAL_UNKNOWN],
)
async def get_approval(call: Call, approval_id: ApprovalId) -> ApprovalRow:
    """Get an approval question and its decision."""
    return await call.parts.waits.approvals.get(call.principal, approval_id)


@routes.post(
    "/v1/approvals/{id}/approve",
    permission="approval:decide",
    reads="run:read",
    needed=["decidedBy", "launch"],
    answers=ApprovalAnswer,
    shape=_shape,
    refusals=_OF_APPROVING,
)
async def approve_approval(call: Call, approval_id: ApprovalId, body: ApproveBody | None = None) -> ApprovalRow:
    """Approve; the node continues with its `approved` children, and a launch starts its run.

    Approving a launch also needs `workflow:execute`, `wallet:spend` on the wallets of the workflow, and the
    `binding`. The run starts under this key, in the transaction that stores the decision."""
    comment, binding = (body.comment, body.binding) if body is not None else (None, None)
    call.answer_around(_row_of)
    return await call.parts.waits.approvals.decide(call.principal, approval_id, APPROVED, comment, binding)


@routes.post(
    "/v1/approvals/{id}/reject",
    permission="approval:decide",
    reads="run:read",
    needed=["decidedBy", "launch"],
    answers=ApprovalAnswer,
    shape=_shape,
    refusals=_REFUSALS,
)
async def reject_approval(call: Call, approval_id: ApprovalId, body: DecideBody | None = None) -> ApprovalRow:
    """Reject; the node continues with its `rejected` children, and a launch starts nothing."""
    comment = body.comment if body is not None else None
    return await call.parts.waits.approvals.decide(call.principal, approval_id, REJECTED, comment)
