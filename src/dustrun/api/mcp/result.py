"""Results of tools: one compact JSON text of bounded size, with text from outside apart and made harmless."""

from __future__ import annotations

import unicodedata
from dataclasses import field
from typing import Any, Final

from dustrun.core.text.masking import hide
from dustrun.core.text.wording import UNSEEN_KINDS, without_unseen
from dustrun.core.values.exact_json import dumps_text
from dustrun.errors import Code, DustrunError, Invalid
from dustrun.records import dataclass

Json = dict[str, Any]
MOST_BYTES: Final = 16_384
MOST_CHARS: Final = 300
_ROOM_FOR_MARKS: Final = 512
_MOST_DEPTH: Final = 12
_CUT: Final = "…"


@dataclass(frozen=True, slots=True)
class Result:
    """The findings of a tool. `own`: exact, kept small by the tool; `untrusted`: text that others wrote, cut to what is
    left of the size."""

    own: Json
    untrusted: Json = field(default_factory=dict)

    def text(self) -> str:
        """The result as the client gets it; raises `Invalid` if the exact part alone is too large."""
        budget = _Budget(MOST_BYTES - _ROOM_FOR_MARKS - _size(dumps_text(self.own)))
        if budget.left < 0:
            raise Invalid(
                f"The result is larger than {MOST_BYTES} bytes. Ask for less: a lower `limit`, or fewer `nodes`.",
                code=Code.PARAMETER_INVALID,
            )
        shown = dict(self.own)
        if self.untrusted:
            shown["untrusted"] = _cut(self.untrusted, budget, 0)
        if budget.was_cut:
            shown["truncated"] = True
        return _visible(hide(dumps_text(shown)))


def failure_text(error: DustrunError) -> str:
    """A failure as the client gets it."""
    details = [_cut(one, _Budget(1_000), 0) for one in error.public_details()[:10]]
    found = {"code": int(error.code), "message": without_unseen(error.message)[:1_000], "details": details}
    return _visible(hide(dumps_text(found)))


class _Budget:
    """How many bytes may still be shown, and whether something was left out."""

    def __init__(self, left: int) -> None:
        self.left = left
        self.was_cut = False

    def take(self, size: int) -> bool:
        if size > self.left:
            self.was_cut = True
            return False
        self.left -= size
        return True


def _size(text: str) -> int:
    """At most how many bytes a JSON text takes once what is unseen in it is escaped."""
    return len(text) if text.isascii() else sum(len(_visible(one).encode()) for one in text)


def _cut(value: Any, budget: _Budget, depth: int) -> Any:
    """The value within the budget, in its own order; the work is bounded by the budget, not by the value."""
    if isinstance(value, str):
        return _cut_text(value, budget)
    if isinstance(value, dict):
        return _cut_object(value, budget, depth)
    if isinstance(value, list | tuple):
        return _cut_list(value, budget, depth)
    if isinstance(value, bool) or value is None:
        budget.take(5)
        return value
    text = dumps_text(value)
    if len(text) > MOST_CHARS or not budget.take(len(text)):
        budget.was_cut = True
        return _CUT
    return value


def _cut_text(value: str, budget: _Budget) -> str:
    clean = without_unseen(value[: MOST_CHARS + 1])
    if len(value) > MOST_CHARS:
        clean, budget.was_cut = clean[:MOST_CHARS] + _CUT, True
    return clean if budget.take(_size(dumps_text(clean))) else _CUT


def _cut_object(value: Json, budget: _Budget, depth: int) -> Json:
    shown: Json = {}
    for name, one in value.items():
        key = without_unseen(str(name)[:MOST_CHARS])
        if depth >= _MOST_DEPTH or not budget.take(_size(dumps_text(key)) + 8):
            budget.was_cut = True
            break
        shown[key] = _cut(one, budget, depth + 1)
    return shown


def _cut_list(value: list[Any] | tuple[Any, ...], budget: _Budget, depth: int) -> list[Any]:
    shown: list[Any] = []
    for one in value:
        if depth >= _MOST_DEPTH or not budget.take(8):
            budget.was_cut = True
            break
        shown.append(_cut(one, budget, depth + 1))
    return shown


def _visible(text: str) -> str:
    """A JSON text in which unseen characters are escaped; it means the same."""
    if text.isascii():
        return text
    return "".join(_escaped(one) if unicodedata.category(one) in UNSEEN_KINDS else one for one in text)


def _escaped(char: str) -> str:
    code = ord(char)
    if code < 0x10000:
        return f"\\u{code:04x}"
    code -= 0x10000
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"
