"""Keystores: a private key encrypted with a password, in the Web3 Secret Storage format, version 3.

Scrypt or PBKDF2 makes guessing a password expensive. The parameters come from the file, so they are checked before
anything is computed: scrypt needs 128 * n * r bytes of memory.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import uuid
from collections.abc import Mapping
from typing import Any, Final

from dustrun import ids
from dustrun.core.values.addresses import keccak256
from dustrun.errors import Invalid, Problem
from dustrun.wallets.secp256k1 import KEY_BYTES, SecretKey

_DERIVED: Final = 32
_MOST_MEMORY: Final = 1 << 28  # n = 262144, r = 8: what geth and most others write
_MOST_WORK: Final = 1 << 31  # 128 * n * r * p: a few seconds
_MOST_ROUNDS: Final = 10_000_000
_EXPORT_N: Final = 1 << 17  # OWASP's choice for scrypt with r = 8, p = 1: 128 MiB, a third of a second
_HEX: Final = re.compile(r"(?:0x)?((?:[0-9a-fA-F]{2})+)")


def encrypt(key: SecretKey, password: str, address: str) -> dict[str, Any]:
    """Encrypts a key with a person's password. Deliberately slow and memory-hard: not for the event loop."""
    salt = ids.new_entropy(32)
    params = {"dklen": _DERIVED, "n": _EXPORT_N, "r": 8, "p": 1, "salt": salt.hex()}
    return _document(key, _scrypt(password.encode(), salt, _EXPORT_N, 8, 1), "scrypt", params, address)


def encrypt_lightly(key: SecretKey, password: bytes, address: str) -> dict[str, Any]:
    """Encrypts a key with a random 256-bit password; raises `ValueError` for another length.

    One round of PBKDF2 is enough: key stretching protects weak passwords, and 256 random bits cannot be guessed. Scrypt
    would cost 256 MiB and most of a second per unlock without benefit.
    """
    if len(password) < 32:
        raise ValueError("a password for light encryption must be 32 random bytes")
    salt = ids.new_entropy(32)
    params = {"dklen": _DERIVED, "c": 1, "prf": "hmac-sha256", "salt": salt.hex()}
    return _document(key, hashlib.pbkdf2_hmac("sha256", password, salt, 1, _DERIVED), "pbkdf2", params, address)


def _document(key: SecretKey, derived: bytes, kdf: str, params: dict[str, Any], address: str) -> dict[str, Any]:
    iv = ids.new_entropy(16)
    sealed = _aes_ctr(derived[:16], iv, key.reveal())
    return {
        "address": address[2:].lower(),
        "crypto": {
            "cipher": "aes-128-ctr",
            "cipherparams": {"iv": iv.hex()},
            "ciphertext": sealed.hex(),
            "kdf": kdf,
            "kdfparams": params,
            "mac": keccak256(derived[16:] + sealed).hex(),
        },
        "id": str(uuid.UUID(bytes=ids.new_entropy(16), version=4)),
        "version": 3,
    }


