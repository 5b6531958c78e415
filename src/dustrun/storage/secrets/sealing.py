"""AES-256-GCM with its context bound in: what was sealed for one place opens nowhere else."""

from __future__ import annotations

import base64
import os
from typing import Final

from Crypto.Cipher import AES

KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12  # what GCM is made for: NIST SP 800-38D section 8.2
_TAG_BYTES: Final = 16


class Unsealable(Exception):
    """It was changed, belongs elsewhere, or another key sealed it."""


def new_key() -> bytes:
    """A random key of 256 bits."""
    return os.urandom(KEY_BYTES)


def seal(key: bytes, plaintext: bytes, place: tuple[str, ...]) -> str:
    """The plaintext under `key`, as text; `place` must be given again to open it."""
    nonce = os.urandom(_NONCE_BYTES)
    cipher = AES.new(key, AES.MODE_GCM, nonce=nonce, mac_len=_TAG_BYTES)
    cipher.update(_bound(place))
    sealed, tag = cipher.encrypt_and_digest(plaintext)
    return base64.urlsafe_b64encode(nonce + sealed + tag).decode()


def unseal(key: bytes, text: str, place: tuple[str, ...]) -> bytes:
    """The plaintext; raises `Unsealable`."""
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
    """Each part with its length before it, so that no two places read the same."""
    parts = [part.encode() for part in place]
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)
