"""Webhooks of well-known senders: what each signs, what identifies an event when it is delivered again, and what it
asks before it sends events.

Senders that sign with a shared secret are data. Discord and Twilio sign in ways of their own. Google and Amazon sign
with keys that they publish: `key_url` says where, and whoever verifies passes what is there as the secret.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal
from urllib.parse import parse_qsl, urlsplit

from pydantic import Field

from dustrun.core.triggers import webhook_auth
from dustrun.core.triggers.webhook_auth import (
    Bad,
    Good,
    HeaderAuth,
    HmacAuth,
    SecretUrl,
    StandardWebhooks,
    late,
    moment,
)
from dustrun.core.triggers.webhook_body import FORM, key_of
from dustrun.core.values import exact_json
from dustrun.core.values.fields import Fields
from dustrun.records import dataclass

_MOST_SIGNED: Final = 300_000
_GOOGLE_KEYS: Final = "https://www.googleapis.com/oauth2/v3/certs"
_GOOGLE: Final = frozenset({"https://accounts.google.com", "accounts.google.com"})
_SNS_HOST: Final = r"https://sns\.[a-z0-9-]{3,30}\.amazonaws\.com(\.cn)?/"
_SNS_CERTIFICATE: Final = re.compile(_SNS_HOST + r"SimpleNotificationService-[0-9a-f]{32}\.pem")
_SNS_CONFIRM: Final = re.compile(_SNS_HOST + r"\?Action=ConfirmSubscription&[!-~]{1,2000}")
_LEEWAY_S: Final = 60
_ASKS_FOR_OPTIONS: Final = b"%22type%22%3A%22block_suggestion%22"
"""In a request of Slack that is no event: it wants an answer each time, also to the same question."""


class Preset(Fields):
    """A sender that signs with a shared secret."""

    type: Literal["stripe", "github", "slack", "shopify"] = Field(
        description="`stripe`, `github`, `slack` or `shopify`: its signature, and its id of an event."
    )


class Discord(Fields):
    """Interactions and events of a Discord application."""

    type: Literal["discord"] = Field(description="`discord`.")
    public_key: str = Field(pattern=r"^[0-9a-fA-F]{64}$", description="The application's public key; it is no secret.")


class GooglePubSub(Fields):
    """Push subscriptions of Google Pub/Sub that authenticate with a token."""

    type: Literal["google-pubsub"] = Field(description="`google-pubsub`.")
    service_account: str = Field(
        max_length=320, pattern=r"^[^\s@]+@[^\s@]+$", description="The service account of the push subscription."
    )
    audience: str | None = Field(
        None, min_length=1, max_length=2000, description="The audience of its tokens; null: the webhook's address."
    )


class AwsSns(Fields):
    """A topic of Amazon SNS. The subscription is confirmed by itself."""

    type: Literal["aws-sns"] = Field(description="`aws-sns`.")
    topic_arn: str = Field(
        max_length=300, pattern=r"^arn:aws[a-z-]*:sns:[^:\s]+:[0-9]{12}:[^:\s]+$", description="The topic."
    )


class Twilio(Fields):
    """Requests of Twilio, signed with the account's auth token."""

    type: Literal["twilio"] = Field(description="`twilio`.")


Auth = Annotated[
    SecretUrl | HeaderAuth | HmacAuth | StandardWebhooks | Preset | Discord | GooglePubSub | AwsSns | Twilio,
    Field(discriminator="type"),
]


@dataclass(frozen=True, slots=True)
class _Sender:
    """How a preset signs, and where its id of an event is: a header, with what tells its events apart in others, or a
    path in the body."""

    auth: HmacAuth
    ids: tuple[tuple[str, ...], ...]


_PRESETS: Final[Mapping[str, _Sender]] = {
    "stripe": _Sender(
        HmacAuth(
            type="hmac",
            header="Stripe-Signature",
            signed="{timestamp}.{body}",
            parameters={"timestamp": "t", "signature": "v1"},
        ),
        (("body", "id"),),
    ),
    "github": _Sender(
        HmacAuth(type="hmac", header="X-Hub-Signature-256", prefix="sha256="), (("header", "x-github-delivery"),)
    ),
    "slack": _Sender(
        HmacAuth(
            type="hmac",
            header="X-Slack-Signature",
            prefix="v0=",
            signed="v0:{timestamp}:{body}",
            timestamp_header="X-Slack-Request-Timestamp",
        ),
        (("body", "event_id"), ("body", "trigger_id")),
    ),
    "shopify": _Sender(
        HmacAuth(type="hmac", header="X-Shopify-Hmac-Sha256", encoding="base64"),
        (("header", "x-shopify-event-id", "x-shopify-topic"), ("header", "x-shopify-webhook-id")),
    ),
}
_IDS: Final[Mapping[str, tuple[tuple[str, ...], ...]]] = {
    **{name: sender.ids for name, sender in _PRESETS.items()},
    "discord": (("body", "id"),),
    "google-pubsub": (("body", "message", "messageId"),),
    "aws-sns": (("body", "MessageId"),),
    "twilio": (("header", "i-twilio-idempotency-token"),),
}


