"""Stores a large value of a run once, however many of its rows contain it.

A payload comes back in the result of its trigger, in the input of the nodes that take it, and in what those return. So
a value whose text is long goes to `run_values`, by the hash of that text, and rows have a mark in its place: U+0001
and the hash, which no JSON text contains, since it escapes control characters. Values belong to one run, so that
deleting a run needs no count of who else has them.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import bindparam as b

from dustrun.core.text.masking import hide
from dustrun.core.values.exact_json import dumps_text, loads_filled, loads_own
from dustrun.storage.db.statement import Rows, Statement, Tx
from dustrun.storage.db.tables import run_values

LARGE: Final = 16_384
"""Characters of a text from which on it is stored by itself."""
_FEW: Final = 64
"""Parts of an object or list that is searched for large values in any case."""
_PART: Final = 4_096
"""Characters that the parts of a longer one must have on average: the results of a loop, not a thousand small rows."""
_DEEP: Final = 10
"""Levels that are searched: each encodes what is in it once more."""
MARK: Final = "\x01"
_MARKS: Final = re.compile(f"{MARK}([0-9a-f]{{64}})")
_TOGETHER: Final = 50

_ADD = Rows(sa.insert(run_values), ("run_pk", "digest", "content", "bytes"))
_FIND = {
    name: Statement(
        sa.select(*(run_values.c[column] for column in columns)).where(
            run_values.c.run_pk == b("run_pk"),
            run_values.c.digest.in_([b(f"digest_{at}") for at in range(_TOGETHER)]),
        )
    )
    for name, columns in {"bytes": ("digest", "bytes"), "content": ("digest", "content")}.items()
}


class LargeValues:
    """The large values that the rows of one transaction contain, by their hashes."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}
        self._sizes: dict[str, int] = {}
        self._folded: dict[int, tuple[Any, str]] = {}
        """By identity: the same object is often in several places. The value is kept, so that no other gets its id."""

    def fold(self, text: str, value: Any) -> str:
        """The text to store for a value that `text` is the JSON of."""
        return text if len(text) < LARGE else self._fold(value, text, _DEEP)

    def _fold(self, value: Any, text: str, deeper: int) -> str:
        if deeper and isinstance(value, dict | list) and len(value) <= max(_FEW, len(text) // _PART):
            if isinstance(value, dict):
                members = (f"{dumps_text(name)}:{self._fold_part(part, deeper - 1)}" for name, part in value.items())
                text = "{" + ",".join(members) + "}"
            else:
                text = "[" + ",".join(self._fold_part(part, deeper - 1) for part in value) + "]"
            if len(text) < LARGE:
                return text
        raw = text.encode()
        digest = hashlib.sha256(raw).hexdigest()
        self._texts[digest], self._sizes[digest] = text, _size(raw, self._sizes)
        return MARK + digest

    def _fold_part(self, part: Any, deeper: int) -> str:
        known = self._folded.get(id(part))
        if known is not None:
            return known[1]
        text = dumps_text(part)
        if len(text) < LARGE:
            return text
        folded = self._fold(part, text, deeper)
        self._folded[id(part)] = part, folded
        return folded

    def write(self, tx: Tx, run_pk: int, *, is_new: bool = False) -> None:
        """Writes those that the run does not have yet; `is_new`: it has none."""
        if not self._texts:
            return
        known = set() if is_new else {row[0] for row in _all(tx, "bytes", run_pk, self._texts)}
        found = ((digest, text, self._sizes[digest]) for digest, text in self._texts.items())
        tx.rows(_ADD, [(run_pk, *one) for one in found if one[0] not in known])


class StoredValues:
    """Reads texts of a run's rows. Signatures stay placeholder marks unless `unseal` resolves them. A value that
    several rows contain is decoded once, so nobody may change it."""

    def __init__(self, tx: Tx, run_pk: int, unseal: Callable[[str], str] = hide) -> None:
        self.run_pk = run_pk
        self._tx = tx
        self._unseal = unseal
        self._texts: dict[str, str] = {}
        self._sizes: dict[str, int] = {}
        self._values: dict[str, Any] = {}

    def load(self, text: str) -> Any:
        """The value of a stored text."""
        if MARK not in text:
            return loads_own(self._unseal(text))
        self._fetch([text])
        return self._value(text)

    def load_input(self, text: str) -> Any:
        """The value of a node's input."""
        return self.load(text)

    def load_result(self, text: str) -> Any:
        """The value of a node's result."""
        return self.load(text)

    def load_facts(self, text: str) -> Any:
        """The facts of a node."""
        return self.load(text)

    def outline(self, text: str) -> Any:
        """The value of a stored text, with None in place of large values in it."""
        while text.startswith(MARK):
            self._fetch([text])
            text = self._texts[text[1:]]
        return loads_filled(self._unseal(_MARKS.sub("NaN", text)), itertools.repeat(None))

    def whole(self, text: str) -> str:
        """A stored text with its large values in place."""
        if MARK not in text:
            return text
        self._fetch([text])
        return self._text(text)

    def pieces(self, text: str) -> list[str]:
        """A stored text and, behind it, each further one that is in it, once."""
        self._fetch([text])
        found = [text]
        for one in found:
            found += [part for digest in _MARKS.findall(one) if (part := self._texts[digest]) not in found]
        return found

    def size(self, text: str) -> int:
        """The bytes of a whole value as JSON; does not read what is stored by itself."""
        self.prepare_sizes([[text]])
        return _size(text.encode(), self._sizes)

    def prepare(self, rows: Iterable[Iterable[Any]]) -> None:
        """Reads in advance, together, what some rows need."""
        self._fetch(_marked_in(rows))

    def prepare_sizes(self, rows: Iterable[Iterable[Any]]) -> None:
        """The same for `size`."""
        missing = {digest for text in _marked_in(rows) for digest in _MARKS.findall(text)} - self._sizes.keys()
        self._sizes |= dict(_all(self._tx, "bytes", self.run_pk, missing))

    def _fetch(self, texts: list[str]) -> None:
        while missing := {digest for text in texts for digest in _MARKS.findall(text)} - self._texts.keys():
            found = dict(_all(self._tx, "content", self.run_pk, missing))
            self._texts |= found
            texts = [text for text in found.values() if MARK in text]
            assert found.keys() == missing, "a row's large values are written with it"

    def _text(self, text: str) -> str:
        return _MARKS.sub(lambda found: self._text(self._texts[found[1]]), text) if MARK in text else text

    def _value(self, text: str) -> Any:
        parts = [self._part(digest) for digest in _MARKS.findall(text)]
        return loads_filled(self._unseal(_MARKS.sub("NaN", text)), parts)

    def _part(self, digest: str) -> Any:
        if digest not in self._values:
            text = self._texts[digest]
            self._values[digest] = self._value(text) if MARK in text else loads_own(self._unseal(text))
        return self._values[digest]


def _marked_in(rows: Iterable[Iterable[Any]]) -> list[str]:
    return [text for row in rows for text in row if type(text) is str and MARK in text]


def _size(raw: bytes, sizes: Mapping[str, int]) -> int:
    """The bytes of a stored text with its large values in place."""
    digests = _MARKS.findall(raw.decode()) if MARK.encode() in raw else ()
    return len(raw) + sum(sizes[digest] - len(digest) - 1 for digest in digests)


def _all(tx: Tx, which: str, run_pk: int, digests: Iterable[str]) -> list[Any]:
    """The rows of some values, in statements of one form, which are compiled once."""
    wanted = sorted(digests)
    found: list[Any] = []
    for first in range(0, len(wanted), _TOGETHER):
        some = wanted[first : first + _TOGETHER]
        some += some[-1:] * (_TOGETHER - len(some))
        found += tx.all(_FIND[which], run_pk=run_pk, **_numbered(some))
    return found


def _numbered(digests: list[str]) -> Mapping[str, str]:
    return {f"digest_{at}": digest for at, digest in enumerate(digests)}
