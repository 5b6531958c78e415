"""The ladder and the acceptance of a version on the wire."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from dustrun.api.shapes.wire import Answer, Time, time
from dustrun.api.shapes.workflows import Rehearsal
from dustrun.core.values.fields import Fields
from dustrun.services.workflows import spend_gate
from dustrun.services.workflows.acceptance import AcceptanceStatus, Ladder


class AcceptVersion(Fields):
    """What the caller has looked at."""

    expected_digest: str | None = Field(
        None, min_length=64, max_length=64, description="Answer 409 unless this is the digest of the version now."
    )


class SpendChange(Answer):
    """One value of a node that differs; a side where it is absent is left out."""

    path: str
    before: Any = None
    after: Any = None


class NodePlace(Answer):
    """A node of a workflow."""

    workflow_id: str
    node_id: str


class SpendingNode(NodePlace):
    """A node that spends."""

    type: str
    wallet_id: str | None = Field(description="null: the default wallet. An expression is shown as it is.")
    one_of: list[str] | None = Field(
        description="The wallets that an expression may name; null: all, or there is none."
    )
    payload: dict[str, Any]


class ChangedSpend(NodePlace):
    """A spending node that differs."""

    changes: list[SpendChange]


class SpendDifferences(Answer):
    """What a version can spend that the last accepted one could not. Other nodes may decide what is spent."""

    added: list[SpendingNode]
    removed: list[SpendingNode]
    changed: list[ChangedSpend]
    other_nodes: list[NodePlace] = Field(description="Nodes that do not spend and were added, removed or changed.")


class AcceptedBy(Answer):
    """A key that accepted the version."""

    key_id: str
    accepted_at: Time


class AcceptanceAnswer(Answer):
    """Whether a version is accepted, with the diff to the last accepted one."""

    workflow_id: str
    version: int
    digest: str = Field(description="SHA-256 of the definition and of those that it calls, as they resolve now.")
    accepted: bool
    needed: int = Field(description="How many keys must accept it; 0 if its author may spend what it spends.")
    accepted_by: list[AcceptedBy]
    against_version: int | None = Field(description="The last accepted version; null: there is none.")
    differences: SpendDifferences


class Rung(Answer):
    """Where a node was last carried out in a mode."""

    run_id: str
    path: str
    at: Time


class LadderNode(NodePlace):
    """A spending node, and where a passed run last carried it out."""

    workflow_name: str
    version: int
    type: str
    simulate: Rung | None
    dust: Rung | None
    live: Rung | None


class LadderAnswer(Answer):
    """How far a version has come: every spending node of it and of what it calls, and its acceptance."""

    workflow_id: str
    version: int
    digest: str
    require_rehearsal: Rehearsal
    rehearsed: bool = Field(description="Whether a live run has every rehearsal that the workflow requires.")
    calls_any: bool = Field(description="A call computes its workflow; what it calls is judged at the call.")
    nodes: list[LadderNode]
    acceptance: AcceptanceAnswer


def acceptance_shape(status: AcceptanceStatus) -> dict[str, Any]:
    """A version's acceptance on the wire."""
    root = status.closure.root
    return {
        "workflowId": root.workflow.id,
        "version": root.version,
        "digest": status.closure.digest,
        "accepted": status.is_accepted,
        "needed": status.needed,
        "acceptedBy": [{"keyId": one.key_id, "acceptedAt": time(one.accepted_at)} for one in status.accepted_by],
        "againstVersion": status.against,
        "differences": status.differences,
    }


def ladder_shape(ladder: Ladder) -> dict[str, Any]:
    """A version's ladder on the wire."""
    closure = ladder.status.closure
    return {
        "workflowId": closure.root.workflow.id,
        "version": closure.root.version,
        "digest": closure.digest,
        "requireRehearsal": closure.root.workflow.require_rehearsal,
        "rehearsed": ladder.is_rehearsed,
        "callsAny": closure.calls_any,
        "nodes": [
            {
                "workflowId": member.workflow.id,
                "workflowName": member.workflow.name,
                "version": member.version,
                "nodeId": node.node_id,
                "type": node.type,
                **{mode: _rung(found.get(spend_gate.place_of(member, node))) for mode, found in ladder.carried.items()},
            }
            for member, node in ladder.spends()
        ],
        "acceptance": acceptance_shape(ladder.status),
    }


def _rung(carried: spend_gate.Carried | None) -> dict[str, Any] | None:
    return {"runId": carried.run_id, "path": carried.path, "at": time(carried.at)} if carried is not None else None
