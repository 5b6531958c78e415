"""The signing secrets of a hook: the current one, and during a rotation the previous one too."""

from __future__ import annotations

import base64

from dustrun import ids
from dustrun.core.text import standard_webhooks
from dustrun.core.values import exact_json
from dustrun.records import dataclass

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
