"""Rules for what could be a secret, by name or shape, for exported files and for what the editor copies.

The web app gets the same expressions (`scripts/generate_docs.py`), so they are written in what Python and JavaScript
share.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, Final

from dustrun.log import NAMES_OF_SECRETS

_SENT_NAMES: Final = (
    "auth|cookie|token|secret|key|passw|passphrase|mnemonic|signature|(^|[-_])sign$|session|credential|jwt"
)
"""Parts of names of headers and parameters of a request, for what is not shown and not sent to another origin."""
_TOKENS: Final = "(?:access|auth|bearer|refresh|session|bot)[_-]?token"
"""Tokens that are no assets of a chain."""
_NAMES: Final = f"{NAMES_OF_SECRETS}|{_TOKENS}"
NAME: Final = f"({_NAMES})$|^x-.*(token|key|secret)$"
SHAPE: Final = "|".join(
    (
        r"^(bearer|basic) \S{8}",
        r"\b(sk|st|whsec|ghp|xox[abp])[_-][a-z0-9_-]{16}",
        rf"[?&](token|signature|[\w-]*({_NAMES}))=[^&{{]{{4}}",
        r":\/\/[^/\s:@]*:[^/\s@]+@",
        rf'"[\w-]*({_NAMES})"\s*:\s*"[^"]',
        rf"(^|&)[\w-]*({_NAMES})=[^&]",
    )
)
_NAME = re.compile(NAME, re.IGNORECASE)
_SENT = re.compile(_SENT_NAMES, re.IGNORECASE)
_SHAPE = re.compile(SHAPE, re.IGNORECASE)
_EXPRESSION = re.compile(r"\{\{[\s\S]*?\}\}")
_TEXT_IN_EXPRESSION = re.compile(r""""([^"]*)"|'([^']*)'""")


def may_be_credential(name: str) -> bool:
    """Whether the name of a header or parameter of a request indicates a secret value."""
    return name.lower() != "idempotency-key" and _SENT.search(name) is not None


def is_secret_name(name: str) -> bool:
    """Whether what has this name is probably a secret."""
    return _NAME.search(name) is not None


def is_secret(value: Any, *, is_named: bool) -> bool:
    """Whether a value could be a secret. `is_named`: its name says so; then what an expression gives is none yet."""
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        return is_named
    if not isinstance(value, str) or not value:
        return False
    return (is_named and "{{" not in value) or any(_SHAPE.search(text) for text in _literals(value))


def _literals(text: str) -> Iterator[str]:
    """The literal text of a value: all but its expressions, and each text within them."""
    if "{{" not in text:
        yield text
        return
    yield _EXPRESSION.sub("", text)
    for expression in _EXPRESSION.findall(text):
        for double, single in _TEXT_IN_EXPRESSION.findall(expression):
            yield double or single


def is_secret_pair(value: dict[str, Any]) -> bool:
    """Whether an object such as `{"name": "apiKey", "value": …}` holds a secret in its `value`."""
    name = value.get("name", value.get("key"))
    return isinstance(name, str) and is_secret_name(name)
