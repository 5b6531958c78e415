"""`/v1/organizations`: the caller's organisation; the server's operator can create others."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from dustrun.core.values.fields import Fields
from dustrun.errors import Code
from dustrun.operations.declaration.answers import Answer, From, PageAnswer, Time
from dustrun.operations.declaration.fields import Name, Paged
from dustrun.operations.declaration.operation import ANY_KEY, Noun
from dustrun.operations.declaration.parts import Call
from dustrun.services.access.organizations import NewOrganization, QuotaUse
from dustrun.services.access.paging import Page, page_of
from dustrun.storage.access.organizations import OrganizationRow

noun = Noun("Organizations")


class CreateOrganization(Fields):
    """A new organisation."""

    name: Name = Field(description="Display name.", examples=["Treasury"])


class UpdateOrganization(Fields):
    """Settings of an organisation; what is absent stays."""

    retention_days: Annotated[int, Field(strict=True, ge=0, le=36_500)] | None = Field(
        None, description="Days to keep ended runs. 0: forever; null: the server's setting.", examples=[90]
    )
    single_person_approves: Annotated[bool, Field(strict=True)] | None = Field(
        None,
        description="Whether whoever administers the organisation may approve what their own runs ask: for an "
        "organisation of one person. It is off by default, and never holds for acceptances.",
    )


class OrganizationAnswer(Answer):
    """An organisation."""

    id: str
    name: str
    created_at: Time
    retention_days: int | None = Field(description="Days to keep ended runs; null: the server's setting.")
    single_person_approves: Annotated[bool, From("single_person")] = Field(
        description="Whether whoever administers it may approve what their own runs ask."
    )


class NewOrganizationAnswer(OrganizationAnswer, of="row"):
    """A new organisation."""

    owner_key_id: str
    owner_key: str = Field(description="The owner's API key, shown only once.")


@noun.get(
    "/v1/organizations",
    permission=ANY_KEY,
    answers=PageAnswer[OrganizationAnswer],
)
async def list_organizations(call: Call, paging: Paged) -> Page[OrganizationRow]:
    """List the key's organisations: exactly one."""
    own = await call.parts.access.organizations.get_own(call.principal)
    return page_of([own][paging.offset :], paging)


class QuotaAnswer(Answer):
    """How much the organisation has of something."""

    name: str = Field(
        description="`connectors`, `hooks`, `tables`, `tableRows`, `tableBytes`, `modelTokens`, `runs` or `runBytes`."
    )
    used: int = Field(description="`runBytes` is measured some seconds after a run has started, waited or ended.")
    limit: int | None = Field(description="Null: there is no limit.")
    setting: str | None = Field(description="The server's setting that limits it.")
    frees: str = Field(description="How it becomes less.")


@noun.get(
    "/v1/organizations/{id}/quotas",
    permission="key:read",
    answers=PageAnswer[QuotaAnswer],
    refusals=[Code.ORGANIZATION_UNKNOWN],
)
async def list_quotas(call: Call, id: str, paging: Paged) -> Page[QuotaUse]:
    """List what the organisation has of what is limited."""
    organizations = call.parts.access.organizations
    await organizations.get(call.principal, id)
    found = await organizations.list_quotas(call.principal)
    return page_of(found[paging.offset : paging.offset + paging.peek], paging)


@noun.get(
    "/v1/organizations/{id}",
    permission=ANY_KEY,
    answers=OrganizationAnswer,
    refusals=[Code.ORGANIZATION_UNKNOWN],
)
async def get_organization(call: Call, id: str) -> OrganizationRow:
    """Get the caller's organisation."""
    return await call.parts.access.organizations.get(call.principal, id)


@noun.patch(
    "/v1/organizations/{id}",
    permission="admin",
    answers=OrganizationAnswer,
    refusals=[Code.ORGANIZATION_UNKNOWN],
    example={"retentionDays": 90},
)
async def update_organization(call: Call, id: str, body: UpdateOrganization) -> OrganizationRow:
    """Set how long the organisation's ended runs are kept, and whether its only person approves their own runs.

    Older runs are permanently deleted with their events: at once, and from then on within the hour. Exceptions: runs
    that moved money, and runs linked to an open or newer run by a call or a retry.
    """
    organizations, given = call.parts.access.organizations, body.model_fields_set
    found = await organizations.get(call.principal, id)
    if body.single_person_approves is not None:
        found = await organizations.let_one_approve(call.principal, body.single_person_approves)
    if "retention_days" in given:
        found = await call.parts.access.retention.set_days(call.principal, body.retention_days)
    return found


@noun.post(
    "/v1/organizations",
    permission="operator",
    answers=NewOrganizationAnswer,
    secret=True,
    example={"name": "Treasury"},
)
async def create_organization(call: Call, body: CreateOrganization) -> NewOrganization:
    """Create an organisation and its owner key, which administers the organisation but not the server.


    The owner key is shown only in this answer.
    """
    return await call.parts.access.organizations.create(call.principal, body.name)
