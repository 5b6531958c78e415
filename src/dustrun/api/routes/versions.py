"""`/v1/workflows/{id}/versions`: the numbered versions of a workflow."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Path, Query
from pydantic import Field

from dustrun.api.routing import Call, Routes
from dustrun.api.shapes.acceptance import (
    AcceptanceAnswer,
    AcceptVersion,
    LadderAnswer,
    acceptance_shape,
    ladder_shape,
)
from dustrun.api.shapes.sources import SpendSourcesPage
from dustrun.api.shapes.wire import MAX_INTEGER, Answer, PageAnswer, Paged, page_shape
from dustrun.api.shapes.workflows import VersionAnswer, version_shape
from dustrun.errors import Code
from dustrun.services.access.paging import Page
from dustrun.services.workflows.acceptance import AcceptanceStatus, Ladder
from dustrun.storage.workflows.versions import VersionRow
from dustrun.storage.workflows.workflows import WorkflowRow

routes = Routes("Versions")
router = routes.router

Number = Annotated[int, Path(ge=1, le=MAX_INTEGER, description="Number of the version.")]
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


@routes.get(
    "/v1/workflows/{id}/versions",
    permission="workflow:read",
    answers=VersionPage,
    shape=_page_shape,
    refusals=[Code.WORKFLOW_UNKNOWN],
)
async def list_versions(call: Call, id: str, paging: Paged) -> tuple[WorkflowRow, Page[VersionRow]]:
    """List the versions of a workflow, newest first."""
    return await call.parts.versions.list_page(call.principal, id, paging)


@routes.get(
    "/v1/workflows/{id}/versions/count",
    permission="workflow:read",
    answers=VersionCount,
    refusals=[Code.WORKFLOW_UNKNOWN],
)
async def count_versions(call: Call, id: str) -> dict[str, Any]:
    """Count the versions of a workflow."""
    found = await call.parts.versions.count(call.principal, id)
    return {"count": found, "total": found}


@routes.get(
    "/v1/workflows/{id}/versions/{number}",
    permission="workflow:read",
    answers=VersionAnswer,
    shape=_version_shape,
    refusals=_UNKNOWN,
)
async def get_version(call: Call, id: str, number: Number) -> tuple[WorkflowRow, VersionRow]:
    """Get one version of a workflow."""
    return await call.parts.versions.get(call.principal, id, number)


@routes.get(
    "/v1/workflows/{id}/versions/{number}/diff",
    permission="workflow:read",
    answers=VersionDiff,
    refusals=_UNKNOWN,
)
async def diff_versions(
    call: Call,
    id: str,
    number: Number,
    against: Annotated[
        int | None, Query(ge=1, le=MAX_INTEGER, description="The earlier version. Default: the previous one.")
    ] = None,
) -> dict[str, Any]:
    """Compare two versions: nodes added, removed, and changed, by path."""
    return await call.parts.versions.diff(call.principal, id, number, against)


@routes.get(
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
        int | None, Query(ge=1, le=MAX_INTEGER, description="By default the draft, else the live one.")
    ] = None,
) -> Ladder:
    """Show which spends of a version, and of what it calls, were rehearsed, and whether the version is accepted.

    Only what a passed run of exactly these definitions carried out counts: `digest` stands for them. Skipped, pinned
    and unreached spends are null.
    """
    return await call.parts.acceptances.ladder(call.principal, id, version)


@routes.get(
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
        int | None, Query(ge=1, le=MAX_INTEGER, description="By default the draft, else the live one.")
    ] = None,
) -> tuple[dict[str, Any], Page[dict[str, Any]]]:
    """List what shapes each spend of a version, and of what it calls: what can change who is paid and how much, what
    decides whether it happens, and what can only prevent it.

    It holds for any run; `GET /v1/runs/{id}/effects?include=sources` tells of one."""
    return await call.parts.slices.report(call.principal, id, version, paging)


@routes.post(
    "/v1/workflows/{id}/versions/{number}/accept",
    permission="wallet:spend",
    answers=AcceptanceAnswer,
    shape=acceptance_shape,
    refusals=[*_UNKNOWN, Code.VERSION_MOVED],
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


@routes.delete(
    "/v1/workflows/{id}/versions/{number}/accept",
    permission="wallet:spend",
    answers=AcceptanceAnswer,
    shape=acceptance_shape,
    refusals=[*_UNKNOWN, Code.ACCEPTANCE_UNKNOWN],
)
async def withdraw_acceptance(call: Call, id: str, number: Number) -> AcceptanceStatus:
    """Withdraw the acceptance of a version.

    Everything that keys of the caller's hand have accepted of this version counts no longer; an administrator withdraws
    everybody's. Runs that have begun go on.
    """
    return await call.parts.acceptances.withdraw(call.principal, id, number)