class Keystore:
    """A parsed and validated keystore, not yet decrypted."""

    def __init__(self, document: Any) -> None:
        """Raises `Invalid`, which names the wrong field under `keystore`."""
        top = _lower(_object(document, "keystore"))
        if top.get("version") != 3:
            raise _invalid("keystore.version", "must be 3; other versions are not supported")
        crypto = _lower(_object(top.get("crypto"), "keystore.crypto"))
        if crypto.get("cipher") != "aes-128-ctr":
            raise _invalid("keystore.crypto.cipher", 'must be "aes-128-ctr"')
        cipher = _lower(_object(crypto.get("cipherparams"), "keystore.crypto.cipherparams"))
        self._iv = _hex(cipher.get("iv"), "keystore.crypto.cipherparams.iv", 16, 16)
        self._sealed = _hex(crypto.get("ciphertext"), "keystore.crypto.ciphertext", KEY_BYTES, KEY_BYTES)
        self._mac = _hex(crypto.get("mac"), "keystore.crypto.mac", 32, 32)
        self._params = _lower(_object(crypto.get("kdfparams"), "keystore.crypto.kdfparams"))
        self._salt = _hex(self._params.get("salt"), "keystore.crypto.kdfparams.salt", 1, 1024)
        self._kdf = crypto.get("kdf")
        self._check_kdf()
        self._address = top.get("address")

    def _check_kdf(self) -> None:
        self._number("dklen", _DERIVED, _DERIVED)
        if self._kdf == "scrypt":
            n, r, p = self._number("n", 2, 1 << 30), self._number("r", 1, 1 << 16), self._number("p", 1, 1 << 16)
            if n & (n - 1):
                raise _invalid("keystore.crypto.kdfparams.n", "must be a power of two")
            if 128 * n * r > _MOST_MEMORY or 128 * n * r * p > _MOST_WORK:
                mebi = 128 * n * r >> 20
                raise _invalid(
                    "keystore.crypto.kdfparams",
                    f"requires {mebi} MiB of memory and {p} passes; at most {_MOST_MEMORY >> 20} MiB, and "
                    f"{_MOST_WORK >> 20} MiB over all passes, are computed here. Encrypt the key again with less "
                    "(n 262144, r 8, p 1), or import the key itself",
                )
        elif self._kdf == "pbkdf2":
            self._number("c", 1, _MOST_ROUNDS)
            if self._params.get("prf") != "hmac-sha256":
                raise _invalid("keystore.crypto.kdfparams.prf", 'must be "hmac-sha256"')
        else:
            raise _invalid("keystore.crypto.kdf", 'must be "scrypt" or "pbkdf2"')

    def _number(self, name: str, least: int, most: int) -> int:
        value = self._params.get(name)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            expected = f"{least}" if least == most else f"an integer from {least} to {most}"
            raise _invalid(f"keystore.crypto.kdfparams.{name}", f"must be {expected}")
        return value

    def decrypt(self, password: bytes) -> SecretKey:
        """Decrypts the key. Takes up to seconds and 256 MiB: not for the event loop. Raises `Invalid` for a wrong
        password."""
        derived = self._derive(password)
        if not hmac.compare_digest(keccak256(derived[16:] + self._sealed), self._mac):
            raise _invalid("password", "does not open the keystore")
        try:
            key = SecretKey(_aes_ctr(derived[:16], self._iv, self._sealed))
        except ValueError:
            raise _invalid("keystore.crypto.ciphertext", "does not contain a secp256k1 key") from None
        named = self._address.lower().removeprefix("0x") if isinstance(self._address, str) else None
        if named and named != key.address()[2:].lower():
            key.wipe()
            raise _invalid("keystore.address", "is not the address of the key inside")
        return key

    def _derive(self, password: bytes) -> bytes:
        if self._kdf == "scrypt":
            return _scrypt(password, self._salt, *(int(self._params[name]) for name in ("n", "r", "p")))
        return hashlib.pbkdf2_hmac("sha256", password, self._salt, int(self._params["c"]), _DERIVED)


def _scrypt(password: bytes, salt: bytes, n: int, r: int, p: int) -> bytes:
    room = 128 * r * (n + p + 2) + (1 << 20)
    return hashlib.scrypt(password, salt=salt, n=n, r=r, p=p, maxmem=room, dklen=_DERIVED)


def _aes_ctr(key: bytes, iv: bytes, data: bytes) -> bytes:
    from dustrun.core.values.pycryptodome import AES  # slow import

    return AES.new(key, AES.MODE_CTR, nonce=b"", initial_value=iv).encrypt(data)


def _lower(found: Mapping[str, Any]) -> dict[str, Any]:
    """The object with lower-case names, since old programs write `Crypto`."""
    return {str(name).lower(): value for name, value in found.items()}


def _object(value: Any, field: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise _invalid(field, "must be an object")
    return value


def _hex(value: Any, field: str, least: int, most: int) -> bytes:
    found = _HEX.fullmatch(value) if isinstance(value, str) else None
    size = len(found[1]) // 2 if found else 0
    if found is None or not least <= size <= most:
        expected = f"{least}" if least == most else f"{least} to {most}"
        raise _invalid(field, f"must be {expected} bytes in hexadecimal")
    return bytes.fromhex(found[1])


def _invalid(field: str, message: str) -> Invalid:
    return Invalid("The keystore cannot be used.", details=[Problem(field, message)])
