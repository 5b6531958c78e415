"""`/v1/organizations`: the caller's organisation; the server's operator can create others."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from dustrun.api.auth import ANY_KEY
from dustrun.api.routing import Call, Routes
from dustrun.api.shapes.wire import Answer, Name, PageAnswer, Paged, Time, page_shape, time
from dustrun.core.values.fields import Fields
from dustrun.errors import Code
from dustrun.services.access.organizations import NewOrganization
from dustrun.services.access.paging import Page, page_of
from dustrun.storage.access.organizations import OrganizationRow

routes = Routes("Organizations")
router = routes.router


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
    single_person_approves: bool = Field(
        description="Whether whoever administers it may approve what their own runs ask."
    )


class NewOrganizationAnswer(OrganizationAnswer):
    """A new organisation."""

    owner_key_id: str
    owner_key: str = Field(description="The owner's API key, shown only once.")


def _organization(row: OrganizationRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "name": row.name,
        "createdAt": time(row.created_at),
        "retentionDays": row.retention_days,
        "singlePersonApproves": bool(row.single_person),
    }


def _new_organization(new: NewOrganization) -> dict[str, Any]:
    return {**_organization(new.row), "ownerKeyId": new.owner_key_id, "ownerKey": new.owner_key}


@routes.get(
    "/v1/organizations",
    permission=ANY_KEY,
    answers=PageAnswer[OrganizationAnswer],
    shape=page_shape(_organization),
)
async def list_organizations(call: Call, paging: Paged) -> Page[OrganizationRow]:
    """List the key's organisations: exactly one."""
    own = await call.parts.access.organizations.get_own(call.principal)
    return page_of([own][paging.offset :], paging)


@routes.get(
    "/v1/organizations/{id}",
    permission=ANY_KEY,
    answers=OrganizationAnswer,
    shape=_organization,
    refusals=[Code.ORGANIZATION_UNKNOWN],
)
async def get_organization(call: Call, id: str) -> OrganizationRow:
    """Get the caller's organisation."""
    return await call.parts.access.organizations.get(call.principal, id)


@routes.patch(
    "/v1/organizations/{id}",
    permission="admin",
    answers=OrganizationAnswer,
    shape=_organization,
    refusals=[Code.ORGANIZATION_UNKNOWN],
)
async def update_organization(call: Call, id: str, body: UpdateOrganization) -> OrganizationRow:
    """Set how long the organisation's ended runs are kept, and whether its only person approves their own runs.

    Older runs are permanently deleted with their events within the hour. Exceptions: runs that moved money, and runs
    linked to an open or newer run by a call or a retry.
    """
    organizations, given = call.parts.access.organizations, body.model_fields_set
    found = await organizations.get(call.principal, id)
    if body.single_person_approves is not None:
        found = await organizations.let_one_approve(call.principal, body.single_person_approves)
    if "retention_days" in given:
        found = await call.parts.access.retention.set_days(call.principal, body.retention_days)
    return found


@routes.post(
    "/v1/organizations",
    permission="operator",
    answers=NewOrganizationAnswer,
    shape=_new_organization,
    secret=True,
)
async def create_organization(call: Call, body: CreateOrganization) -> NewOrganization:
    """Create an organisation and its owner key, which administers the organisation but not the server.


    The owner key is shown only in this answer.
    """
    return await call.parts.access.organizations.create(call.principal, body.name)
