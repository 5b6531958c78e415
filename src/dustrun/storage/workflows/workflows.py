"""Rows of workflows; their versions are in `versions.py`."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Sequence
from dataclasses import fields
from functools import lru_cache
from typing import Any

import sqlalchemy as sa

from dustrun.core.workflow.placement import reaches
from dustrun.records import dataclass
from dustrun.storage.db.statement import PendingResult, Statement, Tx
from dustrun.storage.db.tables import run_counts, runs
from dustrun.storage.db.tables import workflow_versions as v
from dustrun.storage.db.tables import workflows as t
from dustrun.storage.workflows.latest_runs import Latest


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowRow:
    """One workflow; times in milliseconds, JSON as text."""

    id: str
    org_id: str
    name: str
    description: str
    status: str
    paused_reason: str | None
    latest_version: int
    draft_version: int | None
    live_version: int | None
    max_runs: int | None
    remain_runs: int | None
    cooldown_ms: int | None
    require_rehearsal: str
    concurrency: str | None
    enforce_rehearsal: str | None
    acceptances: int
    ui_metadata: str | None
    owner: str
    created_at: int
    updated_at: int
    last_triggered_at: int | None = None
    failures_in_row: int = 0
    autosave: str | None = None
    folder: str | None = None
    tags: str = ""

    @property
    def current_version(self) -> int:
        """The version that is shown and edited: the draft, else the live version."""
        return self.draft_version or self.live_version or self.latest_version


@dataclass(frozen=True, slots=True)
class ListedWorkflow:
    """A workflow in a list, with data of its current version and, if it was asked for, of its runs."""

    row: WorkflowRow
    trigger_type: str
    node_types: tuple[str, ...]
    connector_types: tuple[str, ...]
    node_count: int
    latest: Latest | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowFilters:
    """Filters of a workflow list; `status` None excludes archived ones. `only`: the ids that the caller can access."""

    org_id: str
    q: str | None = None
    status: str | None = None
    type: str | None = None
    actions: tuple[str, ...] = ()
    connectors: tuple[str, ...] = ()
    owner: str | None = None
    only: tuple[str, ...] | None = None
    folder: str | None = None
    tags: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()


_NAMES = tuple(field.name for field in fields(WorkflowRow))
_COLUMNS = [t.c[name] for name in _NAMES]
_BY_ID = (t.c.org_id == sa.bindparam("org_id"), t.c.id == sa.bindparam("id"))
_FIND = Statement(sa.select(*_COLUMNS).where(*_BY_ID))
_ORG = Statement(sa.select(t.c.org_id).where(t.c.id == sa.bindparam("id")))
_STATE = (
    "id",
    "org_id",
    "name",
    "status",
    "latest_version",
    "draft_version",
    "live_version",
    "concurrency",
    "require_rehearsal",
    "acceptances",
    "autosave",
)
_FIND_STATE = Statement(sa.select(*(t.c[name] for name in _STATE)).where(*_BY_ID))
_FIND_TO_CHANGE = Statement(sa.select(*_COLUMNS).where(*_BY_ID).with_for_update())
_NAMED = Statement(
    sa.select(*_COLUMNS)
    .where(
        t.c.org_id == sa.bindparam("org_id"),
        sa.func.lower(t.c.name) == sa.func.lower(sa.bindparam("name", type_=sa.Text)),
        t.c.status != "archived",
    )
    .order_by(t.c.id)
)
_CALLERS = Statement(
    sa.select(*_COLUMNS)
    .where(
        t.c.org_id == sa.bindparam("org_id"),
        t.c.status != "archived",
        sa.exists().where(
            v.c.workflow_id == t.c.id,
            sa.or_(v.c.version == t.c.draft_version, v.c.version == t.c.live_version),
            v.c.node_types.contains(" call-workflow "),
            v.c.definition.contains(sa.bindparam("quoted_id", type_=sa.Text)),
        ),
    )
    .order_by(t.c.id)
)
_PLACES = Statement(
    sa.select(t.c.id, t.c.folder, t.c.tags).where(t.c.org_id == sa.bindparam("org_id")).order_by(t.c.id)
)
_INSERT = Statement(sa.insert(t))
_KEEP = Statement(
    sa.update(t)
    .where(
        t.c.org_id == sa.bindparam("of_org"),
        t.c.id == sa.bindparam("of_id"),
        t.c.draft_version == sa.bindparam("of_version"),
        t.c.autosave.is_not(None),
    )
    .values(autosave=sa.null())
)

_SHOWN = sa.func.coalesce(t.c.draft_version, t.c.live_version, t.c.latest_version)
_WITH_VERSION = t.join(v, sa.and_(v.c.workflow_id == t.c.id, v.c.version == _SHOWN))
_ABOUT_VERSION = [v.c.trigger_type, v.c.node_types, v.c.connector_types, v.c.node_count]

_PASSED = (
    sa.select(sa.func.max(runs.c.pk))
    .where(
        runs.c.workflow_id == sa.bindparam("workflow_id"),
        runs.c.version == sa.bindparam("version"),
        # a literal, because SQLite uses a partial index only if it can see the condition's value
        runs.c.passed == sa.literal_column("1"),
    )
    .group_by(runs.c.mode)
)
_LADDER = Statement(sa.select(runs.c.mode, runs.c.id).where(runs.c.pk.in_(_PASSED.scalar_subquery())))


def _row(found: tuple[Any, ...]) -> WorkflowRow:
    return WorkflowRow(**dict(zip(_NAMES, found, strict=True)))


def insert(tx: Tx, row: WorkflowRow) -> None:
    """Inserts a workflow."""
    tx.do(_INSERT, **{name: getattr(row, name) for name in _NAMES})


def find(tx: Tx, org_id: str, workflow_id: str) -> WorkflowRow | None:
    """Finds a workflow of the organisation."""
    found = tx.one(_FIND, org_id=org_id, id=workflow_id)
    return _row(found) if found else None


def org_of(tx: Tx, workflow_id: str) -> str:
    """The organisation of a workflow; empty if there is none."""
    found = tx.one(_ORG, id=workflow_id)
    return str(found[0]) if found else ""


def state_of(row: WorkflowRow) -> tuple[Any, ...]:
    """The state that a start of a run depends on, as `find_state` reads it."""
    return tuple([getattr(row, name) for name in _STATE])


def find_state(tx: Tx, org_id: str, workflow_id: str) -> tuple[Any, ...] | None:
    """Reads what a start of a run depends on."""
    return tx.one(_FIND_STATE, org_id=org_id, id=workflow_id)


def find_state_soon(tx: Tx, org_id: str, workflow_id: str) -> PendingResult:
    """Like `find_state`; the value is there after the next statement that has a result."""
    return tx.soon(_FIND_STATE, org_id=org_id, id=workflow_id)


def list_callers(tx: Tx, row: WorkflowRow) -> list[WorkflowRow]:
    """Lists the unarchived workflows whose draft or live version has a call, and this id in its text."""
    return [_row(found) for found in tx.all(_CALLERS, org_id=row.org_id, quoted_id=f'"{row.id}"')]


def list_scoped(tx: Tx, org_id: str, scope: Sequence[str]) -> list[str]:
    """Lists the ids of the organisation's workflows that a scope reaches, also archived ones."""
    found = tx.all(_PLACES, org_id=org_id)
    return [id for id, folder, tags in found if reaches(scope, id, folder, tags.split())]


