"""Ethereum signatures over 32-byte digests by libsecp256k1, with keys in memory that can be wiped.

coincurve's `PrivateKey` copies the key into immutable bytes and recomputes the public key; its C binding, used here,
reads the key from our buffer. The nonce follows RFC 6979 and s is low (EIP-2), so signatures equal those of other
Ethereum libraries byte for byte.
"""

from __future__ import annotations

from typing import Any, Final

from dustrun.core.values.addresses import checksum, keccak256
from dustrun.errors import Bug

CURVE_ORDER: Final = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
KEY_BYTES: Final = 32
_HALF_ORDER: Final = CURVE_ORDER // 2


class SecretKey:
    """A private key in memory that `wipe` overwrites; its `repr` does not reveal it."""

    __slots__ = ("_bytes",)

    def __init__(self, key: bytes | bytearray) -> None:
        if len(key) != KEY_BYTES or not 0 < int.from_bytes(key, "big") < CURVE_ORDER:
            raise ValueError("must be 32 bytes, from 1 to the order of secp256k1 minus 1")
        self._bytes = bytearray(key)

    def reveal(self) -> bytes:
        """A copy of the key, which cannot be wiped: only for encryption and export."""
        return bytes(self._bytes)

    def wipe(self) -> None:
        """Overwrites the key with zeros; signing then raises `Bug`."""
        self._bytes[:] = bytes(KEY_BYTES)

    def sign(self, digest: bytes) -> tuple[int, int, int]:
        """r, s and the parity (0 or 1) of a recoverable signature over a 32-byte digest."""
        ffi, lib, context = _library()
        signature = ffi.new("secp256k1_ecdsa_recoverable_signature *")
        key = ffi.from_buffer(self._bytes)
        if len(digest) != 32 or not lib.secp256k1_ecdsa_sign_recoverable(
            context, signature, digest, key, ffi.NULL, ffi.NULL
        ):
            raise Bug("A digest could not be signed: the key was wiped, or the digest is not 32 bytes long.")
        compact, parity = ffi.new("unsigned char[64]"), ffi.new("int *")
        lib.secp256k1_ecdsa_recoverable_signature_serialize_compact(context, compact, parity, signature)
        both = bytes(ffi.buffer(compact, 64))
        return int.from_bytes(both[:32], "big"), int.from_bytes(both[32:], "big"), int(parity[0])

    def address(self) -> str:
        """The EIP-55 checksummed address of the key."""
        ffi, lib, context = _library()
        public = ffi.new("secp256k1_pubkey *")
        if not lib.secp256k1_ec_pubkey_create(context, public, ffi.from_buffer(self._bytes)):
            raise Bug("A key that was wiped has no address.")
        return _address_of(public)

    def __repr__(self) -> str:
        return "SecretKey(***)"


def find_signer(digest: bytes, r: int, s: int, parity: int) -> str | None:
    """The address that signed a digest; None for an invalid signature or a high s (EIP-2)."""
    if parity not in (0, 1) or not 0 < r < CURVE_ORDER or not 0 < s <= _HALF_ORDER:
        return None
    ffi, lib, context = _library()
    signature, public = ffi.new("secp256k1_ecdsa_recoverable_signature *"), ffi.new("secp256k1_pubkey *")
    compact = r.to_bytes(32, "big") + s.to_bytes(32, "big")
    parsed = lib.secp256k1_ecdsa_recoverable_signature_parse_compact(context, signature, compact, parity)
    if not parsed or not lib.secp256k1_ecdsa_recover(context, public, signature, digest):
        return None
    return _address_of(public)


def _address_of(public: Any) -> str:
    ffi, lib, context = _library()
    point, length = ffi.new("unsigned char[65]"), ffi.new("size_t *", 65)
    lib.secp256k1_ec_pubkey_serialize(context, point, length, public, lib.SECP256K1_EC_UNCOMPRESSED)
    return checksum("0x" + keccak256(bytes(ffi.buffer(point, 65))[1:])[-20:].hex())


_loaded: list[Any] = []


def _library() -> Any:
    if not _loaded:
        from coincurve._libsecp256k1 import ffi, lib  # type: ignore[import-not-found]  # slow import
        from coincurve.context import GLOBAL_CONTEXT  # slow import

        _loaded.extend((ffi, lib, GLOBAL_CONTEXT.ctx))
    return _loaded
