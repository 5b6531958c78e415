"""Words validator messages for API users: JSON terms instead of Python's."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

_OBJECT = "Must be a JSON object."
_LIST = "Must be a list."
_WHOLE = "Must be a whole number."
_NUMBER = "Must be a number, or a string that contains one."
_YES_OR_NO = "Must be true or false."
_BY_KIND = {
    "missing": "This field is required.",
    "extra_forbidden": "Unknown field.",
    "bool_type": _YES_OR_NO,
    "bool_parsing": _YES_OR_NO,
    "string_type": "Must be a string.",
    "int_type": _WHOLE,
    "int_parsing": _WHOLE,
    "int_from_float": _WHOLE,
    "decimal_type": _NUMBER,
    "decimal_parsing": _NUMBER,
    "dict_type": _OBJECT,
    "mapping_type": _OBJECT,
    "model_type": _OBJECT,
    "model_attributes_type": _OBJECT,
    "list_type": _LIST,
    "tuple_type": _LIST,
    "set_type": _LIST,
    "frozen_set_type": _LIST,
}
_PYTHON = (
    (re.compile(r"^Value error, "), ""),
    (re.compile(r"^Input should be "), "Must be "),
    (re.compile(r"^Value (should have at (?:least|most) \d+) item"), r"String \1 character"),  # a text with a validator
    (re.compile(r"^(?:String|List|Tuple|Set|Dictionary|Value|Data) should "), "Must "),
    (re.compile(r" after validation, not (?:\d+|more)$"), ""),
)
_QUOTED = re.compile(r"'([^'\"]*)'")


def explain(kind: str, message: str) -> str:
    """Rewords a validator's message."""
    if kind in _BY_KIND:
        return _BY_KIND[kind]
    text = message
    for pattern, words in _PYTHON:
        text = pattern.sub(words, text)
    if kind in ("literal_error", "enum"):
        text = _QUOTED.sub(r'"\1"', text)
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "?", "!")) else ".")


# Characters that no reader sees and a model may obey: controls, format characters with the tags among them, private
# ones.


UNSEEN_KINDS: Final = frozenset({"Cc", "Cf", "Co", "Cs", "Zl", "Zp"})
_PLAIN: Final = re.compile(r"[ -~\n\t]*")


def without_unseen(text: str) -> str:
    """The text without characters that are not seen."""
    if _PLAIN.fullmatch(text):
        return text
    return "".join(one for one in text if one in "\n\t" or unicodedata.category(one) not in UNSEEN_KINDS)