def find_words(
    tx: Tx, org_id: str, words: Sequence[str], only: Sequence[str] | None, most: int
) -> list[ListedWorkflow]:
    """At most so many workflows that have all these texts in their name, description, folder, tags or node types, those
    with the first one in their name before others, then the newest. `only`: the ids that the caller can access."""
    shown = (t.c.name, t.c.description, sa.func.coalesce(t.c.folder, ""), t.c.tags, v.c.node_types, t.c.id)
    text = functools.reduce(lambda one, other: one + " " + other, shown)
    query = sa.select(*_COLUMNS, *_ABOUT_VERSION).select_from(_WITH_VERSION).where(t.c.org_id == org_id)
    query = query.where(t.c.status != "archived", *(text.icontains(word, autoescape=True) for word in words))
    if only is not None:
        query = query.where(t.c.id.in_(only))
    in_name = sa.case((t.c.name.icontains(words[0], autoescape=True), 0), else_=1)
    query = query.order_by(in_name, t.c.updated_at.desc(), t.c.id).limit(most)
    return [_listed(found) for found in tx.all(Statement(query))]


def places_present(tx: Tx, filters: WorkflowFilters) -> tuple[list[str], list[str]]:
    """The folders and the tags of these workflows, archived ones left out."""
    query = sa.select(t.c.folder, t.c.tags).select_from(_WITH_VERSION)
    found = tx.all(Statement(query.where(*_conditions(filters), t.c.status != "archived").distinct()))
    return sorted({folder for folder, _ in found if folder}), sorted({tag for _, tags in found for tag in tags.split()})


def count_tags(tx: Tx, filters: WorkflowFilters) -> Counter[str]:
    """How many workflows have each tag, archived ones left out."""
    query = sa.select(t.c.tags, sa.func.count()).select_from(_WITH_VERSION)
    query = query.where(*_conditions(filters), t.c.status != "archived", t.c.tags != "").group_by(t.c.tags)
    counts: Counter[str] = Counter()
    for tags, total in tx.all(Statement(query)):
        counts.update(dict.fromkeys(tags.split(), total))
    return counts


def find_to_change(tx: Tx, org_id: str, workflow_id: str) -> WorkflowRow | None:
    """Finds a workflow and, on PostgreSQL, locks its row until the transaction ends."""
    found = tx.one(_FIND_TO_CHANGE, org_id=org_id, id=workflow_id)
    return _row(found) if found else None


