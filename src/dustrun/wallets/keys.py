"""Parses private keys in hexadecimal, and BIP-39 mnemonics with a BIP-32 path.

Messages never contain a part of the input; a wrong word is named by its position.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Sequence
from typing import Any, Final

from dustrun.wallets.secp256k1 import CURVE_ORDER, KEY_BYTES, SecretKey

DEFAULT_PATH: Final = "m/44'/60'/0'/0/0"
_PATH: Final = re.compile(r"m(?:/[0-9]{1,10}'?){1,10}")
_COUNTS: Final = (12, 15, 18, 21, 24)
_MOST_LISTED: Final = 24


def read_key(text: str) -> SecretKey:
    """Parses a private key in hexadecimal; raises `ValueError`, which says what is wrong."""
    digits = text.strip()
    digits = digits[2:] if digits[:2] in ("0x", "0X") else digits
    if len(digits) != 2 * KEY_BYTES:
        raise ValueError(f"must have {2 * KEY_BYTES} hexadecimal digits, optionally after 0x; it has {len(digits)}")
    if re.fullmatch(r"[0-9a-fA-F]+", digits) is None:
        raise ValueError("must contain only hexadecimal digits (0 to 9, a to f)")
    return key_of_number(int(digits, 16))


def key_of_number(number: int) -> SecretKey:
    """The key with this number; raises `ValueError` outside the curve's range."""
    if not 0 < number < CURVE_ORDER:
        raise ValueError("must be from 1 to the order of secp256k1 minus 1; this number is not a key")
    return SecretKey(number.to_bytes(KEY_BYTES, "big"))


def check_path(path: str) -> str:
    """Validates and normalises a derivation path; raises `ValueError`."""
    if _PATH.fullmatch(path) is None:
        raise ValueError(f"must be a path like {DEFAULT_PATH}: m, then 1 to 10 numbers, each with ' when hardened")
    if any(int(part.rstrip("'")) >= 1 << 31 for part in path.split("/")[1:]):
        raise ValueError("has a number of 2**31 or more; write ' after it instead to harden it")
    return path


def derive_key(words: str, passphrase: str, path: str) -> SecretKey:
    """Derives the key of a mnemonic at a path. Takes milliseconds, half a second at first use: not for the event loop.

    Raises `ValueError`, which contains no word of the mnemonic.
    """
    mnemonics, key_from_seed = _derivation()
    seed = mnemonics.to_seed(_checked(words), passphrase)
    return SecretKey(key_from_seed(seed, path))


def _derivation() -> tuple[Any, Any]:
    """Imports the derivation functions and restores the recursion limit, which the import raises so high that deeply
    nested JSON would crash the process."""
    limit = sys.getrecursionlimit()
    try:
        from eth_account.hdaccount import key_from_seed  # slow import
        from eth_account.hdaccount.mnemonic import Mnemonic  # slow import
    finally:
        sys.setrecursionlimit(limit)
    return Mnemonic, key_from_seed


def _checked(text: str) -> str:
    """The normalised mnemonic; raises `ValueError` for a wrong word, count or checksum."""
    words = unicodedata.normalize("NFKD", text).lower().split()
    if len(words) not in _COUNTS:
        raise ValueError(f"must have 12, 15, 18, 21 or 24 words; it has {len(words)}")
    lists = _lists()
    languages = [language for language in lists if all(word in language.positions for word in words)]
    if not languages:
        raise ValueError(_strangers(words, lists))
    joined = " ".join(words)
    if not any(language.mnemonic.is_mnemonic_valid(joined) for language in languages):
        raise ValueError(
            "all words are in the list, but the checksum is wrong: a word was mistaken for another one of the list, or "
            "two words are swapped"
        )
    return joined


class _Language:
    """One BIP-39 word list."""

    def __init__(self, mnemonic: Any, name: str) -> None:
        self.mnemonic = mnemonic
        self.name = name.replace("_", " ").title()
        self.positions = {unicodedata.normalize("NFKD", word) for word in mnemonic.wordlist}


def _lists() -> list[_Language]:
    mnemonics, _ = _derivation()
    return [_Language(mnemonics(language), language.value) for language in mnemonics.list_languages_enum()]


def _strangers(words: Sequence[str], lists: Sequence[_Language]) -> str:
    """Names the positions of words that are missing in the most likely list."""
    likeliest = max(lists, key=lambda language: (sum(word in language.positions for word in words), language.name))
    at = [str(index) for index, word in enumerate(words, 1) if word not in likeliest.positions]
    if len(at) == len(words):
        return "none of its words is in a BIP-39 list"
    which = f"word {at[0]} is" if len(at) == 1 else f"words {', '.join(at[:_MOST_LISTED])} are"
    return f"{which} not in the {likeliest.name} list of BIP-39; check the spelling"
