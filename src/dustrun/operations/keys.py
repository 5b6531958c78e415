"""`/v1/api-keys`: API keys, and the requests made with them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from dustrun import clock
from dustrun.core.values.fields import Fields
from dustrun.core.workflow.placement import SCOPE_PATTERN
from dustrun.errors import Code, Invalid, Problem
from dustrun.operations.declaration.answers import STORED, Answer, From, PageAnswer, Time
from dustrun.operations.declaration.fields import Description, Instant, Name, Paged, moment_ms
from dustrun.operations.declaration.operation import Named, Noun
from dustrun.operations.declaration.parts import Call
from dustrun.services.access.api_keys import PRESETS, NewKey
from dustrun.services.access.paging import Page
from dustrun.services.access.service_accounts import Rotated
from dustrun.storage.access.key_requests import RequestRow
from dustrun.storage.access.keys import KeyRow

noun = Noun("API keys")

_MOST_IDS = 100
WorkflowId = Annotated[str, StringConstraints(pattern=r"^wf_[a-z0-9]{26}$")]
ServiceAccountId = Annotated[str, StringConstraints(pattern=r"^svc_[a-z0-9]{26}$")]
WalletId = Annotated[str, StringConstraints(pattern=r"^wal_[a-z0-9]{26}$")]
ConnectorId = Annotated[str, StringConstraints(pattern=r"^conn_[a-z0-9]{26}$")]


WorkflowScope = Annotated[
    list[Annotated[str, StringConstraints(pattern=SCOPE_PATTERN)]], Field(min_length=1, max_length=_MOST_IDS)
]


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
    service_account_id: ServiceAccountId | None = Field(
        None,
        description="Makes a key of this service account, which has the account's permissions and limits, and expires "
        "after 90 days unless another time within a year is given.",
    )
    workflow_ids: Annotated[list[WorkflowId], Field(min_length=1, max_length=_MOST_IDS)] | None = Field(
        None, description="Limits the key to these workflows and their runs. Default: all."
    )
    workflow_scope: WorkflowScope | None = Field(
        None,
        description="Limits the key to the workflows in folders (`folder:payroll`) or with tags (`tag:money`), also "
        "to those that come to them later; besides `workflowIds`.",
        examples=[["folder:payroll", "tag:money"]],
    )
    wallet_ids: Annotated[list[WalletId], Field(min_length=1, max_length=_MOST_IDS)] | None = Field(
        None, description="Limits the key to these wallets. Default: all."
    )
    connector_ids: Annotated[list[ConnectorId], Field(min_length=1, max_length=_MOST_IDS)] | None = Field(
        None, description="Limits the key to these connectors. Default: all."
    )

    @model_validator(mode="after")
    def _one_of_both(self) -> CreateKey:
        if self.service_account_id is not None:
            rights = (self.permissions, self.scope, self.workflow_ids, self.workflow_scope)
            if any((*rights, self.wallet_ids, self.connector_ids)):
                raise ValueError("give `serviceAccountId` alone: its key has the account's permissions and limits")
        elif (self.permissions is None) == (self.scope is None):
            raise ValueError("give either `permissions` or `scope`")
        return self


class KeyAnswer(Answer):
    """A key, without the key itself."""

    id: str
    organization_id: Annotated[str, From("org_id")]
    name: str
    description: str | None
    permissions: Annotated[list[str], STORED]
    workflow_ids: Annotated[list[str] | None, STORED] = Field(
        description="With a scope, the workflows that it has now."
    )
    workflow_scope: Annotated[list[str] | None, STORED] = Field(
        description="Folders, tags and ids that `workflowIds` is made of; null: they are given as they are."
    )
    wallet_ids: Annotated[list[str] | None, STORED]
    connector_ids: Annotated[list[str] | None, STORED]
    created_at: Time
    expires_at: Time | None
    revoked_at: Time | None
    last_used_at: Time | None = Field(description="Accurate to about a minute.")
    created_by: str | None = Field(description="Id of the key that created it; null: the server's operator.")
    person_id: str | None = Field(description="The person whose key it is; null: nobody's, or nobody has said.")
    service_account_id: str | None = Field(description="The service account whose key it is; null: none's.")


class NewKeyAnswer(KeyAnswer, of="row"):
    """A new key."""

    key: Annotated[str, From("secret")] = Field(description="The key itself, shown only once.")


class RotateKey(Fields):
    """How a key is replaced."""

    grace_s: Annotated[int, Field(ge=0, le=30 * 86_400)] = Field(
        86_400, description="Seconds for which the old key stays good; default: a day."
    )
    expires_at: Instant | None = Field(
        None, description="When the new key expires; default: after as long a life as the old one had."
    )


class RotatedKeyAnswer(NewKeyAnswer):
    """A key that replaces another one."""

    replaces: Annotated[str, From("replaced.id")] = Field(description="Id of the old key.")
    replaced_expires_at: Annotated[Time | None, From("replaced.expires_at")] = Field(
        description="Until when the old key is good."
    )


class RequestAnswer(Answer):
    """One request made with a key."""

    id: Annotated[int, From(lambda one: one[0])]
    key_id: Annotated[str, From(lambda one: one[1].key_id)]
    api_key_id: Annotated[str, From(lambda one: one[1].key_id)] = Field(description="The same as `keyId`.")
    at: Annotated[Time, From(lambda one: one[1].at)]
    created_at: Annotated[Time, From(lambda one: one[1].at)] = Field(description="The same as `at`.")
    method: Annotated[str, From(lambda one: one[1].method)]
    route: Annotated[str, From(lambda one: one[1].route)] = Field(
        description="Template of its path, like `/v1/runs/{id}`; empty if no route matched."
    )
    route_pattern: Annotated[str, From(lambda one: one[1].route)] = Field(description="The same as `route`.")
    status: Annotated[int, From(lambda one: one[1].status)] = Field(
        description="HTTP status of the answer; 0 if the caller disconnected first."
    )
    status_code: Annotated[int, From(lambda one: one[1].status)] = Field(description="The same as `status`.")
    request_id: Annotated[str, From(lambda one: one[1].request_id)]
    service_account_id: Annotated[str | None, From(lambda one: one[1].service_account_id)] = Field(
        description="The service account whose key it is; null: none's."
    )


def _end_of(expires_at: Instant | None) -> int | None:
    if expires_at is None:
        return None
    ends = moment_ms(expires_at)
    if ends <= clock.now_ms():
        raise Invalid("The request body is not valid.", details=[Problem("expiresAt", "must be in the future")])
    return ends


@noun.post(
    "/v1/api-keys",
    permission="key:write",
    answers=NewKeyAnswer,
    secret=True,
    refusals=[Code.BEARER_NEEDED, Code.SERVICE_ACCOUNT_UNKNOWN, Code.SERVICE_ACCOUNT_DISABLED],
    example={
        "name": "shop",
        "permissions": ["workflow:execute", "run:read", "run:stream"],
        "workflowIds": ["wf_01m8brt9hae4de3w6f0w3c1rmr"],
        "expiresAt": "2027-01-01T00:00:00Z",
    },
)
async def create_key(call: Call, body: CreateKey) -> NewKey:
    """Create an API key.

    The key is shown only in this answer. It belongs to the person whose key or session makes it, or to the service
    account that it is made for.

    A key cannot create one with more permissions, a longer life or wider access;
    the new key inherits limits to workflows, wallets and connectors.
    """
    if body.service_account_id is not None:
        return await call.parts.access.service_accounts.make_key(
            call.principal,
            body.service_account_id,
            name=body.name,
            description=body.description,
            expires_at=_end_of(body.expires_at),
        )
    permissions = body.permissions or sorted(PRESETS[body.scope or "read"])
    return await call.parts.access.keys.create(
        call.principal,
        name=body.name,
        permissions=permissions,
        description=body.description,
        expires_at=_end_of(body.expires_at),
        workflow_ids=body.workflow_ids,
        workflow_scope=body.workflow_scope,
        wallet_ids=body.wallet_ids,
        connector_ids=body.connector_ids,
    )


@noun.post(
    "/v1/api-keys/{id}/rotate",
    permission="key:write",
    answers=RotatedKeyAnswer,
    secret=True,
    refusals=[
        Code.KEY_UNKNOWN,
        Code.KEY_NOT_ROTATED,
        Code.BEARER_NEEDED,
        Code.SERVICE_ACCOUNT_UNKNOWN,
        Code.SERVICE_ACCOUNT_DISABLED,
    ],
    example={"graceS": 3600},
)
async def rotate_key(call: Call, id: str, body: RotateKey) -> Rotated:
    """Replace a key of a service account by a new one, which is shown only in this answer.

    The old key stays good for the grace, so that programs can change without a gap; its streams end now, and are opened
    again with either key.
    """
    return await call.parts.access.service_accounts.rotate(
        call.principal, id, grace_ms=body.grace_s * 1000, expires_at=_end_of(body.expires_at)
    )


@noun.get("/v1/api-keys", permission="key:read", answers=PageAnswer[KeyAnswer])
async def list_keys(call: Call, paging: Paged) -> Page[KeyRow]:
    """List API keys, newest first.

    A key that is limited to some workflows or wallets sees those that are no wider than itself.
    """
    return await call.parts.access.keys.list_page(call.principal, paging)


@noun.get("/v1/api-keys/requests", permission="key:read", answers=PageAnswer[RequestAnswer])
async def list_key_requests(
    call: Call,
    paging: Paged,
    api_key_id: Annotated[str | None, Named("apiKeyId"), Field(description="Only requests made with this key.")] = None,
    service_account_id: Annotated[
        str | None, Named("serviceAccountId"), Field(description="Only requests made with keys of this account.")
    ] = None,
) -> Page[tuple[int, RequestRow]]:
    """List requests made with keys, newest first.

    A request is listed about a second after it was answered. The settings `request_audit_rows` and `request_audit_days`
    limit how many are kept.
    """
    return await call.parts.access.usage.list_page(
        call.principal, key_id=api_key_id, account_id=service_account_id, paging=paging
    )


@noun.get("/v1/api-keys/{id}", permission="key:read", answers=KeyAnswer, refusals=[Code.KEY_UNKNOWN])
async def get_key(call: Call, id: str) -> KeyRow:
    """Get one API key."""
    return await call.parts.access.keys.get(call.principal, id)


@noun.delete(
    "/v1/api-keys/{id}",
    permission="key:write",
    reads="key:read",
    answers=KeyAnswer,
    refusals=[Code.KEY_UNKNOWN, Code.KEY_LAST_ADMIN],
)
async def revoke_key(
    call: Call,
    id: str,
    keep_made: Annotated[
        bool, Named("keepMade"), Field(description="Leave the keys that it made; for an unlimited administrator.")
    ] = False,
) -> KeyRow:
    """Revoke an API key and every key that it made, directly or through others; it takes effect at once.

    The organisation's last unlimited administrator key without an expiry cannot be revoked.
    """
    return await call.parts.access.keys.revoke(call.principal, id, keep_made=keep_made)
