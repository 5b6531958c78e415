"""Access tokens of an outside issuer at `/mcp`: each stands for the key that the operator named for its subject."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from pathlib import Path
from typing import Any

import jwt
import pytest

from dustrun.errors import Temporary, Unauthenticated
from dustrun.services.access.oidc.outside_tokens import OutsideTokens
from outbound.loopback import client
from testkit.composition import Client, Composition, composed
from testkit.issuer import Issuer, issuing, rsa_key

_AUDIENCE = "https://dustrun.example/mcp"
_LIST = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}


async def _asked(api: Client, token: str, path: str = "/mcp") -> tuple[int, Any, str]:
    """Status, body, and what the answer says of authentication."""
    headers = {"Authorization": f"Bearer {token}"}
    if path == "/mcp":
        answer = await api.http.post(path, json=_LIST, headers=headers)
    else:
        answer = await api.http.get(path, headers=headers)
    return answer.status_code, answer.json(), answer.headers.get("www-authenticate", "")


def _forged(issuer: Issuer) -> dict[str, str]:
    """Tokens that are none, by what is wrong with them."""
    now, good = int(time.time()), issuer.token()
    head, _, signature = good.split(".")
    other = base64.urlsafe_b64encode(json.dumps({"sub": "ada", "iss": issuer.url}).encode()).rstrip(b"=").decode()
    claims = {"iss": issuer.url, "aud": _AUDIENCE, "sub": "ada", "exp": now + 300}
    return {
        "audience": issuer.token(aud="https://other.example/mcp"),
        "no audience": issuer.token(aud=None),
        "issuer": issuer.token(iss="https://other.example"),
        "expired": issuer.token(exp=now - 100),
        "no end": issuer.token(exp=None),
        "not yet": issuer.token(nbf=now + 300),
        "no subject": issuer.token(sub=None),
        "unknown subject": issuer.token("eve"),
        "subject of a revoked key": issuer.token("bob"),
        "another's key": issuer.token(key=rsa_key()),
        "unknown key": issuer.token(key=rsa_key(), head={"kid": "nine"}),
        "tampered": f"{head}.{other}.{signature}",
        "unsigned": jwt.encode(claims, "", algorithm="none", headers={"kid": "one"}),
        "shared secret": jwt.encode(claims, "x" * 40, algorithm="HS256", headers={"kid": "one"}),
        "another kind": issuer.token(head={"typ": "dpop+jwt"}),
        "no token": "a.b.c",
        "large": f"{good}{'x' * 20_000}",
    }


@pytest.mark.both_stores
async def test_tokens_of_an_issuer(tmp_path: Path, store_url: str) -> None:
    async with issuing(_AUDIENCE) as issuer:
        settings: dict[str, Any] = {"outbound_allow": ("127.0.0.1",), "public_url": "https://dustrun.example"}
        settings["wrong_keys_per_second"] = 0
        async with composed(tmp_path, database_url=store_url, **settings) as server:
            made = [(await server.owner.post("/v1/api-keys", {"name": "m", "scope": "mcp"})).data for _ in range(2)]
            assert (await _asked(server.owner, issuer.token()))[0] == 401  # no issuer is set
        assert issuer.asked == []
        settings |= {"oauth_issuer": issuer.url, "oauth_keys": (f"ada={made[0]['id']}", f"bob={made[1]['id']}")}
        async with composed(tmp_path, database_url=store_url, **settings) as server:
            api = server.owner
            about = (await api.http.get("/.well-known/oauth-protected-resource/mcp")).json()
            assert (about["resource"], about["authorization_servers"]) == (_AUDIENCE, [issuer.url])
            issuer.is_down = True
            assert (await _asked(api, issuer.token()))[0] == 503
            await _waited_for_together(server, issuer)
            issuer.is_down = False
            for by in ("one", "two"):
                status, answer, _ = await _asked(api, issuer.token(by=by))
                assert (status, len(answer["result"]["tools"])) == (200, 12)
            assert (await _asked(api, issuer.token(aud=["https://x.example", _AUDIENCE])))[0] == 200
            assert (await api.delete(f"/v1/api-keys/{made[1]['id']}")).status == 200
            before = len(issuer.asked)
            for what, token in _forged(issuer).items():
                status, answer, told = await _asked(api, token)
                assert (status, answer["code"]) == (401, 401001), what
                assert told == (
                    'Bearer resource_metadata="https://dustrun.example/.well-known/oauth-protected-resource/mcp", '
                    'error="invalid_token"'
                )
                assert token not in json.dumps(answer)
            assert len(issuer.asked) == before  # keys that nobody knows are not asked for again and again
            assert (await _asked(api, issuer.token(), "/v1/workflows"))[0] == 401  # it is a key of `/mcp` alone
            issuer.is_down = True  # what is known stays known
            assert (await _asked(api, issuer.token()))[0] == 200

            issuer.is_down = False
            await _rotated(server, issuer)


async def _waited_for_together(server: Composition, issuer: Issuer) -> None:
    """Whoever waits for the keys of an issuer that does not answer is told with the first, not one after the other."""
    async with client() as http:
        tokens = OutsideTokens(server.parts.settings, server.parts.database, http)
        before = len(issuer.asked)
        found = await asyncio.gather(*(tokens.find(issuer.token()) for _ in range(5)), return_exceptions=True)
        assert [type(one) for one in found] == [Temporary] * 5
        assert len(issuer.asked) - before == 2  # at both places of its metadata
        with pytest.raises(Temporary):
            await tokens.find(issuer.token())
        assert len(issuer.asked) - before == 4


async def _rotated(server: Composition, issuer: Issuer) -> None:
    """A key that is new is read when a token names it, and one that is gone is none."""
    old = issuer.token()
    async with client() as http:
        tokens = OutsideTokens(server.parts.settings, server.parts.database, http, again_s=0.0)
        assert (await tokens.find(old)).org_id
        issuer.keys = {"three": rsa_key()}
        found = await tokens.find(issuer.token(by="three"))
        assert found.expires_at is not None  # it ends with the token
        assert found.expires_at <= (time.time() + 301) * 1000
        with pytest.raises(Unauthenticated, match="signed by no key"):
            await tokens.find(old)
