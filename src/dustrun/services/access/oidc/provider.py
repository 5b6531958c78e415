"""The identity provider of the settings: where people are sent, and what it answers to a code or a refresh token."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from dataclasses import replace
from typing import Any, Final
from urllib.parse import quote_plus, urlencode

from dustrun import clock
from dustrun.errors import DustrunError, Temporary, Unauthenticated
from dustrun.records import dataclass
from dustrun.sdk.context import Http, HttpRequest, HttpResponse
from dustrun.services.access.oidc.admission import SignInAdmission
from dustrun.services.access.oidc.id_token import check_nonce, check_party, check_times, refuse
from dustrun.services.access.oidc.issuer import AGAIN_S, MOST_BYTES, OF_OPENID, TIMEOUT_S, Issuer
from dustrun.settings import Settings

PAGE: Final = "/sign-in"
"""The page of the app that the provider sends people back to."""
_TYPES: Final = frozenset({"", "jwt"})
_OPTIONS: Final = {
    "require": ["exp", "iat", "iss", "aud", "sub"],
    "verify_exp": False,  # `check_times` says how far the clocks are apart
    "verify_iat": False,
    "verify_nbf": False,
}
_ENDED: Final = "invalid_grant"
_LEAVING_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Grant:
    """The provider's claims about a person, and the token to ask it with the next time."""

    claims: dict[str, Any]
    refresh_token: str | None


@dataclass(frozen=True, slots=True)
class SignInAttempt:
    """A sign-in that has begun: its secrets, and when."""

    state: str
    nonce: str
    verifier: str
    begun_at: int


