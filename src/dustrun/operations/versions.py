"""`/v1/workflows/{id}/versions`: the numbered versions of a workflow."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from dustrun.core.values.fields import Fields
from dustrun.errors import Code
from dustrun.operations.declaration.answers import MADE, Answer, From, PageAnswer, Time, page_shape, time
from dustrun.operations.declaration.encoding import as_it_is, data_of
from dustrun.operations.declaration.fields import MAX_INTEGER, Paged
from dustrun.operations.declaration.operation import Noun
from dustrun.operations.declaration.parts import Call
from dustrun.operations.shapes.sources import SpendSourcesAnswer, SpendSourcesPage
from dustrun.operations.shapes.workflows import Rehearsal, VersionAnswer, version_shape
from dustrun.services.access.paging import Page
from dustrun.services.workflows import spend_gate
from dustrun.services.workflows.acceptance import AcceptanceStatus, Ladder
from dustrun.storage.workflows.versions import VersionRow
from dustrun.storage.workflows.workflows import WorkflowRow

noun = Noun("Versions")


class AcceptVersion(Fields):
    """The version and the sources that the caller has looked at."""

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
    """The spends that a version adds to those of the last accepted one. Other nodes may decide what is spent."""

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

    workflow_id: Annotated[str, From("closure.root.workflow.id")]
    version: Annotated[int, From("closure.root.version")]
    digest: Annotated[str, From("closure.digest")] = Field(
        description="SHA-256 of the definition and of those that it calls, as they resolve now."
    )
    accepted: Annotated[bool, From("is_accepted")]
    needed: int = Field(description="How many keys must accept it; 0 if its author may spend what it spends.")
    accepted_by: list[AcceptedBy]
    against_version: Annotated[int | None, From("against")] = Field(
        description="The last accepted version; null: there is none."
    )
    differences: Annotated[SpendDifferences, MADE]


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
    sources: list[SpendSourcesAnswer] = Field(
        description="Why this amount, why this recipient: of the first 50 nodes. `GET /v1/workflows/{id}/sources` has "
        "all."
    )
    acceptance: AcceptanceAnswer


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
        "sources": ladder.reasons,
        "acceptance": data_of(AcceptanceAnswer, ladder.status),
    }


def _rung(carried: spend_gate.LastSpend | None) -> dict[str, Any] | None:
    return {"runId": carried.run_id, "path": carried.path, "at": time(carried.at)} if carried is not None else None


Number = Annotated[int, Field(ge=1, le=MAX_INTEGER, description="Number of the version.")]
_UNKNOWN = [Code.WORKFLOW_UNKNOWN, Code.VERSION_UNKNOWN]


class VersionPage(PageAnswer[VersionAnswer]):
    """A page of versions; `currentVersion` is the draft, or the live version if there is no draft."""

    current_version: int


class VersionCount(Answer):
    """Number of versions."""

    count: int
    total: int = Field(description="The same as `count`.")


class Change(Answer):
    """One value that differs; a side without the value is absent."""

    path: str
    before: Any = None
    after: Any = None


class NodeChange(Answer):
    """Differences in one node."""

    node_id: str
    changes: list[Change]


class VersionDiff(Answer):
    """Differences between two versions."""

    earlier: int = Field(alias="from")
    later: int = Field(alias="to")
    equal: bool
    nodes_added: list[str]
    nodes_removed: list[str]
    nodes_changed: list[NodeChange]
    other_changes: list[Change]


def _page_shape(found: tuple[WorkflowRow, Page[VersionRow]]) -> dict[str, Any]:
    row, page = found
    shaped = page_shape(lambda version: version_shape(row, version))(page)
    return {**shaped, "currentVersion": row.current_version}


def _sources_shape(found: tuple[dict[str, Any], Page[dict[str, Any]]]) -> dict[str, Any]:
    about, page = found
    return {**about, **page_shape(dict)(page)}


def _version_shape(found: tuple[WorkflowRow, VersionRow]) -> dict[str, Any]:
    return version_shape(*found)


@noun.get(
    "/v1/workflows/{id}/versions",
    permission="workflow:read",
    answers=VersionPage,
    shape=_page_shape,
    refusals=[Code.WORKFLOW_UNKNOWN],
)
async def list_versions(
    call: Call,
    id: str,
    paging: Paged,
    published: Annotated[
        bool, Field(description="Only those that were published, whether or not they are live.")
    ] = False,
) -> tuple[WorkflowRow, Page[VersionRow]]:
    """List the versions of a workflow, newest first."""
    return await call.parts.versions.list_page(call.principal, id, paging, published=published)


@noun.get(
    "/v1/workflows/{id}/versions/count",
    permission="workflow:read",
    answers=VersionCount,
    refusals=[Code.WORKFLOW_UNKNOWN],
    shape=as_it_is,
)
async def count_versions(call: Call, id: str) -> dict[str, Any]:
    """Count the versions of a workflow."""
    found = await call.parts.versions.count(call.principal, id)
    return {"count": found, "total": found}


@noun.get(
    "/v1/workflows/{id}/versions/{number}",
    permission="workflow:read",
    answers=VersionAnswer,
    shape=_version_shape,
    refusals=_UNKNOWN,
)
async def get_version(call: Call, id: str, number: Number) -> tuple[WorkflowRow, VersionRow]:
    """Get one version of a workflow."""
    return await call.parts.versions.get(call.principal, id, number)


@noun.get(
    "/v1/workflows/{id}/versions/{number}/diff",
    permission="workflow:read",
    answers=VersionDiff,
    refusals=_UNKNOWN,
    shape=as_it_is,
)
async def diff_versions(
    call: Call,
    id: str,
    number: Number,
    against: Annotated[
        int | None, Field(ge=1, le=MAX_INTEGER, description="The earlier version. Default: the previous one.")
    ] = None,
) -> dict[str, Any]:
    """Compare two versions: nodes added, removed, and changed, by path."""
    return await call.parts.versions.diff(call.principal, id, number, against)


@noun.get(
    "/v1/workflows/{id}/ladder",
    permission="workflow:read",
    answers=LadderAnswer,
    shape=ladder_shape,
    refusals=_UNKNOWN,
)
async def get_ladder(
    call: Call,
    id: str,
    version: Annotated[
        int | None, Field(ge=1, le=MAX_INTEGER, description="By default the draft, else the live one.")
    ] = None,
) -> Ladder:
    """Show which spends of a version, and of what it calls, were rehearsed, and whether the version is accepted.

    Only what a passed run of exactly these definitions carried out counts: `digest` stands for them. Skipped, pinned
    and unreached spends are null.
    """
    return await call.parts.acceptances.ladder(call.principal, id, version)


@noun.get(
    "/v1/workflows/{id}/sources",
    permission="workflow:read",
    answers=SpendSourcesPage,
    shape=_sources_shape,
    refusals=_UNKNOWN,
)
async def list_spend_sources(
    call: Call,
    id: str,
    paging: Paged,
    version: Annotated[
        int | None, Field(ge=1, le=MAX_INTEGER, description="By default the draft, else the live one.")
    ] = None,
) -> tuple[dict[str, Any], Page[dict[str, Any]]]:
    """List what shapes each spend of a version, and of what it calls: what can change who is paid and how much, what
    decides whether it happens, and what can only prevent it.

    It holds for any run; `GET /v1/runs/{id}/effects?include=sources` tells of one."""
    return await call.parts.slices.report(call.principal, id, version, paging)


@noun.post(
    "/v1/workflows/{id}/versions/{number}/accept",
    permission="wallet:spend",
    answers=AcceptanceAnswer,
    refusals=[*_UNKNOWN, Code.VERSION_MOVED],
    example={"expectedDigest": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"},
)
async def accept_version(call: Call, id: str, number: Number, body: AcceptVersion | None = None) -> AcceptanceStatus:
    """Accept what a version can spend.

    A version that was written, or that calls what was written, by a key that may not spend from its wallets can be
    simulated, but not published, and neither run nor tested with dust, until a key that may accepts it. The acceptance
    holds for the definitions that the version and its calls have now: if a called workflow changes, it is asked for
    again. It ends with its key. Nobody accepts what they wrote themselves, nor with another key of the same hand. The
    answer shows what the version can spend that the last accepted one could not.
    """
    expected = body.expected_digest if body else None
    return await call.parts.acceptances.accept(call.principal, id, number, expected)


@noun.delete(
    "/v1/workflows/{id}/versions/{number}/accept",
    permission="wallet:spend",
    answers=AcceptanceAnswer,
    refusals=[*_UNKNOWN, Code.ACCEPTANCE_UNKNOWN],
)
async def withdraw_acceptance(call: Call, id: str, number: Number) -> AcceptanceStatus:
    """Withdraw the acceptance of a version.

    Everything that keys of the caller's hand have accepted of this version counts no longer; an administrator withdraws
    everybody's. Runs that have begun go on.
    """
    return await call.parts.acceptances.withdraw(call.principal, id, number)
