"""Events for hooks that are not in a run's stream: a paused workflow, a reorganised transaction of an ended run."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy import bindparam as b

from dustrun.core.values.exact_json import dumps_text
from dustrun.storage.db.statement import Statement, Tx
from dustrun.storage.db.tables import hook_notices as t
from dustrun.storage.db.tables import hooks
from dustrun.storage.db.trigger_tables import subscriptions

_COLUMNS = ("org_id", "type", "workflow_id", "run_id", "mode", "at", "data")
# an organisation without hooks, and without a trigger for transactions, writes nothing
_ADD = Statement(
    sa.insert(t).from_select(
        list(_COLUMNS),
        sa.select(*(sa.cast(b(name), t.c[name].type).label(name) for name in _COLUMNS)).where(
            sa.or_(
                sa.exists().where(hooks.c.org_id == b("of_org")),
                sa.exists().where(
                    subscriptions.c.org_id == b("of_org"),
                    subscriptions.c.type == "transaction",
                    subscriptions.c.state != "ended",
                ),
            )
        ),
    )
)
_newest = sa.select(sa.func.max(t.c.id)).scalar_subquery()
# ids must never be used again: they are cursors
_PRUNE = Statement(
    sa.delete(t).where(
        t.c.id.in_(sa.select(t.c.id).where(t.c.at < b("before"), t.c.id < _newest).order_by(t.c.id).limit(b("count")))
    )
)


def add(
    tx: Tx,
    *,
    org_id: str,
    type_: str,
    at: int,
    data: dict[str, Any],
    workflow_id: str | None = None,
    run_id: str | None = None,
    mode: str | None = None,
) -> None:
    """Writes an event, in the transaction of what it tells; nothing if the organisation has no hooks
    and no trigger for transactions."""
    values = {"org_id": org_id, "type": type_, "workflow_id": workflow_id, "run_id": run_id, "mode": mode, "at": at}
    tx.do(_ADD, **values, data=dumps_text(data), of_org=org_id)


def prune(tx: Tx, before: int, count: int) -> int:
    """Deletes up to `count` events from before a time; returns how many."""
    return tx.run(_PRUNE, before=before, count=count)
