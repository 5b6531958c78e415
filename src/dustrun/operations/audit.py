"""`/v1/audit`: the audit log."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from dustrun.operations.declaration.answers import STORED, Answer, PageAnswer, Time
from dustrun.operations.declaration.fields import Instant, Paged, moment_ms
from dustrun.operations.declaration.operation import Group, Noun
from dustrun.operations.declaration.parts import Call
from dustrun.services.access import audit
from dustrun.services.access.audit import ExportedAudit
from dustrun.services.access.paging import Page, page_of
from dustrun.storage.access.audit import MOST_EXPORTED, AuditFilters, AuditKeyRow, AuditRow

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


class AuditQuery(Group):
    """Which changes are listed."""

    api_key_id: str | None = Field(None, alias="apiKeyId", description="Only changes made with this key.")
    made_by: str | None = Field(
        None,
        alias="madeBy",
        max_length=64,
        description="Only changes of this person, service account or key, by id, with whichever key; `me`: the caller.",
    )
    action: str | None = Field(
        None,
        max_length=64,
        pattern=r"^[a-z-]+(\.[a-z-]+)?$",
        description="Only this action, such as `key.revoke`; without a dot, all of that noun: `key`.",
    )
    subject: str | None = Field(None, max_length=256, description="Only changes of what has this id.")
    since: Instant | None = Field(None, description="Changed at or after this instant.")
    until: Instant | None = Field(None, description="Changed before this instant.")


@noun.get("/v1/audit", permission="key:read", answers=PageAnswer[AuditAnswer])
async def list_audit_entries(call: Call, query: AuditQuery, paging: Paged) -> Page[AuditRow]:
    """List audited changes with the keys and people that made them, newest first.

    A key that is limited to some workflows or wallets sees only its own changes.
    """
    filters = AuditFilters(
        keys=None if query.api_key_id is None else (query.api_key_id,),
        action=query.action,
        subject=query.subject,
        since=moment_ms(query.since) if query.since is not None else None,
        until=moment_ms(query.until) if query.until is not None else None,
    )
    return await audit.list_page(call.parts.database, call.principal, filters, paging, made_by=query.made_by)


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
