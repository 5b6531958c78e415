"""AES-256-GCM with context as associated data: a text sealed for one place cannot be opened for another."""

from __future__ import annotations

import base64
from typing import Final

import sqlalchemy as sa

from dustrun import ids
from dustrun.core.values.pycryptodome import AES
from dustrun.records import dataclass
from dustrun.storage.db import ledger_tables, tables, trigger_tables

KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12  # the recommended size for GCM: NIST SP 800-38D section 8.2
_TAG_BYTES: Final = 16


class Unsealable(Exception):
    """The text was modified, belongs to another place, or was sealed with another key."""


def new_key() -> bytes:
    """Generates a random 256-bit key."""
    return ids.new_entropy(KEY_BYTES)


def seal(key: bytes, plaintext: bytes, place: tuple[str, ...]) -> str:
    """Encrypts the plaintext with `key`, as text; the same `place` is needed to decrypt it."""
    nonce = ids.new_entropy(_NONCE_BYTES)
    cipher = AES.new(key, AES.MODE_GCM, nonce=nonce, mac_len=_TAG_BYTES)
    cipher.update(_bound(place))
    sealed, tag = cipher.encrypt_and_digest(plaintext)
    return base64.urlsafe_b64encode(nonce + sealed + tag).decode()


def unseal(key: bytes, text: str, place: tuple[str, ...]) -> bytes:
    """Decrypts a sealed text; raises `Unsealable`."""
    try:
        raw = base64.b64decode(text.encode("ascii"), altchars=b"-_", validate=True)
        is_canonical = base64.urlsafe_b64encode(raw).decode() == text
        if len(raw) < _NONCE_BYTES + _TAG_BYTES or not is_canonical:
            raise Unsealable
        cipher = AES.new(key, AES.MODE_GCM, nonce=raw[:_NONCE_BYTES], mac_len=_TAG_BYTES)
        cipher.update(_bound(place))
        return cipher.decrypt_and_verify(raw[_NONCE_BYTES:-_TAG_BYTES], raw[-_TAG_BYTES:])
    except ValueError:
        raise Unsealable from None


def _bound(place: tuple[str, ...]) -> bytes:
    """Encodes the place with length prefixes, so that no two places have the same encoding."""
    parts = [part.encode() for part in place]
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


# All columns with encrypted secrets. A key rotation re-encrypts them; a column missing here would become unreadable.


@dataclass(frozen=True, slots=True)
class SealedColumn:
    """One encrypted column of a table with `org_id` and `id`; `kind` is the record kind bound into its encryption."""

    kind: str
    table: sa.Table
    name: str

    @property
    def column(self) -> sa.Column[str]:
        """The SQLAlchemy column."""
        found: sa.Column[str] = self.table.c[self.name]
        return found


SEALED: Final = (
    SealedColumn("audit-key", tables.audit_keys, "sealed"),
    SealedColumn("connector", tables.connectors, "sealed"),
    SealedColumn("connector-token", tables.connectors, "sealed_token"),
    SealedColumn("connector-refresh", tables.connectors, "sealed_refresh"),
    SealedColumn("consent", tables.consent_attempts, "sealed"),
    SealedColumn("hook", tables.hooks, "sealed"),
    SealedColumn("identity", tables.identities, "sealed"),
    SealedColumn("wallet", ledger_tables.wallets, "sealed"),
    SealedColumn("webhook", trigger_tables.webhook_secrets, "sealed"),
    SealedColumn("signature", ledger_tables.signatures, "sealed"),
)
