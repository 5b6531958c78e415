"""Private keys as people bring them: hexadecimal, or words of BIP-39 with a path of BIP-32.

No message ever holds a part of what was given; a bad word is named by its position.
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
    """A private key in hexadecimal; raises `ValueError` that says what is wrong with it."""
    digits = text.strip()
    digits = digits[2:] if digits[:2] in ("0x", "0X") else digits
    if len(digits) != 2 * KEY_BYTES:
        raise ValueError(f"must have {2 * KEY_BYTES} hexadecimal digits, 0x before them or not; it has {len(digits)}")
    if re.fullmatch(r"[0-9a-fA-F]+", digits) is None:
        raise ValueError("must contain only hexadecimal digits (0 to 9, a to f)")
    return key_of_number(int(digits, 16))


def key_of_number(number: int) -> SecretKey:
    """The key that is that number; raises `ValueError` outside of the curve's range."""
    if not 0 < number < CURVE_ORDER:
        raise ValueError("must be from 1 to the order of secp256k1 less 1; this number is not a key")
    return SecretKey(number.to_bytes(KEY_BYTES, "big"))


def check_path(path: str) -> str:
    """A derivation path; raises `ValueError`."""
    if _PATH.fullmatch(path) is None:
        raise ValueError(f"must be a path like {DEFAULT_PATH}: m, then 1 to 10 numbers, each with ' when hardened")
    if any(int(part.rstrip("'")) >= 1 << 31 for part in path.split("/")[1:]):
        raise ValueError("has a number of 2**31 or more; write ' after it instead to harden it")
    return path


def derive_key(words: str, passphrase: str, path: str) -> SecretKey:
    """The key of a mnemonic at a path. Takes some milliseconds, the first time half a second: not for the event loop.

    Raises `ValueError` that names no word.
    """
    mnemonics, key_from_seed = _derivation()
    seed = mnemonics.to_seed(_checked(words), passphrase)
    return SecretKey(key_from_seed(seed, path))


def _derivation() -> tuple[Any, Any]:
    """What derives keys. Its import lets Python recurse so deep that nested JSON ends the process: that is undone."""
    limit = sys.getrecursionlimit()
    try:
        from eth_account.hdaccount import key_from_seed  # slow import
        from eth_account.hdaccount.mnemonic import Mnemonic  # slow import
    finally:
        sys.setrecursionlimit(limit)
    return Mnemonic, key_from_seed


def _checked(text: str) -> str:
    """The words as BIP-39 hashes them."""
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
            "all words are of the list, but their checksum is wrong: a word is mistyped as another one of the list, or "
            "two have changed places"
        )
    return joined


class _Language:
    """One list of words of BIP-39."""

    def __init__(self, mnemonic: Any, name: str) -> None:
        self.mnemonic = mnemonic
        self.name = name.replace("_", " ").title()
        self.positions = {unicodedata.normalize("NFKD", word) for word in mnemonic.wordlist}


def _lists() -> list[_Language]:
    mnemonics, _ = _derivation()
    return [_Language(mnemonics(language), language.value) for language in mnemonics.list_languages_enum()]


def _strangers(words: Sequence[str], lists: Sequence[_Language]) -> str:
    """Where the words are that the likeliest list does not have."""
    likeliest = max(lists, key=lambda language: (sum(word in language.positions for word in words), language.name))
    at = [str(index) for index, word in enumerate(words, 1) if word not in likeliest.positions]
    if len(at) == len(words):
        return "none of its words is in a BIP-39 list"
    which = f"word {at[0]} is" if len(at) == 1 else f"words {', '.join(at[:_MOST_LISTED])} are"
    return f"{which} not in the {likeliest.name} list of BIP-39; check the spelling"
