"""`/v1/session`: browser sessions, which stand for an API key; `/v1/me`: who the caller is."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, SecretStr
from starlette.requests import Request
from starlette.responses import Response

from dustrun import ids
from dustrun.api import auth
from dustrun.api.envelope import success
from dustrun.core.values.fields import Fields
from dustrun.errors import Code, Unauthenticated
from dustrun.operations.declaration.answers import STORED, Answer, From, PageAnswer, Time, time
from dustrun.operations.declaration.encoding import as_it_is, data_of
from dustrun.operations.declaration.fields import Paged
from dustrun.operations.declaration.operation import ANY_KEY, PUBLIC, Noun
from dustrun.operations.declaration.parts import Call
from dustrun.operations.people import PersonSessionAnswer
from dustrun.services.access.paging import Page, page_of
from dustrun.services.access.sessions import NewLink, NewSession, OpenSession
from dustrun.storage.access.keys import KeyRow
from dustrun.storage.access.organizations import OrganizationRow

noun = Noun("Sessions")


class SignIn(Fields):
    """An API key."""

    key: SecretStr = Field(description="The API key that the session stands for.", min_length=1, max_length=200)


class Redeem(Fields):
    """The token of a link."""

    token: SecretStr = Field(description="The token of a link that signs in.", min_length=1, max_length=200)


class MeAnswer(Answer):
    """The caller."""

    key_id: Annotated[str, From(lambda one: one[0].id)]
    key_name: Annotated[str, From(lambda one: one[0].name)]
    person_id: Annotated[str | None, From(lambda one: one[0].person_id)] = Field(
        description="The person whose key it is; null: nobody's."
    )
    organization_id: Annotated[str, From(lambda one: one[1].id)]
    organization_name: Annotated[str, From(lambda one: one[1].name)]
    permissions: Annotated[list[str], From(lambda one: one[0].permissions), STORED]
    workflow_ids: Annotated[list[str] | None, From(lambda one: one[0].workflow_ids), STORED] = Field(
        description="The workflows that the key is limited to; null: all."
    )
    wallet_ids: Annotated[list[str] | None, From(lambda one: one[0].wallet_ids), STORED] = Field(
        description="The wallets that the key is limited to; null: all."
    )
    is_session: Annotated[bool, From(lambda one: one[2])] = Field(
        description="Whether a browser's session stands for the key."
    )
    expires_at: Annotated[Time | None, From(lambda one: one[0].expires_at)] = Field(description="When the key expires.")


class SessionAnswer(Answer):
    """A session that has begun. Its id is in a cookie that scripts cannot read."""

    key_id: Annotated[str, From("key.id")]
    organization_id: Annotated[str, From("key.org_id")]
    permissions: Annotated[list[str], From("key.permissions"), STORED]
    csrf_token: str = Field(description="To be sent as `X-CSRF-Token` with every write; also in a readable cookie.")
    ends_at: Time = Field(description="When it ends at the latest; 12 hours without use end it earlier.")


class LinkAnswer(Answer):
    """A link that signs in once."""

    url: str = Field(description="Its token is in the fragment, which browsers do not send.")
    expires_at: Time


class EndedAnswer(Answer):
    """The session has ended."""

    ended: bool


async def _answer(call: Call, request: Request, new: NewSession) -> Response:
    response = success(data_of(SessionAnswer, new), call.request_id)
    name, secrets = await call.parts.access.sessions.name(), {"id": new.id, "csrf": new.csrf_token}
    auth.put(response, request.scope, call.parts.settings, name, secrets)
    return response


@noun.post(
    "/v1/session",
    permission=PUBLIC,
    answers=SessionAnswer,
    refusals=[Code.KEY_INVALID, Code.CROSS_SITE],
    shape=as_it_is,
    example={"key": "sk_4fQ…"},
)
async def start_session(call: Call, request: Request, body: SignIn) -> Response:
    """Sign in with an API key.

    Sets two cookies: one that scripts cannot read, which stands for the key, and a readable one with the token that
    every write must send as `X-CSRF-Token`. The session ends 12 hours after its last request, after 7 days,
    and with its key. Exporting wallets needs the key itself, and so does creating keys, except for a
    person who signed in less than 10 minutes ago.
    """
    auth.check_own_page(request.scope, call.parts.settings)
    secret, wrong_keys = body.key.get_secret_value(), call.parts.access.wrong_keys
    address, key_hash = request.client.host if request.client else "", ids.secret_hash(secret)
    wrong_keys.check(address, key_hash)
    new = await call.parts.access.sessions.start(secret)
    if new is None:
        wrong_keys.was_wrong(key_hash)
        raise Unauthenticated("The API key is not valid.")
    wrong_keys.was_good(address, key_hash)
    return await _answer(call, request, new)


@noun.post(
    "/v1/session/redeem",
    permission=PUBLIC,
    answers=SessionAnswer,
    refusals=[Code.KEY_INVALID, Code.CROSS_SITE],
    shape=as_it_is,
    example={"token": "signin_3Xb…"},
)
async def redeem_sign_in_link(call: Call, request: Request, body: Redeem) -> Response:
    """Sign in with the token of a one-time link.

    The same as signing in with the key that made the link.
    """
    auth.check_own_page(request.scope, call.parts.settings)
    address, token = request.client.host if request.client else "", body.token.get_secret_value()
    call.parts.access.wrong_keys.check(address, ids.secret_hash(token))
    return await _answer(call, request, await call.parts.access.sessions.redeem(token))


def _link(call: Call, new: NewLink) -> dict[str, Any]:
    url = f"{call.parts.settings.base_url()}/#signin={new.token}"
    return {"url": url, "expiresAt": time(new.expires_at)}


@noun.post(
    "/v1/session/links",
    permission=ANY_KEY,
    answers=LinkAnswer,
    secret=True,
    refusals=[Code.BEARER_NEEDED],
    shape=as_it_is,
)
async def make_sign_in_link(call: Call) -> dict[str, Any]:
    """Make a link that signs a browser in as this key, once, within 10 minutes."""
    return _link(call, await call.parts.access.sessions.make_link(call.principal))


@noun.delete("/v1/session", permission=ANY_KEY, answers=EndedAnswer, shape=as_it_is)
async def end_session(call: Call, request: Request) -> Response:
    """Sign out: ends the session of the request's cookie and deletes the cookies."""
    name = await call.parts.access.sessions.name()
    session_id = auth.read(request.scope, name) if call.principal.is_session else None
    if session_id is not None:
        await call.parts.access.sessions.end(session_id)
    response = success({"ended": session_id is not None}, call.request_id)
    auth.clear(response, request.scope, call.parts.settings, name)
    return response


@noun.get("/v1/sessions", permission=ANY_KEY, answers=PageAnswer[PersonSessionAnswer])
async def list_own_sessions(call: Call, paging: Paged) -> Page[OpenSession]:
    """List the caller's open sessions, newest first: those of its person, or of its key if that is nobody's.

    Of sessions that stand for another key of the person, those that may do no more than the caller are listed.
    """
    found = await call.parts.access.sessions.list_own(call.principal)
    return page_of(found[paging.offset : paging.offset + paging.peek], paging)


@noun.delete("/v1/sessions/{id}", permission=ANY_KEY, answers=PersonSessionAnswer, refusals=[Code.SESSION_UNKNOWN])
async def end_own_session(call: Call, id: str) -> OpenSession:
    """End one of the caller's sessions, and the streams that it opened."""
    return await call.parts.access.sessions.end_own(call.principal, id)


@noun.get("/v1/me", permission=ANY_KEY, answers=MeAnswer)
async def get_me(call: Call) -> tuple[KeyRow, OrganizationRow, bool]:
    """Get the caller: key, organisation, permissions and limits."""
    key, organization = await call.parts.access.keys.whose(call.principal)
    return key, organization, call.principal.is_session
