"""Secrets are found in every spelling, and nothing else is touched."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Callable
from decimal import Decimal
from urllib.parse import quote, quote_plus, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dustrun.core.text.masking import LEAST, MASK, Mask

SECRET = 'k3y/with+odd "signs"&é€'
CODECS: dict[str, Callable[[str], str]] = {
    "plain": lambda text: text,
    "percent": lambda text: quote(text, safe=""),
    "percent, slashes kept": quote,
    "form": quote_plus,
    "query": lambda text: urlencode({"q": text}),
    "JSON": json.dumps,
    "JSON, slashes escaped": lambda text: json.dumps(text).replace("/", "\\/"),
    "JSON, not ASCII": lambda text: json.dumps(text, ensure_ascii=False),
    "percent, twice": lambda text: quote(quote(text, safe=""), safe=""),
    "JSON within JSON": lambda text: json.dumps(json.dumps({"a": text})),
    "HTML, twice": lambda text: html.escape(html.escape(text)),
    "HTML": html.escape,
    "Base64 of a query": lambda text: base64.b64encode(f"GET /?q={quote(text, safe='')}".encode()).decode(),
    "hexadecimal of a form": lambda text: quote_plus(text).encode().hex(),
    "hexadecimal": lambda text: text.encode().hex(),
    "hexadecimal, upper case": lambda text: text.encode().hex().upper(),
    "hexadecimal, colons": lambda text: text.encode().hex(":"),
    "hexadecimal, spaces": lambda text: text.encode().hex(" "),
    "hexadecimal, escaped": lambda text: "".join(f"\\x{byte:02x}" for byte in text.encode()),
    "hexadecimal, a list": lambda text: ", ".join(f"0x{byte:02X}" for byte in text.encode()),
    "capitals": str.upper,
    "small letters": str.lower,
}


@pytest.mark.parametrize("codec", CODECS)
def test_secret_is_found_in_every_spelling(codec: str) -> None:
    encoded = CODECS[codec](SECRET)
    masked = Mask([SECRET]).text(f"before {encoded} after")
    assert masked.startswith("before ")
    assert masked.endswith(" after")
    assert MASK in masked
    assert SECRET[:5] not in masked


@given(st.binary(max_size=7), st.text(min_size=LEAST, max_size=40), st.binary(max_size=7), st.booleans())
def test_secret_is_found_within_base64(before: bytes, secret: str, after: bytes, url_safe: bool) -> None:
    try:
        raw = secret.encode()
    except UnicodeEncodeError:
        return
    encode = base64.urlsafe_b64encode if url_safe else base64.b64encode
    masked = Mask([secret]).text(encode(before + raw + after).decode())
    assert MASK in masked
    shown = base64.b64decode(masked.partition(MASK)[0].replace("-", "+").replace("_", "/") + "===")
    assert len(shown) <= len(before) + 1


@pytest.mark.parametrize("spell", [str, json.dumps], ids=["plain", "JSON"])
def test_secret_is_found_within_base64_of_several_lines(spell: Callable[[str], str]) -> None:
    secret = "".join(f"{number:04x}" for number in range(40))
    encoded = base64.encodebytes(f"user:{secret}".encode()).decode()
    assert len(encoded.splitlines()) == 3
    masked = Mask([secret]).text(spell(encoded))
    assert len(masked) < 20
    assert masked.count(MASK) == 1


@given(st.text(min_size=LEAST, max_size=60), st.text(max_size=20), st.text(max_size=20))
def test_any_secret_is_gone(secret: str, before: str, after: str) -> None:
    masked = Mask([secret]).text(before + secret + after)
    assert MASK in masked
    if MASK not in secret and secret not in before + MASK + after:
        assert secret not in masked


def test_values_names_and_numbers() -> None:
    mask = Mask(["hunter22", "12345678"])
    value = {"a": ["hunter22", 1, None, True], "hunter22": {"n": 12345678, "d": Decimal("1.5")}, "e": Decimal(12345678)}
    assert mask.value(value) == {"a": [MASK, 1, None, True], MASK: {"n": MASK, "d": Decimal("1.5")}, "e": MASK}


def test_what_holds_no_secret_is_the_same_object() -> None:
    mask = Mask(["hunter22"])
    body = b'{"a": 1}'
    text = "nothing"
    assert mask.bytes(body) is body
    assert mask.text(text) is text


def test_short_texts_are_left() -> None:
    assert not Mask(["abc", ""])
    assert Mask(["abc"]).text("abcdef") == "abcdef"


def test_long_secret_is_found_in_parts() -> None:
    secret = "".join(f"line {number:04d} of a private key\n" for number in range(300))
    mask = Mask([secret])
    assert "0123" not in mask.text("x" + secret.splitlines()[123] + "y")
    assert "0123" not in mask.text(json.dumps(secret))


def test_more_secrets_than_one_pattern_bears() -> None:
    secrets = [f"{number:06d}" + "!#$&'()*+,/:;=?@[]<>" * 12 for number in range(160)]
    mask = Mask(secrets)
    assert mask.value({"first": secrets[0], "both": f"{secrets[158]} {secrets[159]}"}) == {
        "first": MASK,
        "both": f"{MASK} {MASK}",
    }


def test_longest_secret_wins() -> None:
    assert Mask(["secret", "secret-and-more"]).text("a secret-and-more b secret") == f"a {MASK} b {MASK}"
