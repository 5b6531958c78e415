"""`/v1/roles`: named sets of permissions that are given to people."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from dustrun.core.values.fields import Fields
from dustrun.errors import Code
from dustrun.operations.declaration.answers import Answer, PageAnswer
from dustrun.operations.declaration.fields import Description, Paged
from dustrun.operations.declaration.operation import Noun
from dustrun.operations.declaration.parts import Call
from dustrun.services.access.paging import Page, page_of
from dustrun.services.access.roles import Role

noun = Noun("People")

RoleName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,39}$")]


class CreateRole(Fields):
    """A new role."""

    name: RoleName = Field(description="What it is called: small letters, digits and hyphens.", examples=["bookkeeper"])
    description: Description | None = Field(None, description="What it is for.")
    permissions: Annotated[list[str], Field(min_length=1, max_length=100)] = Field(
        description="Permissions of whoever has it.", examples=[["run:read", "transaction:read"]]
    )


class RoleAnswer(Answer):
    """A role."""

    name: str
    description: str | None
    permissions: list[str]
    built_in: bool = Field(description="Whether every organisation has it.")


@noun.get("/v1/roles", permission="key:read", answers=PageAnswer[RoleAnswer])
async def list_roles(call: Call, paging: Paged) -> Page[Role]:
    """List roles: those that are built in, then the organisation's own."""
    found = await call.parts.access.roles.list_all(call.principal)
    return page_of(found[paging.offset : paging.offset + paging.peek], paging)


@noun.post(
    "/v1/roles",
    permission="admin",
    answers=RoleAnswer,
    refusals=[Code.BEARER_NEEDED, Code.ROLE_TAKEN],
    example={"name": "bookkeeper", "permissions": ["run:read", "transaction:read"]},
)
async def create_role(call: Call, body: CreateRole) -> Role:
    """Make a role of permissions that the caller has. It does not change: to give people other rights, make another
    role and give it to them.
    """
    return await call.parts.access.roles.create(call.principal, body.name, body.description, body.permissions)


@noun.delete(
    "/v1/roles/{id}",
    permission="admin",
    answers=RoleAnswer,
    refusals=[Code.ROLE_UNKNOWN, Code.ROLE_IN_USE, Code.BEARER_NEEDED],
)
async def delete_role(call: Call, id: str) -> Role:
    """Delete a role of the organisation, by its name; nobody who is not deactivated may have it."""
    return await call.parts.access.roles.delete(call.principal, id)
