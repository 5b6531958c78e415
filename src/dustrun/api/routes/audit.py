"""`/v1/audit`: the audit log."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query

from dustrun.api.routing import Call, Routes
from dustrun.api.shapes.wire import Answer, PageAnswer, Paged, Time, page_shape, time
from dustrun.core.values import exact_json
from dustrun.services.access import audit
from dustrun.services.access.paging import Page
from dustrun.storage.access.audit import AuditRow

routes = Routes("API keys")
router = routes.router


class AuditAnswer(Answer):
    """One audited change."""

    id: int
    key_id: str
    at: Time
    action: str
    subject: str
    detail: dict[str, Any]


def _audit(row: AuditRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "keyId": row.key_id,
        "at": time(row.at),
        "action": row.action,
        "subject": row.subject,
        "detail": exact_json.loads(row.detail),
    }


@routes.get("/v1/audit", permission="key:read", answers=PageAnswer[AuditAnswer], shape=page_shape(_audit))
async def list_audit_entries(
    call: Call,
    paging: Paged,
    api_key_id: Annotated[str | None, Query(alias="apiKeyId", description="Only changes made with this key.")] = None,
) -> Page[AuditRow]:
    """List audited changes with the keys that made them, newest first.

    A key that is limited to some workflows or wallets sees only its own changes.
    """
    own = call.principal.key_id if call.principal.is_limited else None
    if own is not None and api_key_id not in (None, own):
        return Page([], paging.limit, paging.offset, False)
    return await audit.list_page(call.parts.database, call.principal, key_id=own or api_key_id, paging=paging)
