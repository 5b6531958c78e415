"""`/v1/people`: the people of the organisation, their sessions, and what is in their name."""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple

from pydantic import Field, StringConstraints, model_validator

from dustrun.core.values.fields import Fields
from dustrun.errors import Code
from dustrun.operations.declaration.answers import STORED, Answer, From, PageAnswer, Time
from dustrun.operations.declaration.fields import Name, Paged
from dustrun.operations.declaration.operation import Noun
from dustrun.operations.declaration.parts import Call
from dustrun.operations.keys import ConnectorId, WalletId, WorkflowId, WorkflowScope
from dustrun.operations.roles import RoleName
from dustrun.services.access.api_keys import PRESETS
from dustrun.services.access.paging import Page, page_of
from dustrun.services.access.people import Given, Invited, Known, Person, PersonLink
from dustrun.services.access.sessions import OpenSession

noun = Noun("People")

_MOST_IDS = 100
_LINK = "Signs the person in, once, within 3 days. Its token is in the fragment, which browsers do not send."
KeyId = Annotated[str, StringConstraints(pattern=r"^key_[a-z0-9]{26}$")]
Permissions = Annotated[list[str], Field(min_length=1, max_length=100)]
Email = Annotated[str, StringConstraints(max_length=254, pattern=r"^[!-?A-~]+@[0-9A-Za-z.-]+$")]


class InvitePerson(Fields):
    """A new person: permissions as a list, of a role, or as a preset in `scope`."""

    name: Name = Field(description="What the person is called.", examples=["Ada"])
    email: Email = Field(
        description="E-mail address, of ASCII characters; a person of the organisation each.",
        examples=["ada@example.com"],
    )
    permissions: Permissions | None = Field(None, description="Permissions of the person.", examples=[["run:read"]])
    scope: Literal["read", "read-write", "mcp"] | None = Field(None, description="A preset of permissions, as of keys.")
    role: RoleName | None = Field(None, description="A role, as of `GET /v1/roles`.", examples=["builder"])
    workflow_ids: Annotated[list[WorkflowId], Field(min_length=1, max_length=_MOST_IDS)] | None = Field(
        None, description="Limits the person to these workflows and their runs. Default: all."
    )
    workflow_scope: WorkflowScope | None = Field(
        None,
        description="Limits the person to the workflows in folders (`folder:payroll`) or with tags (`tag:money`), also "
        "to those that come to them later; besides `workflowIds`.",
        examples=[["folder:payroll", "tag:money"]],
    )
    wallet_ids: Annotated[list[WalletId], Field(min_length=1, max_length=_MOST_IDS)] | None = Field(
        None, description="Limits the person to these wallets. Default: all."
    )
    connector_ids: Annotated[list[ConnectorId], Field(min_length=1, max_length=_MOST_IDS)] | None = Field(
        None, description="Limits the person to these connectors. Default: all."
    )

    @model_validator(mode="after")
    def _one_of_both(self) -> InvitePerson:
        if [self.permissions, self.scope, self.role].count(None) != 2:
            raise ValueError("give one of `role`, `permissions` and `scope`")
        return self


class UpdatePerson(Fields):
    """Changes of a person; what is absent stays."""

    name: Name | None = Field(None, description="What the person is called.")
    state: Literal["active", "deactivated"] | None = Field(
        None, description="`deactivated` revokes all keys of the person; `active` lets them sign in by a new link."
    )
    permissions: Permissions | None = Field(
        None, description="New permissions. They revoke all keys of the person, who signs in by a new link."
    )
    role: RoleName | None = Field(None, description="Another role; the same as its permissions, with its name.")
    key_ids: Annotated[list[KeyId], Field(max_length=_MOST_IDS)] = Field(
        default=[], description="Keys that are this person's from now on, with those of the same hand; for good."
    )

    @model_validator(mode="after")
    def _not_both(self) -> UpdatePerson:
        if self.permissions is not None and self.role is not None:
            raise ValueError("give `role` or `permissions`, not both")
        return self


