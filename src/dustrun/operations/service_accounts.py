"""`/v1/service-accounts`: accounts of programs, whose keys are API keys."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from dustrun.core.values.fields import Fields
from dustrun.errors import Code
from dustrun.operations.declaration.answers import STORED, Answer, From, PageAnswer, Time
from dustrun.operations.declaration.fields import Description, Name, Paged
from dustrun.operations.declaration.operation import Noun
from dustrun.operations.declaration.parts import Call
from dustrun.operations.keys import ConnectorId, WalletId, WorkflowId, WorkflowScope
from dustrun.operations.people import Permissions
from dustrun.operations.roles import RoleName
from dustrun.services.access.api_keys import PRESETS
from dustrun.services.access.paging import Page
from dustrun.services.access.service_accounts import Account, Given, Limits

noun = Noun("API keys")

_MOST_IDS = 100
PersonId = Annotated[str, StringConstraints(pattern=r"^per_[a-z0-9]{26}$")]
Scope = Literal["read", "read-write", "mcp"]
Status = Annotated[Literal["active", "disabled"], Field(description="Only those of this state.")]


class CreateServiceAccount(Fields):
    """A new service account: permissions as a list, of a role, or as a preset in `scope`."""

    name: Name = Field(description="A name that no other one has.", examples=["shop"])
    description: Description | None = Field(None, description="What it is for.")
    permissions: Permissions | None = Field(
        None, description="What it may do; never `admin` or `operator`.", examples=[["workflow:execute", "run:read"]]
    )
    scope: Scope | None = Field(None, description="A preset of permissions, as of keys.")
    role: RoleName | None = Field(None, description="A role, as of `GET /v1/roles`.", examples=["builder"])
    owner_id: PersonId | None = Field(
        None, description="The person who answers for it. Default: the person whose key or session makes it."
    )
    workflow_ids: Annotated[list[WorkflowId], Field(min_length=1, max_length=_MOST_IDS)] | None = Field(
        None, description="Limits it to these workflows and their runs. Default: all."
    )
    workflow_scope: WorkflowScope | None = Field(
        None,
        description="Limits it to the workflows in folders (`folder:payroll`) or with tags (`tag:money`), also to "
        "those that come to them later; besides `workflowIds`.",
    )
    wallet_ids: Annotated[list[WalletId], Field(min_length=1, max_length=_MOST_IDS)] | None = Field(
        None, description="Limits it to these wallets. Default: all."
    )
    connector_ids: Annotated[list[ConnectorId], Field(min_length=1, max_length=_MOST_IDS)] | None = Field(
        None, description="Limits it to these connectors. Default: all."
    )

    @model_validator(mode="after")
    def _one_of_them(self) -> CreateServiceAccount:
        if [self.permissions, self.scope, self.role].count(None) != 2:
            raise ValueError("give one of `role`, `permissions` and `scope`")
        return self


class UpdateServiceAccount(Fields):
    """Changes of a service account; what is absent stays."""

    name: Name | None = Field(None, description="A name that no other one has.")
    description: Description | None = Field(None, description="What it is for.")
    permissions: Permissions | None = Field(
        None, description="All of its permissions. Its keys get more at once; if one is gone, they are revoked."
    )
    role: RoleName | None = Field(None, description="Another role; the same as its permissions, with its name.")
    owner_id: PersonId | None = Field(None, description="The person who answers for it.")

    @model_validator(mode="after")
    def _not_both(self) -> UpdateServiceAccount:
        if self.permissions is not None and self.role is not None:
            raise ValueError("give `role` or `permissions`, not both")
        return self


class ServiceAccountAnswer(Answer):
    """A service account."""

    id: Annotated[str, From("row.id")]
    organization_id: Annotated[str, From("row.org_id")]
    name: Annotated[str, From("row.name")]
    description: Annotated[str | None, From("row.description")]
    status: str = Field(description="`active` or `disabled`.")
    role: Annotated[str | None, From("row.role")] = Field(description="Null: permissions of its own.")
    permissions: Annotated[list[str], From("row.permissions"), STORED]
    workflow_ids: Annotated[list[str] | None, From("row.workflow_ids"), STORED]
    workflow_scope: Annotated[list[str] | None, From("row.workflow_scope"), STORED] = Field(description="As of keys.")
    wallet_ids: Annotated[list[str] | None, From("row.wallet_ids"), STORED]
    connector_ids: Annotated[list[str] | None, From("row.connector_ids"), STORED]
    owner_id: Annotated[str | None, From("row.owner_id")] = Field(
        description="The person who answers for it; null: nobody has said."
    )
    key_ids: list[str] = Field(description="Its keys that are good, newest first.")
    last_used_at: Time | None = Field(description="When one of its keys was last used, to about a minute.")
    created_by: Annotated[str, From("row.created_by")] = Field(description="Id of the key.")
    created_at: Annotated[Time, From("row.created_at")]
    updated_at: Annotated[Time, From("row.updated_at")]
    disabled_at: Annotated[Time | None, From("row.disabled_at")]


@noun.get("/v1/service-accounts", permission="key:read", answers=PageAnswer[ServiceAccountAnswer])
async def list_service_accounts(call: Call, paging: Paged, status: Status | None = None) -> Page[Account]:
    """List service accounts, newest first."""
    disabled = None if status is None else status == "disabled"
    return await call.parts.access.service_accounts.list_page(call.principal, paging, disabled=disabled)


@noun.post(
    "/v1/service-accounts",
    permission="admin",
    answers=ServiceAccountAnswer,
    refusals=[Code.BEARER_NEEDED, Code.SERVICE_ACCOUNT_TAKEN],
    example={"name": "shop", "permissions": ["workflow:execute", "run:read"]},
)
async def create_service_account(call: Call, body: CreateServiceAccount) -> Account:
    """Make a service account: an account of a program, with no more rights than the caller.

    Its keys are made with `POST /v1/api-keys` and `serviceAccountId`. It is nobody's hand: it approves nothing, and
    what its runs ask is approved by neither who answers for it nor who made its key.
    """
    return await call.parts.access.service_accounts.create(
        call.principal,
        _given(body, body.permissions or (sorted(PRESETS[body.scope]) if body.scope else None)),
        Limits(body.workflow_ids, body.workflow_scope, body.wallet_ids, body.connector_ids),
    )


@noun.get(
    "/v1/service-accounts/{id}",
    permission="key:read",
    answers=ServiceAccountAnswer,
    refusals=[Code.SERVICE_ACCOUNT_UNKNOWN],
)
async def get_service_account(call: Call, id: str) -> Account:
    """Get one service account."""
    return await call.parts.access.service_accounts.get(call.principal, id)


@noun.patch(
    "/v1/service-accounts/{id}",
    refusals=[Code.SERVICE_ACCOUNT_UNKNOWN, Code.SERVICE_ACCOUNT_TAKEN, Code.BEARER_NEEDED],
    permission="admin",
    answers=ServiceAccountAnswer,
    example={"description": "The shop's back end"},
)
async def update_service_account(call: Call, id: str, body: UpdateServiceAccount) -> Account:
    """Change a service account's name, description, permissions or owner."""
    return await call.parts.access.service_accounts.change(call.principal, id, _given(body, body.permissions))


