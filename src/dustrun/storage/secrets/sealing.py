"""AES-256-GCM with context as associated data: a text sealed for one place cannot be opened for another."""

from __future__ import annotations

import base64
import os
from typing import Final

from dustrun.core.values.pycryptodome import AES

KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12  # the recommended size for GCM: NIST SP 800-38D section 8.2
_TAG_BYTES: Final = 16


class Unsealable(Exception):
    """The text was modified, belongs to another place, or was sealed with another key."""


def new_key() -> bytes:
    """Generates a random 256-bit key."""
    return os.urandom(KEY_BYTES)


def seal(key: bytes, plaintext: bytes, place: tuple[str, ...]) -> str:
    """Encrypts the plaintext with `key`, as text; the same `place` is needed to decrypt it."""
    nonce = os.urandom(_NONCE_BYTES)
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