class PersonAnswer(Answer):
    """A person."""

    id: Annotated[str, From("row.id")]
    organization_id: Annotated[str, From("row.org_id")]
    name: Annotated[str, From("row.name")]
    email: Annotated[str, From("row.email")]
    state: str = Field(description="`invited` until they first sign in, `active`, or `deactivated`.")
    key_id: Annotated[str, From("row.key_id")] = Field(
        description="The key that their sessions stand for; `approvers` of a policy can name it. Nobody has its secret."
    )
    role: Annotated[str | None, From("row.role")] = Field(description="Null: they were given permissions one by one.")
    permissions: Annotated[list[str], From("home.permissions"), STORED]
    workflow_ids: Annotated[list[str] | None, From("home.workflow_ids"), STORED]
    workflow_scope: Annotated[list[str] | None, From("home.workflow_scope"), STORED] = Field(description="As of keys.")
    wallet_ids: Annotated[list[str] | None, From("home.wallet_ids"), STORED]
    connector_ids: Annotated[list[str] | None, From("home.connector_ids"), STORED]
    invited_by: Annotated[str, From("row.invited_by")] = Field(
        description="Id of the key; `provider`: nobody has, the identity provider let them in."
    )
    created_at: Annotated[Time, From("row.created_at")]
    joined_at: Annotated[Time | None, From("row.joined_at")] = Field(description="When they first signed in.")
    deactivated_at: Annotated[Time | None, From("home.revoked_at")]


class InvitedAnswer(PersonAnswer, of="person"):
    """A new person."""

    url: str = Field(description=_LINK)
    link_expires_at: Time


class DependentsAnswer(Answer):
    """The things in a person's name, at most 100 of each."""

    keys: list[str] = Field(description="Their keys that are good.")
    made_keys: list[str] = Field(description="Good keys that these made and that are nobody's; they stay.")
    sessions: int = Field(description="Their open sessions.")
    workflows: list[str] = Field(description="Workflows with a trigger that runs in their name.")
    runs: list[str] = Field(description="Runs in their name that have not ended, newest first.")
    form_links: list[str] = Field(description="Open links to forms whose runs are in their name.")
    service_accounts: list[str] = Field(description="Service accounts that they answer for; they stay.")


class PersonDetailAnswer(PersonAnswer, of="person"):
    """A person, and what depends on them."""

    dependents: Annotated[DependentsAnswer, From("dependents")]


class PersonLinkAnswer(Answer):
    """A link that signs a person in once."""

    url: str = Field(description=_LINK)
    expires_at: Time


class PersonSessionAnswer(Answer):
    """An open session of a browser."""

    id: str = Field(description="By it the session is ended; it opens nothing.")
    key_id: str = Field(description="The key that it stands for.")
    created_at: Time
    seen_at: Time = Field(description="Accurate to about a minute.")
    current: bool = Field(description="Whether this request came with it.")


class SignedOutAnswer(Answer):
    """The sessions have ended."""

    ended: int = Field(description="How many there were.")


class PasskeysRemovedAnswer(Answer):
    """The passkeys are removed."""

    removed: int = Field(description="How many there were.")


class PasskeysRemoved(NamedTuple):
    """How many passkeys were removed."""

    removed: int


class SignedOut(NamedTuple):
    """How many sessions have ended."""

    ended: int


@noun.post(
    "/v1/people",
    permission="admin",
    answers=InvitedAnswer,
    secret=True,
    refusals=[Code.BEARER_NEEDED, Code.PERSON_EMAIL_TAKEN],
    example={"name": "Ada", "email": "ada@example.com", "permissions": ["workflow:read", "run:read"]},
)
async def invite_person(call: Call, body: InvitePerson) -> Invited:
    """Invite a person, by a link that signs them in once.

    The link is shown only in this answer: send it to them. Nobody gets more permissions or a longer life than the key
    that invites. All keys that a person makes are theirs, and all of them and their sessions are one hand.
    """
    return await call.parts.access.people.invite(
        call.principal,
        name=body.name,
        email=body.email,
        permissions=body.permissions or (sorted(PRESETS[body.scope]) if body.scope else []),
        role=body.role,
        workflow_ids=body.workflow_ids,
        workflow_scope=body.workflow_scope,
        wallet_ids=body.wallet_ids,
        connector_ids=body.connector_ids,
    )


