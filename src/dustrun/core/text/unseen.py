"""Characters that no reader sees and a model may obey: controls, format characters with the tags among them, private
ones."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

UNSEEN_KINDS: Final = frozenset({"Cc", "Cf", "Co", "Cs", "Zl", "Zp"})
_PLAIN: Final = re.compile(r"[ -~\n\t]*")


def without_unseen(text: str) -> str:
    """The text without characters that are not seen."""
    if _PLAIN.fullmatch(text):
        return text
    return "".join(one for one in text if one in "\n\t" or unicodedata.category(one) not in UNSEEN_KINDS)
