"""`/v1/connectors/{id}/consent` and `/v1/oauth/callback`: connecting a connector at its provider, with consent.

The callback is a page for people: it says which connector is about to be connected, and who began it. The button on it
sends the same parameters once more, from a page of this server, so that the cookie of the browser that began comes with
them: a provider's redirect brings no strict cookie.
"""

from __future__ import annotations

from html import escape
from typing import Annotated, Final
from urllib.parse import parse_qsl, urlencode

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from dustrun.api import auth
from dustrun.api.envelope import success
from dustrun.api.routing import ForeignRoute
from dustrun.errors import Code, DustrunError
from dustrun.operations.declaration.answers import Answer, From, Time, time
from dustrun.operations.declaration.encoding import as_it_is
from dustrun.operations.declaration.operation import PUBLIC, Noun
from dustrun.operations.declaration.parts import Call, Parts, parts_of
from dustrun.services.access.rate_limits import Excess, network_of
from dustrun.services.connectors.consents import ATTEMPT_MS, CALLBACK, ConsentReply, SeenConsent

noun = Noun("Connectors")
_COOKIE: Final = "dustrun_consent"
_MOST: Final = 8_192
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
_STYLE: Final = "body{font:16px/1.5 system-ui;max-width:34rem;margin:15vh auto;padding:0 1rem}button{font:inherit}"


class BegunConsentAnswer(Answer):
    """A consent that has begun."""

    url: Annotated[str, From("url")] = Field(description="The provider's page, to be opened in a browser.")
    expires_at: Time = Field(description="Until when the provider must have sent the browser back.")


@noun.post(
    "/v1/connectors/{id}/consent",
    permission="connector:write",
    answers=BegunConsentAnswer,
    refusals=[Code.CONNECTOR_UNKNOWN, Code.VAULT_LOCKED, Code.SECRET_UNREADABLE, Code.CROSS_SITE],
    secret=True,
    shape=as_it_is,
)
async def begin_consent(call: Call, request: Request, id: str) -> Response:
    """Begin to connect a connector of type `oauth2-authorization-code`: where a person consents, within ten minutes.

    The provider sends the browser back to `/v1/oauth/callback` of this server, whose page says who began it and asks to
    confirm. The connector's `consent` tells when it is connected.
    """
    settings = call.parts.settings
    if call.principal.is_session:
        auth.check_home(request.scope, settings)
    begun = await call.parts.data.consents.begin(call.principal, id)
    response = success({"url": begun.url, "expiresAt": time(begun.expires_at)}, call.request_id)
    if begun.browser is not None:
        auth.put_attempt(response, request.scope, settings, _COOKIE, begun.browser, ATTEMPT_MS // 1000)
    return response


async def show_callback(scope: Scope, receive: Receive, send: Send) -> None:
    """The page that a provider sends somebody back to: what is about to be connected, and who began it."""
    parts = _slowed(scope)
    try:
        seen = await parts.data.consents.look(_reply(scope))
    except DustrunError as error:
        await _page("Not connected", f"<p>{escape(error.message)}</p>", error.code.status)(scope, receive, send)
        return
    await _page("Connect?", _question(seen, scope), 200)(scope, receive, send)


async def confirm_callback(scope: Scope, receive: Receive, send: Send) -> None:
    """Connects, once somebody has confirmed it."""
    parts = _slowed(scope)
    try:
        auth.check_own_page(scope, parts.settings)
        row = await parts.data.consents.finish(_reply(scope), auth.read(scope, _COOKIE))
    except DustrunError as error:
        await _page("Not connected", f"<p>{escape(error.message)}</p>", error.code.status)(scope, receive, send)
        return
    done = f"<p>The connector <b>{escape(row.name or row.id)}</b> is connected. You can close this page.</p>"
    await _page("Connected", done, 200)(scope, receive, send)


def _slowed(scope: Scope) -> Parts:
    """The server's parts; whoever guesses states is slowed down."""
    parts = parts_of(scope)
    parts.access.sign_in_begins.take(network_of((scope.get("client") or ("",))[0]), Excess.SIGN_INS)
    return parts


def _reply(scope: Scope) -> ConsentReply:
    text = scope.get("query_string", b"")[:_MOST].decode("latin-1")
    sent = dict(parse_qsl(text, max_num_fields=50))
    names = ("code", "iss", "error", "error_description")
    return ConsentReply(state=sent.get("state", ""), **{name: sent.get(name) for name in names})


def _question(seen: SeenConsent, scope: Scope) -> str:
    reply = _reply(scope)
    again = {"state": reply.state, "code": reply.code or "", **({} if reply.iss is None else {"iss": reply.iss})}
    return (
        f"<p>The connector <b>{escape(seen.connector.name or seen.connector.id)}</b> will act with what you have just "
        f"agreed to. The key <b>{escape(seen.key.name or seen.key.id)}</b> began this.</p>"
        "<p>If that was neither you nor anybody whom you trust with it, close this page.</p>"
        f'<form method="post" action="{escape(CALLBACK)}?{escape(urlencode(again))}"><button>Connect</button></form>'
    )


def _page(title: str, body: str, status: int) -> Response:
    text = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
        f"<h1>{title}</h1>{body}</html>"
    )
    return Response(text, status, _HEADERS, "text/html")


raw_routes = [
    ForeignRoute(CALLBACK, show_callback, permission=PUBLIC),
    ForeignRoute(CALLBACK, confirm_callback, method="POST", permission=PUBLIC),
]