@noun.get("/v1/people", permission="admin", answers=PageAnswer[PersonAnswer])
async def list_people(call: Call, paging: Paged) -> Page[Person]:
    """List the organisation's people, newest first."""
    return await call.parts.access.people.list_page(call.principal, paging)


@noun.get("/v1/people/{id}", permission="admin", answers=PersonDetailAnswer, refusals=[Code.PERSON_UNKNOWN])
async def get_person(call: Call, id: str) -> Known:
    """Get a person, and what depends on them: keys, sessions, triggers, runs and links to forms."""
    return await call.parts.access.people.get(call.principal, id)


@noun.patch(
    "/v1/people/{id}",
    permission="admin",
    answers=PersonAnswer,
    refusals=[Code.PERSON_UNKNOWN, Code.BEARER_NEEDED, Code.KEY_TAKEN, Code.KEY_LAST_ADMIN],
    example={"state": "deactivated"},
)
async def update_person(call: Call, id: str, body: UpdatePerson) -> Person:
    """Change a person's name, permissions or keys, deactivate them, or let them in again.

    Who is deactivated has no key, session or stream from that moment, and runs in their name sign nothing more. What
    they published pauses at its next event. `GET /v1/people/{id}` lists it before and after.
    """
    given = Given(name=body.name, state=body.state, permissions=body.permissions, role=body.role, key_ids=body.key_ids)
    return await call.parts.access.people.change(call.principal, id, given)


@noun.post(
    "/v1/people/{id}/links",
    permission="admin",
    answers=PersonLinkAnswer,
    secret=True,
    refusals=[Code.PERSON_UNKNOWN, Code.PERSON_DEACTIVATED, Code.BEARER_NEEDED],
)
async def make_person_link(call: Call, id: str) -> PersonLink:
    """Make a link that signs a person in once, within 3 days; earlier ones no longer do."""
    return await call.parts.access.people.make_link(call.principal, id)


@noun.get(
    "/v1/people/{id}/sessions",
    permission="admin",
    answers=PageAnswer[PersonSessionAnswer],
    refusals=[Code.PERSON_UNKNOWN],
)
async def list_person_sessions(call: Call, id: str, paging: Paged) -> Page[OpenSession]:
    """List the open sessions of a person, newest first."""
    found = await call.parts.access.people.list_sessions(call.principal, id)
    return page_of(found[paging.offset : paging.offset + paging.peek], paging)


@noun.delete(
    "/v1/people/{id}/sessions",
    permission="admin",
    answers=SignedOutAnswer,
    refusals=[Code.PERSON_UNKNOWN],
)
async def end_person_sessions(call: Call, id: str) -> SignedOut:
    """Sign a person out everywhere: ends their sessions, streams and unused links. Their keys stay good."""
    return SignedOut(await call.parts.access.people.end_sessions(call.principal, id))


@noun.delete(
    "/v1/people/{id}/sessions/{session}",
    permission="admin",
    answers=PersonSessionAnswer,
    refusals=[Code.PERSON_UNKNOWN, Code.SESSION_UNKNOWN],
)
async def end_person_session(call: Call, id: str, session: str) -> OpenSession:
    """End one session of a person, and the streams that it opened."""
    return await call.parts.access.people.end_session(call.principal, id, session)


@noun.delete(
    "/v1/people/{id}/passkeys",
    permission="admin",
    answers=PasskeysRemovedAnswer,
    refusals=[Code.PERSON_UNKNOWN, Code.BEARER_NEEDED],
)
async def remove_person_passkeys(call: Call, id: str) -> PasskeysRemoved:
    """Remove all passkeys of a person who has lost theirs: they sign in by a link, and can add others."""
    return PasskeysRemoved(await call.parts.access.passkeys.remove_all(call.principal, id))
