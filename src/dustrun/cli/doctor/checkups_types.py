"""`dustrun doctor`: what a removed package leaves, namely nodes and connectors of types that nothing provides."""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa

from dustrun import catalog
from dustrun.cli.doctor.finding import Finding
from dustrun.core.workflow.specs import api_of
from dustrun.settings import Settings
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Statement
from dustrun.storage.db.tables import connectors, workflow_versions, workflows

_MOST_NAMED = 5
_USED = Statement(
    sa.select(
        workflows.c.name,
        workflows.c.status,
        workflow_versions.c.version == workflows.c.live_version,
        workflow_versions.c.node_types,
    )
    .join(
        workflow_versions,
        sa.and_(
            workflow_versions.c.workflow_id == workflows.c.id,
            workflow_versions.c.version.in_((workflows.c.live_version, workflows.c.draft_version)),
        ),
    )
    .where(workflows.c.status != "archived")
    .order_by(workflows.c.name, workflow_versions.c.version)
)
_STORED = Statement(sa.select(connectors.c.type, connectors.c.name).order_by(connectors.c.name))


def types(settings: Settings, database: Database) -> list[Finding]:
    """Whether a module is there for each type that workflows and connectors use."""
    nodes, stored = catalog.names(settings.actions_dir)
    left: dict[str, list[str]] = {}
    is_live = False
    for name, status, live, used in database.read_now(lambda tx: tx.all(_USED)):
        for kind in sorted(kind for kind in used.split() if api_of(kind) is None and kind not in nodes):
            left.setdefault(kind, []).append(f'"{name}" ({"live" if live else "draft"})')
            is_live |= bool(live) and status == "active"
    for kind, name in database.read_now(lambda tx: tx.all(_STORED)):
        if kind not in stored:
            left.setdefault(kind, []).append(f'connector "{name}"')
    if not left:
        return [Finding("types", "ok", "all types that workflows and connectors use are there")]
    says = "; ".join(f'nothing provides "{kind}", used by {_named(users)}' for kind, users in sorted(left.items()))
    mend = "Install the package again that had them (or put the file back into actions_dir), or change the workflows."
    return [Finding("types", "bad" if is_live else "warning", says, mend)]


def _named(users: Iterable[str]) -> str:
    found = list(dict.fromkeys(users))
    more = f" and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else ""
    return ", ".join(found[:_MOST_NAMED]) + more
