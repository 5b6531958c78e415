"""Whether an inbound request comes from who it should: by a header, or by a signature over the raw body."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal

from pydantic import Field, field_validator, model_validator

from dustrun.core.text import standard_webhooks
from dustrun.core.triggers.webhook_body import key_of
from dustrun.core.values.fields import Fields
from dustrun.records import dataclass

TOLERANCE_MS: Final = 300_000
HeaderName = Annotated[str, Field(pattern=r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$", max_length=100)]
_SECONDS = re.compile(r"[0-9]{1,11}")
_MILLIS = re.compile(r"[0-9]{13}")


class SecretUrl(Fields):
    """Whoever knows the address may call it."""

    type: Literal["secret-url"] = Field("secret-url", description="`secret-url`: only the address.")


class HeaderAuth(Fields):
    """A header holds the signing secret."""

    type: Literal["header"] = Field(description="`header`.")
    header: HeaderName = Field("X-Webhook-Token", description="The header; `Authorization` may begin with `Bearer `.")


class HmacAuth(Fields):
    """A header holds an HMAC of the raw body."""

    type: Literal["hmac"] = Field(description="`hmac`.")
    header: HeaderName = Field("X-Signature-256", description="The header with the signature.")
    algorithm: Literal["sha256", "sha512", "sha1"] = Field("sha256", description="The hash.")
    encoding: Literal["hex", "base64"] = Field("hex", description="How the signature is written.")
    prefix: str = Field("", max_length=40, description="What stands before the signature, such as `sha256=`.")
    signed: str = Field(
        "{body}",
        max_length=200,
        description="What is signed: text with `{body}` and, if the sender signs its time, `{timestamp}`.",
        examples=["v0:{timestamp}:{body}"],
    )
    timestamp_header: HeaderName | None = Field(
        None, description="The header with the time of sending, in seconds or milliseconds since 1970."
    )
    parameters: dict[Literal["signature", "timestamp"], str] | None = Field(
        None,
        description="For a header of the form `t=1700000000,v1=5257a8…`: the names of its parts.",
        examples=[{"timestamp": "t", "signature": "v1"}],
    )
    tolerance_ms: int = Field(
        TOLERANCE_MS, ge=1000, le=3_600_000, description="How old or how far ahead the time may be, in milliseconds."
    )

    @field_validator("signed")
    @classmethod
    def _signs_the_body(cls, signed: str) -> str:
        if signed.count("{body}") != 1 or signed.count("{timestamp}") > 1:
            raise ValueError("must have `{body}` once, and `{timestamp}` at most once")
        return signed

    @model_validator(mode="after")
    def _has_its_time(self) -> HmacAuth:
        if self.parameters is not None and "signature" not in self.parameters:
            raise ValueError("`parameters` needs the name of the `signature`")
        if ("{timestamp}" in self.signed) != self.is_timed:
            raise ValueError("a time counts only if it is signed: give `{timestamp}` in `signed` and where it is sent")
        return self

    @property
    def is_timed(self) -> bool:
        """Whether the time of sending is signed."""
        return self.timestamp_header is not None or "timestamp" in (self.parameters or {})


class StandardWebhooks(Fields):
    """Signatures of Standard Webhooks: `webhook-id`, `webhook-timestamp`, `webhook-signature`."""

    type: Literal["standard-webhooks"] = Field(description="`standard-webhooks`.")
    tolerance_ms: int = Field(
        TOLERANCE_MS, ge=1000, le=3_600_000, description="How old or how far ahead the time may be, in milliseconds."
    )


@dataclass(frozen=True, slots=True)
class Good:
    """The request is from who it should be. `key` identifies it, if the signature vouches for that; `sent_at`: when it
    was sent, in milliseconds."""

    key: str | None = None
    sent_at: int | None = None


@dataclass(frozen=True, slots=True)
class Bad:
    """The request is refused: a word for programs, a sentence for people."""

    reason: Literal["signature", "timestamp"]
    message: str


def verify(auth: Any, headers: Mapping[str, str], body: bytes, secrets: Sequence[str], now: int) -> Good | Bad:
    """Whether a request with these headers (names in lower case) is good under one of the secrets; `webhook_senders`
    asks it, and knows more kinds."""
    if isinstance(auth, HeaderAuth):
        return _verify_header(auth, headers, secrets)
    if isinstance(auth, HmacAuth):
        return _verify_hmac(auth, headers, body, secrets, now)
    if isinstance(auth, StandardWebhooks):
        return _verify_standard(auth, headers, body, secrets, now)
    return Good()


def secret_headers(auth: Any) -> frozenset[str]:
    """The headers that prove who sent a request; they are not shown."""
    if isinstance(auth, HeaderAuth | HmacAuth):
        return frozenset({auth.header.lower()})
    return frozenset({"webhook-signature"})


def _matches(sent: bytes, expected: Sequence[bytes]) -> bool:
    """Compares with every expected value, in constant time."""
    return sum(hmac.compare_digest(sent, one) for one in expected) > 0


def _verify_header(auth: HeaderAuth, headers: Mapping[str, str], secrets: Sequence[str]) -> Good | Bad:
    sent = headers.get(auth.header.lower())
    if sent is None:
        return Bad("signature", f"The header {auth.header} is missing.")
    if auth.header.lower() == "authorization" and sent[:7].lower() == "bearer ":
        sent = sent[7:].strip()
    if not _matches(sent.encode(), [secret.encode() for secret in secrets]):
        return Bad("signature", f"The value of {auth.header} is wrong.")
    return Good()


def _verify_hmac(
    auth: HmacAuth, headers: Mapping[str, str], body: bytes, secrets: Sequence[str], now: int
) -> Good | Bad:
    sent = headers.get(auth.header.lower())
    if sent is None:
        return Bad("signature", f"The header {auth.header} is missing.")
    signatures, timestamp = [sent], headers.get((auth.timestamp_header or "").lower())
    if auth.parameters is not None:
        parts = [tuple(part.strip().partition("=")[::2]) for part in sent.split(",")]
        signatures = [value for name, value in parts if name == auth.parameters["signature"]]
        if "timestamp" in auth.parameters:
            timestamp = next((value for name, value in parts if name == auth.parameters["timestamp"]), None)
    sent_at = moment(timestamp) if auth.is_timed else None
    if auth.is_timed and sent_at is None:
        return Bad("timestamp", "The time of sending is missing, or is no number of seconds since 1970.")
    before, _, after = auth.signed.replace("{timestamp}", timestamp or "").partition("{body}")
    content = before.encode() + body + after.encode()
    digests = [hmac.new(secret.encode(), content, auth.algorithm).digest() for secret in secrets]
    found = [raw for one in signatures[:10] if (raw := _decoded(auth, one)) is not None]
    if not sum(_matches(raw, digests) for raw in found):
        return Bad("signature", f"The signature in {auth.header} is not that of this body.")
    wrong = late(sent_at, now, auth.tolerance_ms)
    if wrong is not None:
        return wrong
    key = f"signed:{hashlib.sha256(content).hexdigest()}" if auth.is_timed else None
    return Good(key, sent_at)


def _decoded(auth: HmacAuth, signature: str) -> bytes | None:
    if not signature.startswith(auth.prefix):
        return None
    text = signature[len(auth.prefix) :].strip()
    try:
        return bytes.fromhex(text) if auth.encoding == "hex" else base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        return None


def _verify_standard(
    auth: StandardWebhooks, headers: Mapping[str, str], body: bytes, secrets: Sequence[str], now: int
) -> Good | Bad:
    wanted = ("webhook-id", "webhook-timestamp", "webhook-signature")
    missing = [name for name in wanted if not headers.get(name)]
    if missing:
        return Bad("signature", f"The header {missing[0]} is missing.")
    message_id, timestamp, signatures = (headers[name] for name in wanted)
    if not _SECONDS.fullmatch(timestamp):
        return Bad("timestamp", "webhook-timestamp is no number of seconds since 1970.")
    sent = [one.encode() for one in signatures.split()[:10]]
    keys = [key for secret in secrets if (key := _key_of(secret)) is not None]
    made = [standard_webhooks.signature(key, message_id, int(timestamp), body).encode() for key in keys]
    if not sum(_matches(one, made) for one in sent):
        return Bad("signature", "webhook-signature is not that of this body.")
    wrong = late(int(timestamp) * 1000, now, auth.tolerance_ms)
    return wrong if wrong is not None else Good(key_of("id", message_id), int(timestamp) * 1000)


def _key_of(secret: str) -> bytes | None:
    """The key of a secret; None for one of another kind."""
    try:
        return standard_webhooks.key_of(secret)
    except ValueError:
        return None


def moment(text: str | None) -> int | None:
    """A time of sending in milliseconds; None for text that is none."""
    if text is None:
        return None
    if _MILLIS.fullmatch(text):
        return int(text)
    return int(text) * 1000 if _SECONDS.fullmatch(text) else None


def late(sent_at: int | None, now: int, tolerance_ms: int) -> Bad | None:
    """A fault in a time of sending; None if it is good."""
    if sent_at is None or abs(now - sent_at) <= tolerance_ms:
        return None
    side = "old" if sent_at < now else "ahead of this server's clock"
    return Bad("timestamp", f"The time of sending is over {tolerance_ms // 1000} s {side}.")