@dataclass(frozen=True, slots=True)
class Handshake:
    """A request that is no event: it asks whether somebody is there. `answer` is sent back (None: nothing is), after
    `visit`, an address that the sender wants to be asked for."""

    message: str
    answer: dict[str, Any] | None = None
    visit: str | None = None


def verify(
    auth: Any, headers: Mapping[str, str], body: bytes, secrets: Sequence[str], now: int, url: str = ""
) -> Good | Bad:
    """Whether a request with these headers (names in lower case) is good under one of the secrets, or under what is at
    `key_url`. `url`: the address that its sender called, with the query."""
    if isinstance(auth, Preset):
        found = webhook_auth.verify(_PRESETS[auth.type].auth, headers, body, secrets, now)
        if isinstance(found, Bad) or found.key is None or _ASKS_FOR_OPTIONS in body:
            return found
        return Good(_key_of_body(body), found.sent_at)
    if isinstance(auth, Discord):
        return _verify_discord(auth, headers, body, now)
    if isinstance(auth, GooglePubSub):
        return _verify_google(auth, headers, secrets, now, url)
    if isinstance(auth, AwsSns):
        return _verify_sns(auth, body, secrets)
    if isinstance(auth, Twilio):
        return _verify_twilio(headers, body, secrets, url)
    return webhook_auth.verify(auth, headers, body, secrets, now)


def needs_secret(auth: Any) -> bool:
    """Whether there is a signing secret beside the address."""
    return not isinstance(auth, SecretUrl | Discord | GooglePubSub | AwsSns)


def secret_headers(auth: Any) -> frozenset[str]:
    """The headers that prove who sent a request; they are not shown."""
    if isinstance(auth, Preset):
        return webhook_auth.secret_headers(_PRESETS[auth.type].auth)
    return webhook_auth.secret_headers(auth) | {"x-signature-ed25519", "x-twilio-signature"}


def key_url(auth: Any, body: bytes) -> str | None:
    """Where the key is published that the sender signs with; None: nowhere, or the request cannot be good."""
    if isinstance(auth, GooglePubSub):
        return _GOOGLE_KEYS
    if not isinstance(auth, AwsSns):
        return None
    found = _sns_message(auth, body).get("SigningCertURL")
    return found if isinstance(found, str) and _SNS_CERTIFICATE.fullmatch(found) else None


def names_events(auth: Any) -> bool:
    """Whether the sender gives each event an id that is the same when it delivers the event again."""
    return isinstance(auth, StandardWebhooks) or getattr(auth, "type", None) in _IDS


def event_key(auth: Any, headers: Mapping[str, str], payload: Mapping[str, Any]) -> str | None:
    """The key of an event by the sender's own id; None if the request has none."""
    for place, *path in _IDS.get(auth.type, ()):
        found: Any = headers.get(path[0]) if place == "header" else payload
        for name in path if place == "body" else ():
            found = found.get(name) if isinstance(found, Mapping) else None
        if isinstance(found, str) and found.strip():
            more = [headers[name] for name in path[1:] if place == "header" and name in headers]
            return key_of("id", ":".join([found, *more]))
    return None


def content_type(auth: Any, sent: str | None) -> str | None:
    """The body as the sender means it: SNS sends JSON as text."""
    return "application/json" if isinstance(auth, AwsSns) else sent


def handshake(auth: Any, headers: Mapping[str, str], payload: Mapping[str, Any]) -> Handshake | None:
    """The answer that a good request asks for if it is no event."""
    kind = getattr(auth, "type", None)
    if kind == "slack" and payload.get("type") == "url_verification":
        return Handshake("Slack has verified the address.", {"challenge": payload.get("challenge")})
    if kind == "github" and headers.get("x-github-event") == "ping":
        return Handshake("GitHub has tried the address.", {})
    if kind == "discord" and "event" not in payload and payload.get("type") in (0, 1):
        return Handshake("Discord has verified the address.", {"type": 1} if payload["type"] == 1 else None)
    if kind == "aws-sns" and payload.get("Type") != "Notification":
        visit = payload["SubscribeURL"] if payload.get("Type") == "SubscriptionConfirmation" else None
        message = "The subscription was confirmed." if visit is not None else "The subscription has ended."
        return Handshake(message, {}, visit)
    return None


def _verify_discord(auth: Discord, headers: Mapping[str, str], body: bytes, now: int) -> Good | Bad:
    from cryptography.exceptions import InvalidSignature  # slow import
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    signature, timestamp = headers.get("x-signature-ed25519"), headers.get("x-signature-timestamp")
    if signature is None or timestamp is None:
        return Bad("signature", "The headers X-Signature-Ed25519 and X-Signature-Timestamp are missing.")
    signed = timestamp.encode() + body
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(auth.public_key)).verify(bytes.fromhex(signature), signed)
    except (InvalidSignature, ValueError):
        return Bad("signature", "The signature in X-Signature-Ed25519 is not that of this body.")
    sent_at = moment(timestamp)
    if sent_at is None:
        return Bad("timestamp", "X-Signature-Timestamp is no number of seconds since 1970.")
    return late(sent_at, now, webhook_auth.TOLERANCE_MS) or Good(_key_of_body(body), sent_at)