def list_named(tx: Tx, org_id: str, name: str) -> list[WorkflowRow]:
    """Lists the unarchived workflows with that name, oldest first; upper and lower case are equal."""
    return [_row(found) for found in tx.all(_NAMED, org_id=org_id, name=name)]


@lru_cache(maxsize=256)
def _update(names: tuple[str, ...]) -> Statement:
    return Statement(
        sa.update(t).where(t.c.id == sa.bindparam("of_id")).values({name: sa.bindparam(name) for name in names})
    )


def update(tx: Tx, workflow_id: str, **changes: Any) -> None:
    """Updates the given columns."""
    tx.do(_update(tuple(sorted(changes))), of_id=workflow_id, **changes)


def keep_draft(tx: Tx, org_id: str, workflow_id: str, version: int) -> None:
    """Keeps the draft for good, if it has that version: something refers to it, so no autosave may replace it."""
    tx.do(_KEEP, of_org=org_id, of_id=workflow_id, of_version=version)


def ladder(tx: Tx, workflow_id: str, version: int) -> dict[str, str]:
    """The newest passed run of the version, by mode."""
    return dict(tx.all(_LADDER, workflow_id=workflow_id, version=version))


def _conditions(filters: WorkflowFilters) -> list[sa.ColumnElement[bool]]:
    found: list[sa.ColumnElement[bool]] = [t.c.org_id == filters.org_id]
    if filters.q:
        found.append(
            t.c.name.icontains(filters.q, autoescape=True) | t.c.description.icontains(filters.q, autoescape=True)
        )
    if filters.type:
        found.append(v.c.trigger_type == filters.type)
    if filters.only is not None:
        found.append(t.c.id.in_(filters.only))
    if filters.ids:
        found.append(t.c.id.in_(filters.ids))
    if filters.owner is not None:
        found.append(t.c.owner == filters.owner)
    if filters.folder is not None:
        found.append((t.c.folder == filters.folder) | t.c.folder.startswith(f"{filters.folder}/", autoescape=True))
    lists = ((v.c.node_types, filters.actions), (v.c.connector_types, filters.connectors), (t.c.tags, filters.tags))
    for column, wanted in lists:
        if wanted:
            found.append(sa.or_(*(column.contains(f" {name} ", autoescape=True) for name in wanted)))
    return found


def _order(sort: str, query: sa.Select[Any]) -> sa.Select[Any]:
    name, _, direction = sort.partition(":")
    columns = {"updatedAt": t.c.updated_at, "createdAt": t.c.created_at, "name": sa.func.lower(t.c.name)}
    if name == "runs":
        totals = (
            sa.select(run_counts.c.workflow_id, sa.func.sum(run_counts.c.total).label("total"))
            .group_by(run_counts.c.workflow_id)
            .subquery()
        )
        query = query.outerjoin(totals, totals.c.workflow_id == t.c.id)
        key: Any = sa.func.coalesce(totals.c.total, 0)
    else:
        key = columns[name]
    ends = (key.desc(), t.c.id.desc()) if direction == "desc" else (key.asc(), t.c.id.asc())
    return query.order_by(*ends)


def _listed(found: tuple[Any, ...]) -> ListedWorkflow:
    trigger_type, node_types, connector_types, node_count = found[len(_NAMES) :]
    row = _row(found[: len(_NAMES)])
    return ListedWorkflow(row, trigger_type, tuple(node_types.split()), tuple(connector_types.split()), node_count)


def list_page(tx: Tx, filters: WorkflowFilters, *, sort: str, limit: int, offset: int) -> list[ListedWorkflow]:
    """Lists one page of workflows, without their definitions."""
    status = t.c.status == filters.status if filters.status else t.c.status != "archived"
    query = sa.select(*_COLUMNS, *_ABOUT_VERSION).select_from(_WITH_VERSION)
    query = _order(sort, query.where(*_conditions(filters), status)).limit(limit).offset(offset)
    return [_listed(found) for found in tx.all(Statement(query))]


def count_by_status(tx: Tx, filters: WorkflowFilters) -> dict[str, int]:
    """Counts workflows by status, ignoring `filters.status`."""
    query = sa.select(t.c.status, sa.func.count()).select_from(_WITH_VERSION)
    query = query.where(*_conditions(filters)).group_by(t.c.status)
    return dict(tx.all(Statement(query)))


def types_present(tx: Tx, filters: WorkflowFilters) -> tuple[list[str], list[str]]:
    """The trigger types and connector types used by these workflows."""
    query = sa.select(v.c.trigger_type, v.c.connector_types).select_from(_WITH_VERSION)
    found = tx.all(Statement(query.where(*_conditions(filters), t.c.status != "archived").distinct()))
    connectors = {name for _, text in found for name in text.split()}
    return sorted({trigger for trigger, _ in found if trigger}), sorted(connectors)
