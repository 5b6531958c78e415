"""`/v1/session`: browser sessions, which stand for an API key; `/v1/me`: who the caller is."""

from __future__ import annotations

from typing import Any

from fastapi import Request
from pydantic import Field, SecretStr
from starlette.responses import Response

from dustrun import ids
from dustrun.api import cookies
from dustrun.api.auth import ANY_KEY, PUBLIC
from dustrun.api.envelope import success
from dustrun.api.routing import Call, Calling, Routes
from dustrun.api.shapes.wire import Answer, Time, time
from dustrun.core.values.fields import Fields
from dustrun.errors import Code, Unauthenticated
from dustrun.services.access.api_keys import ids_of, permissions_of
from dustrun.services.access.sessions import NewLink, NewSession
from dustrun.storage.access.keys import KeyRow
from dustrun.storage.access.organizations import OrganizationRow

routes = Routes("Sessions")
router = routes.router


class SignIn(Fields):
    """An API key."""

    key: SecretStr = Field(description="The API key that the session stands for.", min_length=1, max_length=200)


class Redeem(Fields):
    """The token of a link."""

    token: SecretStr = Field(description="The token of a link that signs in.", min_length=1, max_length=200)


class MeAnswer(Answer):
    """The caller."""

    key_id: str
    key_name: str
    organization_id: str
    organization_name: str
    permissions: list[str]
    workflow_ids: list[str] | None = Field(description="The workflows that the key is limited to; null: all.")
    wallet_ids: list[str] | None = Field(description="The wallets that the key is limited to; null: all.")
    is_session: bool = Field(description="Whether a browser's session stands for the key.")
    expires_at: Time | None = Field(description="When the key expires.")


class SessionAnswer(Answer):
    """A session that has begun. Its id is in a cookie that scripts cannot read."""

    key_id: str
    organization_id: str
    permissions: list[str]
    csrf_token: str = Field(description="To be sent as `X-CSRF-Token` with every write; also in a readable cookie.")
    ends_at: Time = Field(description="When it ends at the latest; 12 hours without use end it earlier.")


class LinkAnswer(Answer):
    """A link that signs in once."""

    url: str = Field(description="Its token is in the fragment, which browsers do not send.")
    expires_at: Time


class EndedAnswer(Answer):
    """The session has ended."""

    ended: bool


def _session(new: NewSession) -> dict[str, Any]:
    return {
        "keyId": new.key.id,
        "organizationId": new.key.org_id,
        "permissions": permissions_of(new.key),
        "csrfToken": new.csrf_token,
        "endsAt": time(new.ends_at),
    }


async def _answer(call: Calling, request: Request, new: NewSession) -> Response:
    response = success(_session(new), call.request_id)
    name, secrets = await call.parts.access.sessions.name(), {"id": new.id, "csrf": new.csrf_token}
    cookies.put(response, request.scope, call.parts.settings, name, secrets)
    return response


@routes.post("/v1/session", permission=PUBLIC, answers=SessionAnswer, refusals=[Code.KEY_INVALID, Code.CROSS_SITE])
async def start_session(call: Call, request: Request, body: SignIn) -> Response:
    """Sign in with an API key.

    Sets two cookies: one that scripts cannot read, which stands for the key, and a readable one with the token that
    every write must send as `X-CSRF-Token`. The session ends 12 hours after its last request, after 7 days,
    and with its key. Creating keys and exporting wallets need the key itself.
    """
    cookies.check_own_page(request.scope, call.parts.settings)
    secret, wrong_keys = body.key.get_secret_value(), call.parts.access.wrong_keys
    address, key_hash = request.client.host if request.client else "", ids.secret_hash(secret)
    wrong_keys.check(address, key_hash)
    new = await call.parts.access.sessions.start(secret)
    if new is None:
        wrong_keys.was_wrong(key_hash)
        raise Unauthenticated("The API key is not valid.")
    wrong_keys.was_good(address, key_hash)
    return await _answer(call, request, new)


@routes.post(
    "/v1/session/redeem", permission=PUBLIC, answers=SessionAnswer, refusals=[Code.KEY_INVALID, Code.CROSS_SITE]
)
async def redeem_sign_in_link(call: Call, request: Request, body: Redeem) -> Response:
    """Sign in with the token of a one-time link.

    The same as signing in with the key that made the link.
    """
    cookies.check_own_page(request.scope, call.parts.settings)
    address, token = request.client.host if request.client else "", body.token.get_secret_value()
    call.parts.access.wrong_keys.check(address, ids.secret_hash(token))
    return await _answer(call, request, await call.parts.access.sessions.redeem(token))


def _link(call: Calling, new: NewLink) -> dict[str, Any]:
    url = f"{call.parts.settings.base_url()}/#signin={new.token}"
    return {"url": url, "expiresAt": time(new.expires_at)}


@routes.post("/v1/session/links", permission=ANY_KEY, answers=LinkAnswer, secret=True, refusals=[Code.BEARER_NEEDED])
async def make_sign_in_link(call: Call) -> dict[str, Any]:
    """Make a link that signs a browser in as this key, once, within 10 minutes."""
    return _link(call, await call.parts.access.sessions.make_link(call.principal))


@routes.delete("/v1/session", permission=ANY_KEY, answers=EndedAnswer)
async def end_session(call: Call, request: Request) -> Response:
    """Sign out: ends the session of the request's cookie and deletes the cookies."""
    name = await call.parts.access.sessions.name()
    session_id = cookies.read(request.scope, name) if call.principal.is_session else None
    if session_id is not None:
        await call.parts.access.sessions.end(session_id)
    response = success({"ended": session_id is not None}, call.request_id)
    cookies.clear(response, request.scope, call.parts.settings, name)
    return response


def _me(found: tuple[KeyRow, OrganizationRow, bool]) -> dict[str, Any]:
    key, organization, is_session = found
    return {
        "keyId": key.id,
        "keyName": key.name,
        "organizationId": organization.id,
        "organizationName": organization.name,
        "permissions": permissions_of(key),
        "workflowIds": ids_of(key.workflow_ids),
        "walletIds": ids_of(key.wallet_ids),
        "isSession": is_session,
        "expiresAt": time(key.expires_at),
    }


@routes.get("/v1/me", permission=ANY_KEY, answers=MeAnswer, shape=_me)
async def get_me(call: Call) -> tuple[KeyRow, OrganizationRow, bool]:
    """Get the caller: key, organisation, permissions and limits."""
    key, organization = await call.parts.access.keys.whose(call.principal)
    return key, organization, call.principal.is_session
