"""One list of names of secrets: what any of its readers masked when each had its own is masked still."""

from __future__ import annotations

import itertools
import json
import re

from dustrun import log
from dustrun.core.text.secret_rules import is_secret_name
from dustrun.core.validate.nodes import _looks_secret

_LOG = re.compile(r"(authorization|token|secret|password|api[_-]?key|private[_-]?key|mnemonic)", re.I)
_EXPORTS = re.compile(
    "(authorization|cookie|secret|password|passphrase|api[_-]?key|private[_-]?key|mnemonic"
    "|(?:access|auth|bearer|refresh|session|bot)[_-]?token)$|^x-.*(token|key|secret)$",
    re.I,
)
_HEADERS = re.compile(
    r"(^|-)(auth|authori[sz]ation|cookie|token|secret|password|passwd|api-?key|(auth|access|session|subscription)-key)$",
    re.I,
)
_WORDS = (
    *("auth", "authorization", "authorisation", "cookie", "token", "secret", "password", "passwd", "passphrase"),
    *("apikey", "api-key", "api_key", "privateKey", "private_key", "private-key", "mnemonic", "access-key", "key"),
    *("session-key", "subscription-key", "accessToken", "bot_token", "refresh-token", "name", "tokens"),
)
NAMES = [
    change(first + word + last)
    for first, word, last in itertools.product(("", "x-", "my", "X-My-"), _WORDS, ("", "s", "_1", "-of-it"))
    for change in (str, str.upper, str.lower)
]


def test_what_a_log_masked_is_masked_and_so_is_what_the_others_name() -> None:
    for name in NAMES:
        masked = log.mask_value({name: "0f0f 1"}) == {name: "***"}
        assert masked or not _LOG.search(name), name
        assert not masked or log.may_hold_secret(json.dumps({name: "0f0f 1"})), name
    assert log.mask_value({"Set-Cookie": "a", "passphrase": "b"}) == {"Set-Cookie": "***", "passphrase": "***"}
    assert log.may_hold_secret('{"passphrase": 1}')
    assert log.may_hold_secret('{"Cookie": 1}')


def test_what_exports_left_out_is_left_out() -> None:
    assert [name for name in NAMES if _EXPORTS.search(name) and not is_secret_name(name)] == []
    assert not is_secret_name("tokenIn")


def test_headers_that_were_warned_of_are_warned_of() -> None:
    assert [name for name in NAMES if _HEADERS.search(name) and not _looks_secret(name)] == []
    assert _looks_secret("X-Passphrase")
    assert not _looks_secret("X-Csrf-Token")
