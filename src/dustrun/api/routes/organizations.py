"""`/v1/organizations`: the caller's own, and new ones made by an administrator."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from dustrun.api.auth import ANY_KEY
from dustrun.api.routing import Call, Routes
from dustrun.api.shapes.wire import Name, PageAnswer, Paged, Time, page_shape, time
from dustrun.core.values.fields import Fields
from dustrun.errors import Code
from dustrun.services.access.organizations import NewOrganization
from dustrun.services.access.paging import Page, page_of
from dustrun.storage.access.organizations import OrganizationRow

routes = Routes("Organizations")
router = routes.router


class CreateOrganization(Fields):
    """What a new organisation is called."""

    name: Name = Field(description="Display name.", examples=["Treasury"])


class UpdateOrganization(Fields):
    """What an organisation changes of itself."""

    retention_days: Annotated[int, Field(strict=True, ge=0, le=36_500)] | None = Field(
        description="Days that ended runs are kept; 0: for ever; null: as the server's setting says.", examples=[90]
    )


class OrganizationAnswer(Fields):
    """An organisation."""

    id: str
    name: str
    created_at: Time
    retention_days: int | None = Field(description="Days that ended runs are kept; null: as the setting says.")


class NewOrganizationAnswer(OrganizationAnswer):
    """An organisation just made."""

    owner_key_id: str
    owner_key: str = Field(description="The owner's API key, shown this once.")


def _organization(row: OrganizationRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "name": row.name,
        "createdAt": time(row.created_at),
        "retentionDays": row.retention_days,
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
    """List the organisations of the key: its own one."""
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
    """Say how long the organisation's ended runs are kept.

    Older ones are deleted with their events within the hour, for good: except those that moved money, that are called
    by or retried in a run that is open or younger, or that called one.
    """
    await call.parts.access.organizations.get(call.principal, id)
    return await call.parts.access.retention.set_days(call.principal, body.retention_days)


@routes.post(
    "/v1/organizations",
    permission="admin",
    answers=NewOrganizationAnswer,
    shape=_new_organization,
    secret=True,
)
async def create_organization(call: Call, body: CreateOrganization) -> NewOrganization:
    """Make an organisation and its owner key.

    The answer is the only place where the owner key ever appears.
    """
    return await call.parts.access.organizations.create(call.principal, body.name)
