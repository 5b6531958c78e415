"""`/v1/audit`: the audit log."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from dustrun.operations.declaration.answers import STORED, Answer, PageAnswer, Time
from dustrun.operations.declaration.fields import Paged
from dustrun.operations.declaration.operation import Named, Noun
from dustrun.operations.declaration.parts import Call
from dustrun.services.access import audit
from dustrun.services.access.audit import ExportedAudit
from dustrun.services.access.paging import Page, page_of
from dustrun.storage.access.audit import MOST_EXPORTED, AuditKeyRow, AuditRow

noun = Noun("API keys")


class AuditAnswer(Answer):
    """One audited change."""

    id: int
    key_id: str
    person_id: str | None = Field(description="The person whose key it is; null: the key is nobody's.")
    service_account_id: str | None = Field(description="The service account whose key it is; null: none's.")
    at: Time
    action: str
    subject: str
    detail: Annotated[dict[str, Any], STORED]


@noun.get("/v1/audit", permission="key:read", answers=PageAnswer[AuditAnswer])
async def list_audit_entries(
    call: Call,
    paging: Paged,
    api_key_id: Annotated[str | None, Named("apiKeyId"), Field(description="Only changes made with this key.")] = None,
) -> Page[AuditRow]:
    """List audited changes with the keys and people that made them, newest first.

    A key that is limited to some workflows or wallets sees only its own changes.
    """
    own = call.principal.key_id if call.principal.is_limited else None
    if own is not None and api_key_id not in (None, own):
        return Page([], paging.limit, paging.offset, False)
    return await audit.list_page(call.parts.database, call.principal, key_id=own or api_key_id, paging=paging)


class AuditKeyAnswer(Answer):
    """A key that signs exports of the audit log."""

    id: str
    public_key: str = Field(description="Ed25519, the 32 bytes in Base64.")
    created_at: Time


class AuditExportAnswer(Answer):
    """One part of an export."""

    content: str = Field(description="JSON lines: `start`, entries, `end`. Write the parts one after the other.")
    entries: int
    next: int | None = Field(description="`after` of the next part; null: there is nothing more for now.")


@noun.get("/v1/audit/keys", permission="key:read", answers=PageAnswer[AuditKeyAnswer])
async def list_audit_keys(call: Call, paging: Paged) -> Page[AuditKeyRow]:
    """List the keys that sign exports, newest first; the first signs now. Compare them with the file's."""
    found = await call.parts.access.audit_export.list_keys(call.principal)
    return page_of(found[paging.offset : paging.offset + paging.peek], paging)


@noun.get("/v1/audit/export", permission="key:read", answers=AuditExportAnswer)
async def export_audit_log(
    call: Call,
    after: Annotated[int, Field(ge=0, le=2**53, description="Entries after this id; 0: from the beginning.")] = 0,
    limit: Annotated[int, Field(ge=1, le=MOST_EXPORTED, description="Most entries to look at.")] = MOST_EXPORTED,
) -> ExportedAudit:
    """Export the organisation's audit log as signed lines, oldest first.

    Each line has the hash of the one before. `dustrun audit verify` checks a file of them without a server.
    """
    return await call.parts.access.audit_export.export(call.principal, after, limit)
