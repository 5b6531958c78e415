"""An authenticator in software, with the browser around it: makes passkeys and answers with them, also wrongly."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from typing import Any
from urllib.parse import urlsplit

import cbor2
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

Json = dict[str, Any]
_PRESENT, _VERIFIED, _HAS_KEY = 1, 4, 64


def encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


class Authenticator:
    """One device. `origin`: of the page that asks; `checks`: whether the device checks who is there."""

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self.checks = True
        self.count = 0
        self._keys: dict[str, tuple[ec.EllipticCurvePrivateKey, str]] = {}

    def create(self, options: Json) -> Json:
        """What `navigator.credentials.create()` answers."""
        key, credential_id = ec.generate_private_key(ec.SECP256R1()), os.urandom(16)
        self._keys[encode(credential_id)] = (key, options["user"]["id"])
        point = key.public_key().public_numbers()
        cose = cbor2.dumps({1: 2, 3: -7, -1: 1, -2: point.x.to_bytes(32), -3: point.y.to_bytes(32)})
        about = self._about(_HAS_KEY) + bytes(16) + len(credential_id).to_bytes(2) + credential_id + cose
        attested = cbor2.dumps({"fmt": "none", "attStmt": {}, "authData": about})
        told = {"attestationObject": encode(attested)}
        return self._credential(encode(credential_id), "webauthn.create", options["challenge"], told)

    def get(self, options: Json, credential_id: str | None = None, **changes: str) -> Json:
        """What `navigator.credentials.get()` answers, with the newest key unless another one is named; `changes`
        replaces parts of the response."""
        chosen = credential_id or list(self._keys)[-1]
        key, user = self._keys[chosen]
        self.count += 1
        about = self._about(0)
        told = {"authenticatorData": encode(about), "userHandle": user}
        made = self._credential(chosen, "webauthn.get", options["challenge"], told)
        said = base64.urlsafe_b64decode(made["response"]["clientDataJSON"] + "==")
        signed = key.sign(about + hashlib.sha256(said).digest(), ec.ECDSA(hashes.SHA256()))
        made["response"] |= {"signature": encode(signed), **changes}
        return made

    def _about(self, more: int) -> bytes:
        host = urlsplit(self.origin).hostname or ""
        flags = _PRESENT | (_VERIFIED if self.checks else 0) | more
        return hashlib.sha256(host.encode()).digest() + bytes([flags]) + self.count.to_bytes(4)

    def _credential(self, credential_id: str, kind: str, challenge: str, told: Json) -> Json:
        said = json.dumps({"type": kind, "challenge": challenge, "origin": self.origin, "crossOrigin": False})
        response = {"clientDataJSON": encode(said.encode()), **told}
        return {"id": credential_id, "rawId": credential_id, "type": "public-key", "response": response}