@noun.delete(
    "/v1/service-accounts/{id}",
    permission="admin",
    answers=ServiceAccountAnswer,
    refusals=[Code.SERVICE_ACCOUNT_UNKNOWN, Code.BEARER_NEEDED],
)
async def delete_service_account(call: Call, id: str) -> Account:
    """Delete a service account for good; its keys are revoked first, at once."""
    return await call.parts.access.service_accounts.delete(call.principal, id)


@noun.post(
    "/v1/service-accounts/{id}/disable",
    permission="admin",
    answers=ServiceAccountAnswer,
    refusals=[Code.SERVICE_ACCOUNT_UNKNOWN, Code.BEARER_NEEDED],
)
async def disable_service_account(call: Call, id: str) -> Account:
    """Disable a service account: its keys are revoked at once, and it gets no others."""
    return await call.parts.access.service_accounts.disable(call.principal, id)


@noun.post(
    "/v1/service-accounts/{id}/enable",
    permission="admin",
    answers=ServiceAccountAnswer,
    refusals=[Code.SERVICE_ACCOUNT_UNKNOWN, Code.BEARER_NEEDED],
)
async def enable_service_account(call: Call, id: str) -> Account:
    """Enable a service account: it can have keys again. Those that it had stay revoked."""
    return await call.parts.access.service_accounts.enable(call.principal, id)


def _given(body: CreateServiceAccount | UpdateServiceAccount, permissions: list[str] | None) -> Given:
    return Given(
        name=body.name,
        description=body.description,
        permissions=permissions,
        role=body.role,
        owner_id=body.owner_id,
    )
