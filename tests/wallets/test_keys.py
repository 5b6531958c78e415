"""Keys, mnemonics and keystores as people bring them: read, refused, and never repeated."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from typing import Any

import pytest
from eth_account import Account
from eth_keyfile.keyfile import create_keyfile_json, decode_keyfile_json
from hypothesis import given, settings
from hypothesis import strategies as st

from dustrun.errors import Invalid
from dustrun.wallets import keys, keystore
from dustrun.wallets.keystore import Keystore
from dustrun.wallets.secp256k1 import CURVE_ORDER, SecretKey

JUNK = "test test test test test test test test test test test junk"


@pytest.mark.parametrize("spelling", ["{}", "0x{}", "0X{}", " 0x{}\n", "{upper}"])
def test_a_key_in_every_spelling(spelling: str) -> None:
    digits = "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"
    key = keys.read_key(spelling.format(digits, upper=digits.upper()))
    assert key.address() == "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ("", "it has 0"),
        ("0x" + "a" * 63, "it has 63"),
        ("0x" + "a" * 66, "it has 66"),
        ("g" * 64, "hexadecimal digits"),
        ("٣" * 64, "hexadecimal digits"),
        ("0" * 64, "from 1 to the order"),
        (f"{CURVE_ORDER:064x}", "from 1 to the order"),
        ("f" * 64, "from 1 to the order"),
    ],
)
def test_what_is_no_key(bad: str, says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        keys.read_key(bad)
    assert len(bad) < 8 or bad not in str(caught.value)


@settings(deadline=None, max_examples=20)
@given(st.binary(min_size=16, max_size=16), st.text(max_size=8), st.integers(0, 2**31 - 1), st.booleans())
def test_mnemonics_derive_as_eth_account_does(entropy: bytes, phrase: str, number: int, hard: bool) -> None:
    from eth_account.hdaccount.mnemonic import Mnemonic

    Account.enable_unaudited_hdwallet_features()
    words = Mnemonic().to_mnemonic(entropy)
    path = f"m/44'/60'/0'/0/{number}" + ("'" if hard else "")
    spelled = "  " + words.upper().replace(" ", " \n ")
    theirs = Account.from_mnemonic(words, passphrase=phrase, account_path=path)
    assert keys.derive_key(spelled, phrase, keys.check_path(path)).reveal() == bytes(theirs.key)


def test_a_mnemonic_of_another_language() -> None:
    from eth_account.hdaccount.mnemonic import Mnemonic
    from eth_account.types import Language

    words = Mnemonic(Language.JAPANESE).to_mnemonic(bytes(range(16)))
    theirs = Account.from_mnemonic(words.replace("\u3000", " "))
    assert keys.derive_key(words, "", keys.DEFAULT_PATH).reveal() == bytes(theirs.key)


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (JUNK.replace("junk", "jnuk"), "^word 12 is not in the English list of BIP-39; check the spelling$"),
        ("tset " + JUNK[5:-4] + "jnuk", "^words 1, 12 are not"),
        (JUNK.replace("junk", "test"), "checksum is wrong"),
        (JUNK + " junk", "it has 13"),
        ("", "it has 0"),
        (" ".join(["zzzq"] * 12), "none of its words"),
    ],
)
def test_a_bad_mnemonic_is_told_by_position_and_never_repeated(bad: str, says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        keys.derive_key(bad, "", keys.DEFAULT_PATH)
    assert not any(word in str(caught.value).split() for word in ("test", "junk", "jnuk", "tset", "zzzq"))


@pytest.mark.parametrize("bad", ["", "m", "44'/60'", "m/44h", "m/-1", "m/2147483648", "m/1//2", "m" + "/1" * 11])
def test_a_bad_path(bad: str) -> None:
    with pytest.raises(ValueError, match=r"path like|2\*\*31"):
        keys.check_path(bad)


@pytest.mark.parametrize(("kdf", "work"), [("scrypt", 2), ("scrypt", 4096), ("pbkdf2", 1), ("pbkdf2", 4096)])
def test_keystores_of_others_open(kdf: Any, work: int) -> None:
    key, password = secrets.token_bytes(32), "pässwörd ✓"
    document = create_keyfile_json(key, password.encode(), 3, kdf, work)
    spelled = {"Crypto" if name == "crypto" else name: value for name, value in document.items()}
    assert Keystore(spelled).decrypt(password.encode()).reveal() == key
    with pytest.raises(Invalid) as caught:
        Keystore(document).decrypt(b"another")
    assert [problem.field for problem in caught.value.details] == ["password"]  # type: ignore[union-attr]


def test_our_keystores_open_elsewhere() -> None:
    key = SecretKey(secrets.token_bytes(32))
    document = keystore.encrypt(key, "pässwörd", key.address())
    assert decode_keyfile_json(json.loads(json.dumps(document)), "pässwörd".encode()) == key.reveal()
    light = keystore.encrypt_lightly(key, b"\x01" * 32, key.address())
    assert decode_keyfile_json(light, b"\x01" * 32) == key.reveal()
    assert key.reveal().hex() not in json.dumps([document, light])
    with pytest.raises(ValueError, match="32 random bytes"):
        keystore.encrypt_lightly(key, b"short", key.address())


def _sound() -> dict[str, Any]:
    return dict(create_keyfile_json(b"\x07" * 32, b"pw", 3, "scrypt", 2))


@pytest.mark.parametrize(
    ("at", "value", "field"),
    [
        ("version", 4, "keystore.version"),
        ("crypto", [], "keystore.crypto"),
        ("crypto.cipher", "aes-256-cbc", "keystore.crypto.cipher"),
        ("crypto.ciphertext", "00" * 31, "keystore.crypto.ciphertext"),
        ("crypto.ciphertext", "zz" * 32, "keystore.crypto.ciphertext"),
        ("crypto.mac", None, "keystore.crypto.mac"),
        ("crypto.cipherparams.iv", "00", "keystore.crypto.cipherparams.iv"),
        ("crypto.kdf", "argon2", "keystore.crypto.kdf"),
        ("crypto.kdfparams.dklen", 31, "keystore.crypto.kdfparams.dklen"),
        ("crypto.kdfparams.salt", "00" * 1025, "keystore.crypto.kdfparams.salt"),
        ("crypto.kdfparams.n", 3, "keystore.crypto.kdfparams.n"),
        ("crypto.kdfparams.n", "262144", "keystore.crypto.kdfparams.n"),
        ("crypto.kdfparams.n", True, "keystore.crypto.kdfparams.n"),
        ("crypto.kdfparams.n", 2**31, "keystore.crypto.kdfparams.n"),
        ("crypto.kdfparams.n", 2**30, "keystore.crypto.kdfparams"),
        ("crypto.kdfparams.r", 2**20, "keystore.crypto.kdfparams.r"),
        ("crypto.kdfparams.p", 0, "keystore.crypto.kdfparams.p"),
        ("address", "00" * 20, "keystore.address"),
    ],
)
def test_an_unsound_keystore_names_its_field(at: str, value: Any, field: str) -> None:
    document = _sound()
    *path, last = at.split(".")
    inner = document
    for name in path:
        inner = inner[name]
    inner[last] = value
    with pytest.raises(Invalid) as caught:
        Keystore(document).decrypt(b"pw")
    assert [problem.field for problem in caught.value.details] == [field]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "parameters",
    [{"n": 2**19, "r": 8, "p": 1}, {"n": 2**18, "r": 9, "p": 1}, {"n": 2, "r": 2**16, "p": 2**16}, {"c": 10**8}],
)
def test_oversized_work_is_refused_before_it_begins(parameters: dict[str, int]) -> None:
    document = _sound()
    document["crypto"]["kdfparams"].update(parameters)
    if "c" in parameters:
        document["crypto"]["kdf"] = "pbkdf2"
    with pytest.raises(Invalid):
        Keystore(document)  # nothing is computed here


@settings(deadline=None, max_examples=100)
@given(st.recursive(st.none() | st.integers() | st.text(max_size=5), lambda inner: st.dictionaries(
    st.sampled_from(["crypto", "version", "kdf", "kdfparams", "mac"]), inner, max_size=4)))  # fmt: skip
def test_anything_else_is_invalid_and_nothing_worse(document: Any) -> None:
    with pytest.raises(Invalid):
        Keystore(document)


def test_deriving_keys_leaves_the_depth_of_recursion_alone() -> None:
    words = "abandon " * 11 + "about"
    script = (
        "import sys; before = sys.getrecursionlimit(); from dustrun.wallets.keys import DEFAULT_PATH, derive_key;"
        f"derive_key({words!r}, '', DEFAULT_PATH); sys.exit(sys.getrecursionlimit() != before)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False, timeout=60).returncode == 0
