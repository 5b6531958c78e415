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
from dustrun.operations.passkeys import Credential, PasskeyOptionsAnswer
from dustrun.operations.people import PersonSessionAnswer
from dustrun.services.access.oidc.sign_in import ATTEMPT_MS, SignInReply, SignIns
from dustrun.services.access.paging import Page, page_of
from dustrun.services.access.passkeys.passkeys import PasskeyRequest
from dustrun.services.access.rate_limits import Excess, network_of
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


class FinishSignIn(Fields):
    """The parameters with which the provider sent the browser back."""

    state: str = Field(description="As the provider sent it.", min_length=1, max_length=200)
    code: SecretStr | None = Field(None, description="Absent if the provider signs nobody in.", max_length=4096)
    iss: str | None = Field(None, description="The issuer, if the provider sent it.", max_length=1000)
    error: str | None = Field(None, description="Why the provider signs nobody in.", max_length=200)
    error_description: str | None = Field(None, description="The same in words.", max_length=2000)


class PasskeySignIn(Fields):
    """The answer of a browser's authenticator."""

    credential: Credential


class ProviderAnswer(Answer):
    """The identity provider."""

    name: str | None = Field(description="What people sign in with; null: there is none.")


class BegunAnswer(Answer):
    """A sign-in that has begun."""

    url: Annotated[str, From("url")] = Field(description="Where to send the browser, within 10 minutes.")


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
    connector_ids: Annotated[list[str] | None, From(lambda one: one[0].connector_ids), STORED] = Field(
        description="The connectors that the key is limited to; null: all."
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
    provider_url: str | None = Field(
        description="Where the browser signs out at the identity provider too; null: the person does not sign in "
        "there, or it tells of no such place."
    )


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


@noun.get("/v1/session/provider", permission=PUBLIC, answers=ProviderAnswer)
async def get_sign_in_provider(call: Call) -> SignIns:
    """Get the identity provider that people sign in with, if there is one."""
    return call.parts.access.sign_ins


@noun.post(
    "/v1/session/provider",
    permission=PUBLIC,
    answers=BegunAnswer,
    refusals=[Code.CROSS_SITE, Code.ROUTE_UNKNOWN, Code.RATE_LIMITED, Code.UNAVAILABLE],
    shape=as_it_is,
)
async def begin_sign_in(call: Call, request: Request) -> Response:
    """Begin to sign in at the identity provider.

    Sets a cookie, and answers the provider's address for the browser. The provider sends it back to `/sign-in`, whose
    page finishes with what it finds in its address; this works once, in the same browser.
    """
    parts = call.parts
    auth.check_own_page(request.scope, parts.settings)
    auth.check_home(request.scope, parts.settings)
    parts.access.sign_in_begins.take(network_of(request.client.host if request.client else ""), Excess.SIGN_INS)
    begun = await parts.access.sign_ins.begin()
    response = success({"url": begun.url}, call.request_id)
    name = f"{await parts.access.sessions.name()}_signin"
    auth.put_attempt(response, request.scope, parts.settings, name, begun.browser, ATTEMPT_MS // 1000)
    return response


@noun.post(
    "/v1/session/provider/finish",
    permission=PUBLIC,
    answers=SessionAnswer,
    refusals=[
        Code.SIGN_IN_REFUSED,
        Code.CROSS_SITE,
        Code.PERSON_EMAIL_TAKEN,
        Code.PERSON_DEACTIVATED,
        Code.ROUTE_UNKNOWN,
        Code.RATE_LIMITED,
        Code.UNAVAILABLE,
    ],
    shape=as_it_is,
    example={"state": "state_3Xb…", "code": "4fQ…", "iss": "https://id.example.com"},
)
async def finish_sign_in(call: Call, request: Request, body: FinishSignIn) -> Response:
    """Finish signing in at the identity provider, with what it sent the browser back with.

    Starts a session of the person whose identity there it is, by issuer and subject. Somebody new is matched with an
    open invitation to their verified e-mail address, or is let in as a new person if the settings allow that.
    """
    parts = call.parts
    auth.check_own_page(request.scope, parts.settings)
    parts.access.wrong_keys.check(request.client.host if request.client else "", ids.secret_hash(body.state))
    name = f"{await parts.access.sessions.name()}_signin"
    answered = SignInReply(
        state=body.state,
        code=None if body.code is None else body.code.get_secret_value(),
        issuer=body.iss,
        error=body.error,
        description=body.error_description,
    )
    new = await parts.access.sign_ins.finish(answered, auth.read(request.scope, name))
    response = await _answer(call, request, new)
    auth.put_attempt(response, request.scope, parts.settings, name, "", 0)
    return response


@noun.post(
    "/v1/session/passkey",
    permission=PUBLIC,
    answers=PasskeyOptionsAnswer,
    refusals=[Code.CROSS_SITE, Code.RATE_LIMITED],
)
async def begin_passkey_sign_in(call: Call, request: Request) -> PasskeyRequest:
    """Begin to sign in with a passkey: what to ask the browser for, which has five minutes to answer."""
    parts = call.parts
    auth.check_own_page(request.scope, parts.settings)
    parts.access.sign_in_begins.take(network_of(request.client.host if request.client else ""), Excess.SIGN_INS)
    return await parts.access.passkeys.begin_sign_in()


@noun.post(
    "/v1/session/passkey/finish",
    permission=PUBLIC,
    answers=SessionAnswer,
    refusals=[Code.PASSKEY_REFUSED, Code.CROSS_SITE, Code.RATE_LIMITED],
    shape=as_it_is,
    example={"credential": {"id": "4fQ…", "rawId": "4fQ…", "type": "public-key", "response": {}}},
)
async def finish_passkey_sign_in(call: Call, request: Request, body: PasskeySignIn) -> Response:
    """Sign in with what `navigator.credentials.get()` has answered, as JSON.

    Starts a session of the person whose passkey it is, who counts as just signed in for ten minutes. The answer must be
    of this server's `public_url`, to a challenge of a few minutes ago that nobody has answered.
    """
    auth.check_own_page(request.scope, call.parts.settings)
    address = request.client.host if request.client else ""
    call.parts.access.wrong_keys.check(address, ids.secret_hash(str(body.credential.get("id"))))
    return await _answer(call, request, await call.parts.access.passkeys.sign_in(body.credential))


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
    """Sign out: ends the session of the request's cookie and deletes the cookies. The identity provider's session goes
    on; `providerUrl` is where the browser ends that too.
    """
    name = await call.parts.access.sessions.name()
    session_id = auth.read(request.scope, name) if call.principal.is_session else None
    provider_url = None
    if session_id is not None:
        await call.parts.access.sessions.end(session_id)
        provider_url = await call.parts.access.sign_ins.page_to_leave(call.principal)
    response = success({"ended": session_id is not None, "providerUrl": provider_url}, call.request_id)
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
