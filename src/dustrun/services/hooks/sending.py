"""One attempt of one delivery: signed, sent through the guard, and its answer read up to a limit."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import field
from typing import Any, Final

from dustrun import clock, ids
from dustrun.core.text import standard_webhooks
from dustrun.core.text.masking import Mask
from dustrun.core.values import exact_json
from dustrun.errors import DustrunError
from dustrun.log import mask_text
from dustrun.records import dataclass
from dustrun.sdk.context import Http, HttpRequest
from dustrun.storage.hooks.deliveries import DeliveryRow

# The signing secrets of a hook: the current one, and during a rotation the previous one too.


KIND = "hook"
_BYTES = 32


@dataclass(frozen=True, slots=True)
class Secrets:
    """`previous` signs too until `previous_until`, in milliseconds."""

    current: str
    previous: str | None = None
    previous_until: int = 0

    @classmethod
    def new(cls) -> Secrets:
        """A fresh secret."""
        return cls(_new_secret())

    @classmethod
    def of(cls, plain: bytes) -> Secrets:
        """Reads what `plain` returned."""
        found = exact_json.loads(plain)
        return cls(found["current"], found.get("previous"), found.get("previousUntil", 0))

    def plain(self) -> bytes:
        """As JSON, to be sealed."""
        kept = {"current": self.current, "previous": self.previous, "previousUntil": self.previous_until}
        return exact_json.dumps(kept)

    def rotated(self, previous_until: int) -> Secrets:
        """With a fresh secret; the old one signs too until then."""
        return Secrets(_new_secret(), self.current, previous_until)

    def headers(self, message_id: str, now: int, body: bytes) -> dict[str, str]:
        """The headers of a message that is sent now, with a signature of each valid secret."""
        valid = [self.current]
        if self.previous is not None and now < self.previous_until:
            valid.append(self.previous)
        keys = [standard_webhooks.key_of(secret) for secret in valid]
        headers = standard_webhooks.headers(keys[0], message_id, now // 1000, body)
        more = [standard_webhooks.signature(key, message_id, now // 1000, body) for key in keys[1:]]
        return {**headers, "webhook-signature": " ".join([headers["webhook-signature"], *more])}


def _new_secret() -> str:
    return standard_webhooks.PREFIX + base64.b64encode(ids.new_entropy(_BYTES)).decode()


READ_BYTES: Final = 4096
SHOWN_CHARS: Final = 1024
_SHOWN_HEADERS: Final = ("content-type", "date", "location", "retry-after", "server")
GONE: Final = 410


@dataclass(frozen=True, slots=True)
class Attempt:
    """How an attempt ended; `status` is None if there was no answer."""

    at: int
    duration_ms: int
    status: int | None = None
    error: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str = ""

    @property
    def has_arrived(self) -> bool:
        """Whether the receiver took it."""
        return self.status is not None and 200 <= self.status < 300

    @property
    def retry_after_s(self) -> int | None:
        """For how long the receiver asks to be left in peace."""
        asked = self.headers.get("retry-after", "")
        return int(asked) if asked.isdecimal() and len(asked) <= 6 else None

    def logged(self) -> dict[str, Any]:
        """As one entry of the delivery's log."""
        found = {"at": self.at, "durationMs": self.duration_ms, "status": self.status, "error": self.error}
        return {name: value for name, value in found.items() if value is not None}

    def response(self) -> dict[str, Any]:
        """The answer, as the delivery shows it."""
        return {"status": self.status, "headers": dict(self.headers), "body": self.body}


async def send(http: Http, row: DeliveryRow, url: str, secrets: Secrets, timeout_s: float) -> Attempt:
    """Makes one attempt; never raises for what the receiver or the network does."""
    now, started, body = clock.now_ms(), clock.monotonic_s(), row.body.encode()
    headers = {"Content-Type": "application/json", **secrets.headers(row.id, now, body)}
    request = HttpRequest(
        "POST", url, headers, body, timeout_s=timeout_s, max_redirects=0, max_bytes=READ_BYTES, cuts=True
    )
    mask = Mask(one for one in (secrets.current, secrets.previous) if one)
    try:
        answer = await http.request(request)
    except DustrunError as error:
        return Attempt(now, _ms_since(started), error=mask.text(error.message))
    shown = {name: _shown(mask, answer.headers[name], 300) for name in _SHOWN_HEADERS if name in answer.headers}
    text = _shown(mask, answer.body.decode("utf-8", "replace"), SHOWN_CHARS)
    return Attempt(now, _ms_since(started), answer.status, _why_not(answer.status), shown, text)


def _shown(mask: Mask, text: str, most: int) -> str:
    return mask_text(mask.text(text)).replace("\x00", "�")[:most]


def _why_not(status: int) -> str | None:
    if 200 <= status < 300:
        return None
    if 300 <= status < 400:
        return f"The receiver answered {status}; redirects are not followed, so give the hook its final address."
    return f"The receiver answered {status}."


def _ms_since(started: float) -> int:
    return round((clock.monotonic_s() - started) * 1000)
