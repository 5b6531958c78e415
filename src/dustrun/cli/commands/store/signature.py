"""Who has signed a release: reads what `ssh-keygen -Y sign -n dustrun-release` writes, and OpenSSH's public keys."""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Final

from dustrun.errors import Invalid

NAMESPACE: Final = "dustrun-release"
"""What the signature is for: one for mail or a commit, by the same key, does not count."""
_BEGIN, _END = "-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----"
_MAGIC: Final = b"SSHSIG\x00\x00\x00\x01"
_KIND: Final = b"ssh-ed25519"
_HASHES: Final = (b"sha256", b"sha512")


def read_keys(text: str) -> list[bytes]:
    """The keys in the text of a public key, or of a file with one a line, each as OpenSSH writes it into signatures."""
    found = list[bytes]()
    for line in text.splitlines():
        _, is_named, rest = line.partition(f"{_KIND.decode()} ")
        if is_named and not line.startswith("#"):
            key = _decoded(rest.split()[0] if rest.split() else "")
            kind, *raw = _strings(key)
            if kind != _KIND or [len(part) for part in raw] != [32]:
                raise Invalid("A public key is cut off or changed. It is one line, like `ssh-ed25519 AAAA…`.")
            found.append(key)
    if not found:
        raise Invalid(f"There is no key of the kind {_KIND.decode()}. It is one line, like `ssh-ed25519 AAAA…`.")
    return found


def fingerprint(key: bytes) -> str:
    """As `ssh-keygen -l` shows it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(key).digest()).decode().rstrip("=")


def signer(content: bytes, signature: str, keys: list[bytes]) -> str:
    """The fingerprint of the key that has signed the content; raises `Invalid` unless it is one of `keys`."""
    from cryptography.exceptions import InvalidSignature  # slow import
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # slow import

    text = signature.strip()
    if not (text.startswith(_BEGIN) and text.endswith(_END)):
        raise Invalid("The signature is not one of ssh-keygen.")
    blob = _decoded("".join(text[len(_BEGIN) : -len(_END)].split()))
    parts = _strings(blob.removeprefix(_MAGIC)) if blob.startswith(_MAGIC) else []
    if len(parts) != 5:
        raise Invalid("The signature is cut off or changed.")
    key, namespace, reserved, hashed_by, signed = parts
    if namespace != NAMESPACE.encode():
        raise Invalid(f'The signature is for "{namespace.decode(errors="replace")}", not for "{NAMESPACE}".')
    if key not in keys:
        raise Invalid(f"The signature is by another key, {fingerprint(key)}.")
    kind, *rest = _strings(signed)
    if kind != _KIND or len(rest) != 1 or hashed_by not in _HASHES:
        raise Invalid("The signature is cut off or changed.")
    digest = hashlib.new(hashed_by.decode(), content).digest()
    message = b"SSHSIG" + b"".join(map(_string, (namespace, reserved, hashed_by, digest)))
    try:
        Ed25519PublicKey.from_public_bytes(_strings(key)[1]).verify(rest[0], message)
    except InvalidSignature:
        raise Invalid("The signature is of another content: it was damaged or changed.") from None
    return fingerprint(key)


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise Invalid("A key or signature is not Base64, so it is cut off or changed.") from None


def _string(content: bytes) -> bytes:
    return len(content).to_bytes(4, "big") + content


def _strings(content: bytes) -> list[bytes]:
    """What is in an encoding of SSH, each part with its length before it; nothing of one that is cut off."""
    found = list[bytes]()
    while content:
        end = 4 + int.from_bytes(content[:4], "big")
        if len(content) < max(end, 4):
            return [b""]
        found.append(content[4:end])
        content = content[end:]
    return found or [b""]
