"""`/v1/api-keys`: API keys, and the requests made with them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Query
from pydantic import Field, StringConstraints, model_validator

from dustrun import clock
from dustrun.api.routing import Call, Routes
from dustrun.api.shapes.wire import (
    Answer,
    Description,
    Instant,
    Name,
    PageAnswer,
    Paged,
    Time,
    moment_ms,
    page_shape,
    time,
)
from dustrun.core.values.fields import Fields
from dustrun.errors import Code, Invalid, Problem
from dustrun.services.access.api_keys import PRESETS, NewKey, ids_of, permissions_of
from dustrun.services.access.paging import Page
from dustrun.storage.access.key_requests import RequestRow
from dustrun.storage.access.keys import KeyRow

routes = Routes("API keys")
router = routes.router

_MOST_IDS = 100
WorkflowId = Annotated[str, StringConstraints(pattern=r"^wf_[a-z0-9]{26}$")]
WalletId = Annotated[str, StringConstraints(pattern=r"^wal_[a-z0-9]{26}$")]


class CreateKey(Fields):
    """A new key: its name, and its permissions as a list or as a preset in `scope`."""

    name: Name = Field(description="Label.", examples=["ci"])
    description: Description | None = Field(None, description="Free text.")
    permissions: Annotated[list[str], Field(min_length=1, max_length=100)] | None = Field(
        None, description="Permissions of the key.", examples=[["workflow:read", "workflow:execute"]]
    )
    scope: Literal["read", "read-write", "mcp"] | None = Field(
        None,
        description="A preset of permissions; no preset includes `wallet:spend`. `mcp`: to draft and simulate.",
    )
    expires_at: Instant | None = Field(None, description="When the key expires; no later than the key that creates it.")

    workflow_ids: Annotated[list[WorkflowId], Field(min_length=1, max_length=_MOST_IDS)] | None = Field(
        None, description="Limits the key to these workflows and their runs. Default: all."
    )
    wallet_ids: Annotated[list[WalletId], Field(min_length=1, max_length=_MOST_IDS)] | None = Field(
        None, description="Limits the key to these wallets. Default: all."
    )

    @model_validator(mode="after")
    def _one_of_both(self) -> CreateKey:
        if (self.permissions is None) == (self.scope is None):
            raise ValueError("give either `permissions` or `scope`")
        return self


class KeyAnswer(Answer):
    """A key, without the key itself."""

    id: str
    organization_id: str
    name: str
    description: str | None
    permissions: list[str]
    workflow_ids: list[str] | None
    wallet_ids: list[str] | None
    created_at: Time
    expires_at: Time | None
    revoked_at: Time | None
    last_used_at: Time | None = Field(description="Accurate to about a minute.")
    created_by: str | None = Field(description="Id of the key that created it; null: the server's operator.")


class NewKeyAnswer(KeyAnswer):
    """A new key."""

    key: str = Field(description="The key itself, shown only once.")


class RequestAnswer(Answer):
    """One request made with a key."""

    id: int
    key_id: str
    api_key_id: str = Field(description="The same as `keyId`.")
    at: Time
    created_at: Time = Field(description="The same as `at`.")
    method: str
    route: str = Field(description="Template of its path, like `/v1/runs/{id}`; empty if no route matched.")
    route_pattern: str = Field(description="The same as `route`.")
    status: int = Field(description="HTTP status of the answer; 0 if the caller disconnected first.")
    status_code: int = Field(description="The same as `status`.")
    request_id: str


def _key(row: KeyRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "organizationId": row.org_id,
        "name": row.name,
        "description": row.description,
        "permissions": permissions_of(row),
        "workflowIds": ids_of(row.workflow_ids),
        "walletIds": ids_of(row.wallet_ids),
        "createdAt": time(row.created_at),
        "expiresAt": time(row.expires_at),
        "revokedAt": time(row.revoked_at),
        "lastUsedAt": time(row.last_used_at),
        "createdBy": row.created_by,
    }


def _new_key(new: NewKey) -> dict[str, Any]:
    return {**_key(new.row), "key": new.secret}


def _request(found: tuple[int, RequestRow]) -> dict[str, Any]:
    number, row = found
    return {
        "id": number,
        "keyId": row.key_id,
        "apiKeyId": row.key_id,
        "at": time(row.at),
        "createdAt": time(row.at),
        "method": row.method,
        "route": row.route,
        "routePattern": row.route,
        "status": row.status,
        "statusCode": row.status,
        "requestId": row.request_id,
    }


def _end_of(body: CreateKey) -> int | None:
    if body.expires_at is None:
        return None
    ends = moment_ms(body.expires_at)
    if ends <= clock.now_ms():
        raise Invalid("The request body is not valid.", details=[Problem("expiresAt", "must be in the future")])
    return ends


@routes.post(
    "/v1/api-keys",
    permission="key:write",
    answers=NewKeyAnswer,
    shape=_new_key,
    secret=True,
    refusals=[Code.BEARER_NEEDED],
)
async def create_key(call: Call, body: CreateKey) -> NewKey:
    """Create an API key.

    The key is shown only in this answer. A key cannot create one with more permissions, a longer life or wider access;
    the new key inherits limits to workflows and wallets.
    """
    permissions = body.permissions or sorted(PRESETS[body.scope or "read"])
    return await call.parts.access.keys.create(
        call.principal,
        name=body.name,
        permissions=permissions,
        description=body.description,
        expires_at=_end_of(body),
        workflow_ids=body.workflow_ids,
        wallet_ids=body.wallet_ids,
    )


@routes.get("/v1/api-keys", permission="key:read", answers=PageAnswer[KeyAnswer], shape=page_shape(_key))
async def list_keys(call: Call, paging: Paged) -> Page[KeyRow]:
    """List API keys, newest first.

    A key that is limited to some workflows or wallets sees those that are no wider than itself.
    """
    return await call.parts.access.keys.list_page(call.principal, paging)


@routes.get(
    "/v1/api-keys/requests", permission="key:read", answers=PageAnswer[RequestAnswer], shape=page_shape(_request)
)
async def list_key_requests(
    call: Call,
    paging: Paged,
    api_key_id: Annotated[str | None, Query(alias="apiKeyId", description="Only requests made with this key.")] = None,
) -> Page[tuple[int, RequestRow]]:
    """List requests made with keys, newest first.

    A request is listed about a second after it was answered. The settings `request_audit_rows` and `request_audit_days`
    limit how many are kept.
    """
    return await call.parts.access.usage.list_page(call.principal, key_id=api_key_id, paging=paging)


@routes.get("/v1/api-keys/{id}", permission="key:read", answers=KeyAnswer, shape=_key, refusals=[Code.KEY_UNKNOWN])
async def get_key(call: Call, id: str) -> KeyRow:
    """Get one API key."""
    return await call.parts.access.keys.get(call.principal, id)


@routes.delete(
    "/v1/api-keys/{id}",
    permission="key:write",
    reads="key:read",
    answers=KeyAnswer,
    shape=_key,
    refusals=[Code.KEY_UNKNOWN, Code.KEY_LAST_ADMIN],
)
async def revoke_key(
    call: Call,
    id: str,
    keep_made: Annotated[
        bool, Query(alias="keepMade", description="Leave the keys that it made; for an unlimited administrator.")
    ] = False,
) -> KeyRow:
    """Revoke an API key and every key that it made, directly or through others; it takes effect at once.

    The organisation's last unlimited administrator key without an expiry cannot be revoked.
    """
    return await call.parts.access.keys.revoke(call.principal, id, keep_made=keep_made)
