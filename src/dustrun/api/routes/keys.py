"""`/v1/api-keys`: making, listing and revoking keys, and what was changed with them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Query
from pydantic import Field, model_validator

from dustrun import clock
from dustrun.api.routing import Call, Routes
from dustrun.api.shapes.wire import Description, Instant, Name, PageAnswer, Paged, Time, moment_ms, page_shape, time
from dustrun.core import exact_json
from dustrun.core.fields import Fields
from dustrun.errors import Code, Invalid, Problem
from dustrun.services import audit
from dustrun.services.keys import PRESETS, NewKey, permissions_of
from dustrun.services.paging import Page
from dustrun.storage.audit import AuditRow
from dustrun.storage.keys import KeyRow

routes = Routes("API keys")
router = routes.router


class CreateKey(Fields):
    """What a new key is called and may do: a list of permissions, or a preset as `scope`."""

    name: Name = Field(description="Label.", examples=["ci"])
    description: Description | None = Field(None, description="Free text.")
    permissions: Annotated[list[str], Field(min_length=1, max_length=100)] | None = Field(
        None, description="What the key may do.", examples=[["workflow:read", "workflow:execute"]]
    )
    scope: Literal["read", "read-write"] | None = Field(None, description="A preset; never holds `wallet:spend`.")
    expires_at: Instant | None = Field(None, description="When the key ends; never after the key that makes it.")

    @model_validator(mode="after")
    def _one_of_both(self) -> CreateKey:
        if (self.permissions is None) == (self.scope is None):
            raise ValueError("give either `permissions` or `scope`")
        return self


class KeyAnswer(Fields):
    """A key, without the key itself."""

    id: str
    organization_id: str
    name: str
    description: str | None
    permissions: list[str]
    created_at: Time
    expires_at: Time | None
    revoked_at: Time | None


class NewKeyAnswer(KeyAnswer):
    """A key just made."""

    key: str = Field(description="The key itself, shown this once.")


class AuditAnswer(Fields):
    """One change."""

    id: int
    key_id: str
    at: Time
    action: str
    subject: str
    detail: dict[str, Any]


def _key(row: KeyRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "organizationId": row.org_id,
        "name": row.name,
        "description": row.description,
        "permissions": permissions_of(row),
        "createdAt": time(row.created_at),
        "expiresAt": time(row.expires_at),
        "revokedAt": time(row.revoked_at),
    }


def _new_key(new: NewKey) -> dict[str, Any]:
    return {**_key(new.row), "key": new.secret}


def _audit(row: AuditRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "keyId": row.key_id,
        "at": time(row.at),
        "action": row.action,
        "subject": row.subject,
        "detail": exact_json.loads(row.detail),
    }


def _end_of(body: CreateKey) -> int | None:
    if body.expires_at is None:
        return None
    ends = moment_ms(body.expires_at)
    if ends <= clock.now_ms():
        raise Invalid("The request body is not valid.", details=[Problem("expiresAt", "must be in the future")])
    return ends


@routes.post("/v1/api-keys", permission="key:write", answers=NewKeyAnswer, shape=_new_key, secret=True)
async def create_key(call: Call, body: CreateKey) -> NewKey:
    """Make an API key.

    The answer is the only place where the key ever appears. No key can make a stronger or a longer-lived one.
    """
    permissions = body.permissions or sorted(PRESETS[body.scope or "read"])
    return await call.parts.keys.create(
        call.principal,
        name=body.name,
        permissions=permissions,
        description=body.description,
        expires_at=_end_of(body),
    )


@routes.get("/v1/api-keys", permission="key:read", answers=PageAnswer[KeyAnswer], shape=page_shape(_key))
async def list_keys(call: Call, paging: Paged) -> Page[KeyRow]:
    """List API keys, newest first."""
    return await call.parts.keys.list_page(call.principal, paging)


@routes.get("/v1/api-keys/requests", permission="key:read", answers=PageAnswer[AuditAnswer], shape=page_shape(_audit))
async def list_changes(
    call: Call,
    paging: Paged,
    api_key_id: Annotated[str | None, Query(alias="apiKeyId", description="Only those made with this key.")] = None,
) -> Page[AuditRow]:
    """List what was changed and with which key, newest first."""
    return await audit.list_page(call.parts.database, call.principal, key_id=api_key_id, paging=paging)


@routes.get("/v1/api-keys/{id}", permission="key:read", answers=KeyAnswer, shape=_key, refusals=[Code.KEY_UNKNOWN])
async def get_key(call: Call, id: str) -> KeyRow:
    """Get one API key."""
    return await call.parts.keys.get(call.principal, id)


@routes.delete("/v1/api-keys/{id}", permission="key:write", answers=KeyAnswer, shape=_key, refusals=[Code.KEY_UNKNOWN])
async def revoke_key(call: Call, id: str) -> KeyRow:
    """Revoke an API key; it takes effect at once."""
    return await call.parts.keys.revoke(call.principal, id)
