"""EVM addresses and contract data."""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import Any

from dustrun.core.expression.fault import Fault
from dustrun.core.expression.functions import abi
from dustrun.core.expression.functions.table import FunctionGroup
from dustrun.core.expression.functions.text import hex_bytes, utf8
from dustrun.core.expression.values import Meter
from dustrun.core.values import addresses

chain = FunctionGroup("Chain")

_SIGNATURE = re.compile(r"([A-Za-z_$][A-Za-z0-9_$]*)\((.*)\)")


@chain.function(
    "checksum(address: string) -> string",
    "The address in EIP-55 checksum form; fails if its mixed case is wrong.",
    'checksum("0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed")',
    '"0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"',
)
def checksum(meter: Meter, address: str) -> str:
    if not addresses.is_address(address):
        raise Fault("value", "checksum(): the text is not an address, or its checksum is wrong")
    return addresses.checksum(address)


@chain.function(
    "isAddress(x: any) -> bool",
    "Whether it is an EVM address; mixed case must match the EIP-55 checksum.",
    'isAddress("0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed")',
    "true",
)
def is_address(meter: Meter, x: Any) -> bool:
    return addresses.is_address(x)


@chain.function(
    "keccak(data: data) -> string",
    "Keccak-256 with a `0x` prefix. Text is hashed as UTF-8; use fromHex() for hexadecimal bytes.",
    'keccak("Transfer(address,address,uint256)")',
    '"0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"',
)
def keccak(meter: Meter, data: str | bytes) -> str:
    return "0x" + addresses.keccak256(utf8(data)).hex()


def _types(names: list[Any]) -> tuple[abi.AbiType, ...]:
    if len(names) > 100 or not all(isinstance(name, str) for name in names):
        raise Fault("type", "the ABI types must be a list of at most 100 strings")
    return tuple(abi.read_type(name) for name in names)


@chain.function(
    "abiEncode(types: list, values: list) -> string",
    "ABI-encodes values, with a `0x` prefix; tuples are lists, bytes begin with `0x`.",
    'abiEncode(["uint256", "bool"], [1, true])',
    '"0x' + "0" * 63 + "1" + "0" * 63 + '1"',
)
def abi_encode(meter: Meter, types: list[Any], values: list[Any]) -> str:
    return "0x" + abi.encode(meter, _types(types), values).hex()


@chain.function(
    "abiDecode(types: list, data: string|bytes) -> list",
    "ABI-decodes contract data.",
    'abiDecode(["uint256"], "0x' + "0" * 62 + '2a")',
    "[42]",
)
def abi_decode(meter: Meter, types: list[Any], data: str | bytes) -> list[Any]:
    blob = hex_bytes("abiDecode", data) if isinstance(data, str) else data
    return abi.AbiReader(meter, blob).sequence(_types(types), 0)


@chain.function(
    "selector(signature: string) -> string",
    "The 4-byte selector of a contract function.",
    'selector("transfer(address,uint256)")',
    '"0xa9059cbb"',
)
def selector(meter: Meter, signature: str) -> str:
    match = _SIGNATURE.fullmatch(signature.strip())
    if match is None or len(signature) > abi.MAX_TYPE_TEXT:
        raise Fault("value", "selector(): the signature must look like transfer(address,uint256)")
    types = ",".join(abi.canonical(abi.read_type(part)) for part in abi.split_types(match.group(2)))
    return "0x" + addresses.keccak256(f"{match.group(1)}({types})".encode())[:4].hex()


# Hashes. Text is hashed as UTF-8; use fromHex() for hexadecimal bytes.


hashes = FunctionGroup("Hashes")

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
