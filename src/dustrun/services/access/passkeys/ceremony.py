"""Requests to a browser for a passkey, and the check of its answer: of this origin, this challenge, this key."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from dustrun.core.values import exact_json
from dustrun.errors import Code, Forbidden
from dustrun.records import dataclass
from dustrun.storage.access.passkeys import PasskeyRow
from dustrun.storage.access.people import PersonRow

ANSWER_MS: Final = 300_000
"""How long a browser has to answer."""
_ALGORITHMS: Final = (-8, -7, -257)
_USUAL_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class RelyingParty:
    """The server's public address, to which passkeys are bound."""

    host: str
    origin: str


@dataclass(frozen=True, slots=True)
class NewCredential:
    """The id and the public key by which a passkey is recognised."""

    id: str
    public_key: str
    sign_count: int


def place_of(base_url: str) -> RelyingParty:
    """The place of a server with this base URL."""
    url = urlsplit(base_url)
    host = url.hostname or ""
    shown = f"[{host}]" if ":" in host else host
    port = "" if url.port in (None, _USUAL_PORTS.get(url.scheme)) else f":{url.port}"
    return RelyingParty(host, f"{url.scheme}://{shown}{port}")


def creation_options(
    place: RelyingParty, person: PersonRow, challenge: str, known: Sequence[PasskeyRow]
) -> dict[str, Any]:
    """The `publicKey` of `navigator.credentials.create()`, as JSON: a key that names its person and checks who they
    are."""
    return {
        "rp": {"id": place.host, "name": "Dustrun"},
        "user": {"id": encode(person.id.encode()), "name": person.email, "displayName": person.name},
        "challenge": challenge,
        "pubKeyCredParams": [{"type": "public-key", "alg": one} for one in _ALGORITHMS],
        "timeout": ANSWER_MS,
        "excludeCredentials": [{"type": "public-key", "id": one.credential_id} for one in known],
        "authenticatorSelection": {
            "residentKey": "required",
            "requireResidentKey": True,
            "userVerification": "required",
        },
        "attestation": "none",
    }


def request_options(place: RelyingParty, challenge: str) -> dict[str, Any]:
    """The `publicKey` of `navigator.credentials.get()`, as JSON: any passkey of this server will do."""
    return {
        "challenge": challenge,
        "rpId": place.host,
        "timeout": ANSWER_MS,
        "allowCredentials": [],
        "userVerification": "required",
    }


def challenge_of(credential: Mapping[str, Any]) -> str:
    """Which challenge a credential says that it answers; raises `Forbidden`."""
    try:
        told = exact_json.loads(decode(credential["response"]["clientDataJSON"]).decode())
        challenge = told["challenge"]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise refused("it is no credential as browsers make them") from error
    if not isinstance(challenge, str):
        raise refused("it is no credential as browsers make them")
    return challenge


async def check_new(place: RelyingParty, credential: Mapping[str, Any], challenge: str) -> NewCredential:
    """The id and the public key of a new passkey; raises `Forbidden` if the answer is not right."""

    def check() -> NewCredential:
        from webauthn import verify_registration_response  # slow import
        from webauthn.helpers.exceptions import WebAuthnException  # slow import

        try:
            found = verify_registration_response(
                credential=dict(credential),
                expected_challenge=decode(challenge),
                expected_rp_id=place.host,
                expected_origin=place.origin,
                require_user_verification=True,
            )
        except (WebAuthnException, KeyError, TypeError, ValueError) as error:
            raise refused(str(error)) from error
        return NewCredential(encode(found.credential_id), encode(found.credential_public_key), found.sign_count)

    return await asyncio.to_thread(check)


async def check_use(place: RelyingParty, credential: Mapping[str, Any], challenge: str, row: PasskeyRow) -> int:
    """How often a passkey says that it was used, after its answer was found right; raises `Forbidden`."""

    def check() -> int:
        from webauthn import verify_authentication_response  # slow import
        from webauthn.helpers.exceptions import WebAuthnException  # slow import

        try:
            found = verify_authentication_response(
                credential=dict(credential),
                expected_challenge=decode(challenge),
                expected_rp_id=place.host,
                expected_origin=place.origin,
                credential_public_key=decode(row.public_key),
                credential_current_sign_count=row.sign_count,
                require_user_verification=True,
            )
        except (WebAuthnException, KeyError, TypeError, ValueError) as error:
            raise refused(str(error)) from error
        return found.new_sign_count

    return await asyncio.to_thread(check)


def refused(why: str) -> Forbidden:
    """The passkey's answer is not right."""
    return Forbidden(f"The passkey is refused: {why[:300]}.", code=Code.PASSKEY_REFUSED)


def encode(raw: bytes) -> str:
    """Base64url without padding, as browsers write it."""
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def decode(text: str) -> bytes:
    """The bytes of a base64url text; raises `ValueError`."""
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, TypeError) as error:
        raise ValueError("it is not in base64url") from error
