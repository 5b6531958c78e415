"""An issuer of access tokens on loopback: metadata, keys, and tokens of any kind, good and bad."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from testkit.listening import listening


def rsa_key() -> Any:
    """A fresh key."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@dataclass(slots=True)
class Issuer:
    """Its address, the keys that it publishes by their ids, and how often it was asked for what."""

    url: str = ""
    audience: str = ""
    keys: dict[str, Any] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    is_down: bool = False

    def published(self) -> dict[str, Any]:
        """The public keys."""
        found = []
        for name, key in self.keys.items():
            is_rsa = isinstance(key, rsa.RSAPrivateKey)
            public = (RSAAlgorithm if is_rsa else ECAlgorithm).to_jwk(key.public_key())
            found.append({**json.loads(public), "kid": name, "use": "sig", "alg": "RS256" if is_rsa else "ES256"})
        return {"keys": [{"kty": "oct", "kid": "shared", "k": "AAAA"}, {"kty": "nonsense"}, *found]}

    def token(self, subject: str = "ada", *, by: str = "one", key: Any = None, head: Any = None, **claims: Any) -> str:
        """A token of a subject; a claim that is None is left out. `key`: signed by another than the published one."""
        now = int(time.time())
        given = {"iss": self.url, "aud": self.audience, "sub": subject, "iat": now, "exp": now + 300, **claims}
        body = {name: value for name, value in given.items() if value is not None}
        signer = key or self.keys[by]
        algorithm = "ES256" if isinstance(signer, ec.EllipticCurvePrivateKey) else "RS256"
        return jwt.encode(body, signer, algorithm=algorithm, headers={"kid": by, "typ": "at+jwt", **(head or {})})


@asynccontextmanager
async def issuing(audience: str) -> AsyncIterator[Issuer]:
    """An issuer with an RSA and an EC key."""
    keys = {"one": rsa_key(), "two": ec.generate_private_key(ec.SECP256R1())}
    issuer = Issuer(audience=audience, keys=keys)

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        issuer.asked.append(request.path)
        if issuer.is_down:
            return web.Response(status=503)
        if request.path == "/.well-known/openid-configuration":
            return web.json_response({"issuer": issuer.url, "jwks_uri": f"{issuer.url}/keys"})
        return web.json_response(issuer.published()) if request.path == "/keys" else web.Response(status=404)

    runner = web.ServerRunner(web.Server(handle), shutdown_timeout=0.1)
    async with listening(runner) as issuer.url:
        yield issuer
