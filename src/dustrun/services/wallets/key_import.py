"""Reads keys that callers import, off the event loop; no error repeats any part of a key."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from dustrun.errors import Invalid, Problem
from dustrun.wallets.keys import DEFAULT_PATH, check_path, derive_key, read_key
from dustrun.wallets.keystore import Keystore
from dustrun.wallets.secp256k1 import SecretKey

T = TypeVar("T")
Read = Callable[[], SecretKey]


def of_private_key(text: str) -> Read:
    """Reads a key in hexadecimal; `Invalid` names the field `privateKey`."""
    return lambda: _named("privateKey", lambda: read_key(text))


def of_mnemonic(words: str, passphrase: str, path: str | None) -> Read:
    """Derives a key of a mnemonic; `Invalid` names `mnemonic`, with the position of a bad word, or `path`."""
    path = _named("path", lambda: check_path(path or DEFAULT_PATH))
    return lambda: _named("mnemonic", lambda: derive_key(words, passphrase, path))


def of_keystore(document: Mapping[str, Any], password: str) -> Read:
    """Opens a keystore; its cost in memory and time is checked first."""
    keystore = Keystore(document)
    return lambda: keystore.decrypt(password.encode())


def _named(field: str, read: Callable[[], T]) -> T:
    try:
        return read()
    except ValueError as error:
        raise Invalid("The key cannot be imported.", details=[Problem(field, str(error))]) from None