def _key_of_body(body: bytes) -> str:
    """Of an event without an id. The time is left out: a redelivery is signed at one of its own."""
    return f"signed:{hashlib.sha256(body).hexdigest()}"


def _verify_google(
    auth: GooglePubSub, headers: Mapping[str, str], keys: Sequence[str], now: int, url: str
) -> Good | Bad:
    import jwt  # slow import

    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        return Bad("signature", "The header Authorization has no token; enable authentication of the subscription.")
    try:
        wanted = jwt.get_unverified_header(token).get("kid")
        known = [one for text in keys for one in exact_json.loads(text).get("keys", ()) if one.get("kid") == wanted]
        if not known:
            return Bad("signature", "The token is signed by no key of Google.")
        options: Any = {"verify_exp": False, "verify_iat": False, "require": ["exp", "iat", "aud", "iss"]}
        claims = jwt.decode(
            token, jwt.PyJWK(known[0]).key, algorithms=["RS256"], audience=auth.audience or url, options=options
        )
    except (jwt.PyJWTError, ValueError) as error:
        return Bad("signature", f"The token is not good: {type(error).__name__}.")
    if claims["iss"] not in _GOOGLE or claims.get("email_verified") is not True:
        return Bad("signature", "The token is not one of Google for a verified account.")
    if claims.get("email") != auth.service_account:
        return Bad("signature", "The token is of another service account.")
    if not int(claims["iat"]) - _LEEWAY_S <= now // 1000 <= int(claims["exp"]) + _LEEWAY_S:
        return Bad("timestamp", "The token has expired, or is of the future.")
    return Good()


def _sns_message(auth: AwsSns, body: bytes) -> dict[str, Any]:
    """A message of the topic; empty for anything else."""
    try:
        found = exact_json.loads_unique(body) if len(body) <= _MOST_SIGNED else None
    except ValueError:
        return {}
    return found if isinstance(found, dict) and found.get("TopicArn") == auth.topic_arn else {}


_OF_NOTIFICATION: Final = ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type")
_OF_SUBSCRIPTION: Final = ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")


def _verify_sns(auth: AwsSns, body: bytes, certificates: Sequence[str]) -> Good | Bad:
    from cryptography.exceptions import InvalidSignature  # slow import
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.x509 import load_pem_x509_certificate

    found = _sns_message(auth, body)
    if not found or not certificates:
        return Bad("signature", "The body is no message of this topic, signed by Amazon SNS.")
    names = _OF_NOTIFICATION if found.get("Type") == "Notification" else _OF_SUBSCRIPTION
    signed = "".join(f"{name}\n{found[name]}\n" for name in names if found.get(name) is not None)
    digest = hashes.SHA256() if found.get("SignatureVersion") == "2" else hashes.SHA1()  # noqa: S303 - the sender's
    try:
        key = load_pem_x509_certificate(certificates[0].encode()).public_key()
        assert isinstance(key, RSAPublicKey)
        key.verify(base64.b64decode(str(found.get("Signature")), validate=True), signed.encode(), PKCS1v15(), digest)
    except (InvalidSignature, ValueError, AssertionError):
        return Bad("signature", "The field Signature is not that of this message.")
    if found.get("Type") == "SubscriptionConfirmation" and not _SNS_CONFIRM.fullmatch(str(found.get("SubscribeURL"))):
        return Bad("signature", "The field SubscribeURL is no address of Amazon SNS.")
    return Good()


def _verify_twilio(headers: Mapping[str, str], body: bytes, secrets: Sequence[str], url: str) -> Good | Bad:
    sent = headers.get("x-twilio-signature")
    if sent is None:
        return Bad("signature", "The header X-Twilio-Signature is missing.")
    parts = urlsplit(url)
    digest = dict(parse_qsl(parts.query)).get("bodySHA256")
    text = ""
    if digest is not None:
        if not hmac.compare_digest(hashlib.sha256(body).hexdigest().encode(), digest.lower().encode()):
            return Bad("signature", "bodySHA256 of the address is not that of this body.")
    elif body.strip():
        if headers.get("content-type", "").partition(";")[0].strip().lower() != FORM:
            return Bad("signature", "A body that is no form needs bodySHA256 in the address.")
        try:
            fields = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=1000)
        except ValueError:
            return Bad("signature", "The form cannot be read.")
        text = "".join(f"{name}{value}" for name, value in sorted(set(fields)))
    try:
        raw = base64.b64decode(sent, validate=True)
    except (ValueError, binascii.Error):
        return Bad("signature", "X-Twilio-Signature is not base64.")
    with_port = parts._replace(netloc=f"{parts.hostname}:{parts.port or (443 if parts.scheme == 'https' else 80)}")
    urls = [url, parts._replace(netloc=parts.hostname or "").geturl(), with_port.geturl()]
    made = [hmac.new(key.encode(), f"{one}{text}".encode(), "sha1").digest() for key in secrets for one in urls]
    if not sum(hmac.compare_digest(raw, one) for one in made):
        return Bad("signature", "X-Twilio-Signature is not that of this request.")
    return Good()