class Provider:
    """The identity provider. Everything that is sent to it passes the outbound guard."""

    def __init__(self, settings: Settings, http: Http, *, again_s: float = AGAIN_S) -> None:
        if settings.sign_in_issuer is None or settings.sign_in_client_id is None:
            raise ValueError("no provider is set")
        self.settings = settings
        self.url = settings.sign_in_issuer
        self.client_id = settings.sign_in_client_id
        self.admission = SignInAdmission(settings)
        self._http = http
        self._issuer = Issuer(self.url, http, (OF_OPENID,), again_s=again_s)

    @property
    def redirect_uri(self) -> str:
        """Where the provider sends people back to."""
        return self.settings.base_url() + PAGE

    async def find_trouble(self) -> str | None:
        """The obstacle to signing in with the provider, as far as its published settings tell; None: there is none."""
        try:
            keys, about = await self._issuer.look(), await self._issuer.about()
            for name in ("authorization_endpoint", "token_endpoint"):
                await self._endpoint(name)
        except DustrunError as error:
            return error.message
        except (LookupError, ValueError) as error:
            return str(error)
        if not keys:
            return f"it publishes no key of a kind that this server takes at {about['jwks_uri']}"
        methods = about.get("code_challenge_methods_supported")
        return "it does not support PKCE by S256" if methods is not None and "S256" not in methods else None

    async def page_for(self, attempt: SignInAttempt) -> str:
        """The address at the provider at which somebody signs in; raises `Temporary`."""
        challenge = hashlib.sha256(attempt.verifier.encode()).digest()
        fields = {
            **self.settings.sign_in_parameters,
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": self.redirect_uri,
            "scope": " ".join(self.settings.sign_in_scopes),
            "state": attempt.state,
            "nonce": attempt.nonce,
            "code_challenge": base64.urlsafe_b64encode(challenge).decode().rstrip("="),
            "code_challenge_method": "S256",
        }
        endpoint = await self._endpoint("authorization_endpoint")
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(fields)}"

    async def page_to_leave(self) -> str | None:
        """The address at the provider at which somebody signs out there too (RP-initiated logout); None if it tells of
        none, or does not answer at once: nobody's sign-out waits for it."""
        try:
            async with asyncio.timeout(_LEAVING_S):
                endpoint = await self._endpoint("end_session_endpoint")
        except (DustrunError, TimeoutError):
            return None
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode({'client_id': self.client_id})}"

    async def check_sender(self, issuer: str | None) -> None:
        """Raises `Forbidden` if the answer in the browser came from another provider (RFC 9207)."""
        about = await self._about()
        is_missing = issuer is None and about.get("authorization_response_iss_parameter_supported") is True
        if is_missing or issuer not in (None, self.url):
            raise refuse("The answer came from another provider than the one that you were sent to. Sign in again.")

    async def exchange(self, code: str, attempt: SignInAttempt) -> Grant:
        """The provider's grant for the code of a sign-in; raises `Forbidden` or `Temporary`."""
        fields = {"grant_type": "authorization_code", "code": code, "redirect_uri": self.redirect_uri}
        answer, status = await self._ask_token({**fields, "code_verifier": attempt.verifier})
        if status != 200:
            raise refuse(
                f"The provider does not take the code of this sign-in ({_error_of(answer)}). Sign in again; if it "
                "stays so, check sign_in_client_id, sign_in_client_secret and the redirect URI that the provider knows."
            )
        claims = await self._claims(answer.get("id_token"), begun_at=attempt.begun_at)
        check_nonce(claims, attempt.nonce)
        return await self._granted(claims, answer, is_first=True)

    async def renew(self, refresh_token: str, subject: str) -> Grant | None:
        """The provider's grant for a refresh token; None if it takes the token no longer. Raises `Temporary` if it
        gives no answer that says either, or `Forbidden` for one that cannot be believed."""
        answer, status = await self._ask_token({"grant_type": "refresh_token", "refresh_token": refresh_token})
        if status == 400 and answer.get("error") == _ENDED:
            return None
        if status != 200:
            raise Temporary(f"The provider answers {status} ({_error_of(answer)}) to a refresh token.")
        token = answer.get("id_token")
        claims = {"sub": subject} if token is None else await self._claims(token)
        if claims["sub"] != subject:
            raise refuse("The provider answers for somebody else.")
        return await self._granted(claims, answer)

    async def _claims(self, token: Any, *, begun_at: int | None = None) -> dict[str, Any]:
        if not isinstance(token, str):
            raise refuse("The provider gives no ID token. Check that sign_in_scopes has openid.")
        try:
            claims = await self._issuer.claims_of(
                token, types=_TYPES, audience=self.client_id, leeway_s=0, options=_OPTIONS
            )
        except Unauthenticated as error:
            raise refuse(f"The provider's ID token cannot be taken: {error.message}") from None
        check_times(claims, now_s=clock.now_ms() // 1000, begun_s=None if begun_at is None else begun_at // 1000)
        check_party(claims, self.client_id)
        return claims

    async def _granted(self, claims: dict[str, Any], answer: dict[str, Any], *, is_first: bool = False) -> Grant:
        """With the claims that only the user-info endpoint tells, if those matter."""
        token, fresh = answer.get("access_token"), answer.get("refresh_token")
        if self.admission.lacks(claims, is_first=is_first):
            if isinstance(token, str) and "userinfo_endpoint" in await self._about():
                claims = {**await self._user_info(token, claims["sub"]), **claims}
            elif "iss" not in claims:
                raise Temporary("The provider says nothing of a person but that it knows them.")
        return Grant(claims, fresh if isinstance(fresh, str) and fresh else None)

    async def _user_info(self, access_token: str, subject: str) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {access_token}", "Accept": "application/json"}
        answer = await self._send(HttpRequest("GET", await self._endpoint("userinfo_endpoint"), headers))
        found = _object(answer.body)
        if answer.status != 200:
            raise Temporary(f"The provider's user-info endpoint answers {answer.status}.")
        if found.get("sub") != subject:
            raise refuse("The provider's user-info endpoint answers for somebody else.")
        return found

    async def _ask_token(self, fields: dict[str, str]) -> tuple[dict[str, Any], int]:
        """The token endpoint's answer and status; raises `Temporary` if there is none, or it is overloaded."""
        headers = {"Accept": "application/json", "Content-Type": "application/x-www-form-urlencoded"}
        secret, fields = self.settings.sign_in_client_secret, dict(fields)
        methods = (await self._about()).get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
        if secret is not None and "client_secret_basic" in methods:
            pair = f"{quote_plus(self.client_id)}:{quote_plus(secret)}"
            headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        else:
            fields |= {"client_id": self.client_id} | ({} if secret is None else {"client_secret": secret})
        url, body = await self._endpoint("token_endpoint"), urlencode(fields).encode()
        answer = await self._send(HttpRequest("POST", url, headers, body))
        if answer.status == 429 or answer.status >= 500:
            raise Temporary(f"The provider's token endpoint answers {answer.status}.")
        return _object(answer.body), answer.status

    async def _send(self, request: HttpRequest) -> HttpResponse:
        bounded = replace(request, timeout_s=TIMEOUT_S, max_bytes=MOST_BYTES, max_redirects=0)
        try:
            return await self._http.request(bounded)
        except DustrunError as error:
            raise Temporary(f"The provider does not answer: {error.message}") from None

    async def _endpoint(self, name: str) -> str:
        url = (await self._about()).get(name)
        scheme = "https://" if self.url.startswith("https://") else "http"
        if not isinstance(url, str) or not url.startswith(scheme):
            raise Temporary(f"The provider's metadata has no {name} that begins with {scheme}.")
        return url

    async def _about(self) -> dict[str, Any]:
        try:
            return await self._issuer.about()
        except DustrunError:
            raise Temporary(
                f"The provider's metadata cannot be read from {self.url.rstrip('/')}{OF_OPENID}; `dustrun doctor` says "
                "why."
            ) from None


def _object(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _error_of(answer: dict[str, Any]) -> str:
    """The error that it names, which is a code and no text of others."""
    said = answer.get("error")
    is_code = isinstance(said, str) and len(said) <= 60 and said.replace("_", "").isalnum() and said.isascii()
    return str(said) if is_code else "it names no error"
