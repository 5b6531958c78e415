"""The audit log: every change writes one row in its own transaction."""

from __future__ import annotations

from typing import Any

from dustrun import clock
from dustrun.core.values import exact_json
from dustrun.services.access.paging import Page, Paging, page_of
from dustrun.services.access.principal import Principal
from dustrun.storage.access import audit as rows
from dustrun.storage.access.audit import AuditRow
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx


def record(tx: Tx, principal: Principal, action: str, subject: str, **detail: Any) -> None:
    """Records one change; `action` is noun and verb like `workflow.publish`, `detail` must not contain a secret."""
    rows.insert(
        tx,
        org_id=principal.org_id,
        key_id=principal.key_id,
        at_ms=clock.now_ms(),
        action=action,
        subject=subject,
        detail=exact_json.dumps_text(detail),
    )


async def list_page(database: Database, principal: Principal, *, key_id: str | None, paging: Paging) -> Page[AuditRow]:
    """Lists the organisation's changes, newest first, optionally only those made with one key."""
    found = await database.read(
        lambda tx: rows.list_page(tx, principal.org_id, key_id=key_id, limit=paging.peek, offset=paging.offset)
    )
    return page_of(found, paging)
