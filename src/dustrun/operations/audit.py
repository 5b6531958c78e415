"""`/v1/audit`: the audit log."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from dustrun.operations.declaration.answers import STORED, Answer, PageAnswer, Time
from dustrun.operations.declaration.fields import Paged
from dustrun.operations.declaration.operation import Named, Noun
from dustrun.operations.declaration.parts import Call
from dustrun.services.access import audit
from dustrun.services.access.paging import Page
from dustrun.storage.access.audit import AuditRow

noun = Noun("API keys")


class AuditAnswer(Answer):
    """One audited change."""

    id: int
    key_id: str
    person_id: str | None = Field(description="The person whose key it is; null: the key is nobody's.")
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
