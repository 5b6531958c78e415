"""Hashes. Text is hashed as UTF-8; use fromHex() for hexadecimal bytes."""

from __future__ import annotations

import hashlib
import hmac
import re

from dustrun.core.expression.functions.table import Group
from dustrun.core.expression.functions.text import utf8
from dustrun.core.expression.runtime.fault import Fault
from dustrun.core.expression.runtime.limits import Meter

hashes = Group("Hashes")

_NAMESPACES = {"dns": "6ba7b810", "url": "6ba7b811", "oid": "6ba7b812", "x500": "6ba7b814"}
_REST = "9dad11d180b400c04fd430c8"


@hashes.function(
    "sha256(data: data) -> string",
    "SHA-256 in hexadecimal.",
    'sha256("abc")',
    '"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"',
)
def sha256(meter: Meter, data: str | bytes) -> str:
    return hashlib.sha256(utf8(data)).hexdigest()


@hashes.function(
    "hmacSha256(key: data, data: data) -> string",
    "HMAC-SHA-256 in hexadecimal, the usual signature of webhooks.",
    'hmacSha256("key", "message").substring(0, 16)',
    '"6e9ef29b75fffc5b"',
)
def hmac_sha256(meter: Meter, key: str | bytes, data: str | bytes) -> str:
    return hmac.new(utf8(key), utf8(data), hashlib.sha256).hexdigest()


@hashes.function(
    "uuid5(namespace: string, name: string) -> string",
    'A deterministic id of a name; the namespace is "dns", "url", "oid", "x500" or an id.',
    'uuid5("dns", "example.com")',
    '"cfbff0d1-9375-5685-968c-48ce8b15ae17"',
)
def uuid5(meter: Meter, namespace: str, name: str) -> str:
    prefix = _NAMESPACES.get(namespace)
    digits = prefix + _REST if prefix else namespace.replace("-", "")
    if not re.fullmatch(r"[0-9a-fA-F]{32}", digits):
        raise Fault("value", 'uuid5(): the namespace must be "dns", "url", "oid", "x500" or an id')
    digest = bytearray(hashlib.sha1(bytes.fromhex(digits) + utf8(name), usedforsecurity=False).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x50
    digest[8] = digest[8] & 0x3F | 0x80
    text = digest.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
