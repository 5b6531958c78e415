"""An OpenID Connect provider on loopback that answers as told, also wrongly. The real one is `testkit/oidc`."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import itertools
import json
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from aiohttp import web

from testkit.issuer import Issuer, rsa_key
from testkit.listening import listening

ADA = {"name": "Ada", "email": "ada@id.example.com", "email_verified": True}
CLIENT, SECRET = "dustrun", "a secret: of % the client"


@dataclass(slots=True)
class IdentityProvider(Issuer):
    """Its people by subject, with their claims; whoever is taken out is no longer one of its own. `lies`: claims of ID
    tokens that are other than they should be; None leaves one out."""

    people: dict[str, dict[str, Any]] = field(default_factory=dict)
    lies: dict[str, Any] = field(default_factory=dict)
    signed_by: Any = None
    tells_in_token: bool = True
    gives_refresh: bool = True
    is_silent: bool = False
    leaves_at: str | None = None
    renewed: list[str] = field(default_factory=list)
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    refreshing: dict[str, str] = field(default_factory=dict)
    accesses: dict[str, str] = field(default_factory=dict)
    numbers: Any = field(default_factory=itertools.count)

    def sign_in(self, url: str, subject: str) -> dict[str, str]:
        """What it sends the browser back with, after somebody has signed in at the address that it was sent to."""
        asked = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        assert asked["client_id"] == CLIENT
        assert asked["response_type"] == "code"
        assert asked["code_challenge_method"] == "S256"
        code = f"code-{next(self.numbers)}"
        self.codes[code] = {**asked, "subject": subject}
        return {"state": asked["state"], "code": code, "iss": self.url}

    @property
    def settings(self) -> dict[str, Any]:
        """Those of a server whose people sign in here."""
        return {
            "sign_in_issuer": self.url,
            "sign_in_client_id": CLIENT,
            "sign_in_client_secret": SECRET,
            "sign_in_groups": {"*": ["run:read"]},
            "sign_in_create": True,
            "sign_in_check_s": 3600.0,
        }

    @property
    def texts(self) -> dict[str, str]:
        """The settings as a server's environment has them."""
        return {name: one if isinstance(one, str) else json.dumps(one) for name, one in self.settings.items()}

    def about(self) -> dict[str, Any]:
        """Its metadata."""
        return {
            "issuer": self.url,
            "jwks_uri": f"{self.url}/keys",
            "authorization_endpoint": f"{self.url}/authorize?tenant=1",
            "token_endpoint": f"{self.url}/token",
            "userinfo_endpoint": f"{self.url}/me",
            **({"end_session_endpoint": self.leaves_at} if self.leaves_at else {}),
            "authorization_response_iss_parameter_supported": True,
        }

    def answer(self, fields: dict[str, str], authorization: str) -> tuple[int, dict[str, Any]]:
        """The answer of the token endpoint."""
        pair = base64.b64decode(authorization.partition(" ")[2]).decode()
        if pair != f"{CLIENT}:a+secret%3A+of+%25+the+client":
            return 401, {"error": "invalid_client"}
        if fields["grant_type"] == "refresh_token":
            subject = self.refreshing.pop(fields["refresh_token"], None)
            self.renewed.append(subject or "?")
            asked: dict[str, str] = {}
        else:
            asked = self.codes.pop(fields["code"], {})
            challenge = base64.urlsafe_b64encode(hashlib.sha256(fields["code_verifier"].encode()).digest()).decode()
            is_same = challenge.rstrip("=") == asked.get("code_challenge") and fields["redirect_uri"] == asked.get(
                "redirect_uri"
            )
            subject = asked.get("subject") if is_same else None
        if subject not in self.people:
            return 400, {"error": "invalid_grant"}
        access, refresh = f"access-{next(self.numbers)}", f"refresh-{next(self.numbers)}"
        self.accesses[access] = subject
        told = self.people[subject] if self.tells_in_token else {}
        claims = {"nonce": asked.get("nonce"), "aud": CLIENT, **told, **self.lies}
        found = {"access_token": access, "token_type": "Bearer"}
        found["id_token"] = self.token(subject, head={"typ": "JWT"}, key=self.signed_by, **claims)
        if self.gives_refresh:
            self.refreshing[refresh] = subject
            found["refresh_token"] = refresh
        return 200, found

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answers a request."""
        self.asked.append(request.path)
        if self.is_down or (self.is_silent and request.path == "/token"):
            return web.Response(status=503)
        if request.path == "/.well-known/openid-configuration":
            return web.json_response(self.about())
        if request.path == "/keys":
            return web.json_response(self.published())
        if request.path == "/token":
            fields = {name: values[0] for name, values in parse_qs((await request.read()).decode()).items()}
            status, found = self.answer(fields, request.headers.get("Authorization", ""))
            return web.json_response(found, status=status)
        if request.path == "/me":
            subject = self.accesses.get(request.headers.get("Authorization", "").partition(" ")[2], "")
            return web.json_response({"sub": subject, **self.people.get(subject, {})})
        return web.Response(status=404)


@asynccontextmanager
async def providing(**people: dict[str, Any]) -> AsyncIterator[IdentityProvider]:
    """A provider with these people; by default one."""
    provider = IdentityProvider(keys={"one": rsa_key()}, people=people or {"ada": ADA})
    runner = web.ServerRunner(web.Server(provider.handle), shutdown_timeout=0.1)
    async with listening(runner) as provider.url:
        yield provider


@contextmanager
def providing_beside(**people: dict[str, Any]) -> Iterator[IdentityProvider]:
    """The same in a thread, for tests that have no loop."""
    found: Future[IdentityProvider] = Future()
    loop, ended = asyncio.new_event_loop(), asyncio.Event()

    async def provide() -> None:
        async with providing(**people) as provider:
            found.set_result(provider)
            await ended.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(provide(),), daemon=True)
    thread.start()
    try:
        yield found.result(60)
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join(60)
        loop.close()
