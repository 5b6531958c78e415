"""The values of a run as an answer shows them. Large ones are passed on as the text that is stored, which takes a tenth
of decoding and encoding them again, or are left out on request."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from dustrun.core.values.exact_json import JsonText, is_wire
from dustrun.log import may_hold_secret
from dustrun.records import dataclass
from dustrun.storage.db.statement import Tx
from dustrun.storage.runs.large_values import LARGE, MARK, StoredValues


class Answering(NamedTuple):
    """What an answer has of a run. `largest`: the most bytes of a value that it shows; None for any."""

    largest: int | None


@dataclass(frozen=True, slots=True)
class Omitted:
    """A value that is left out; `bytes`: its size as JSON."""

    bytes: int


class ShownValues(StoredValues):
    """The values of one run, for `Answering`."""

    def __init__(self, tx: Tx, run_pk: int, largest: int | None) -> None:
        super().__init__(tx, run_pk)
        self._largest = largest
        self._passed: dict[tuple[str, bool], bool] = {}

    def prepare(self, rows: Iterable[Iterable[Any]]) -> None:
        """See `StoredValues`."""
        if self._largest is None:
            super().prepare(rows)
        else:
            self.prepare_sizes(rows)

    def load_input(self, text: str) -> Any:
        """A value that still has to be masked, unless it is a `JsonText`."""
        return self._show(text, is_private=True)

    def load_result(self, text: str) -> Any:
        """A value whose secrets were masked when it was stored."""
        return self._show(text, is_private=False)

    def load_facts(self, text: str) -> Any:
        """Facts of which no answer shows a large value."""
        return self.outline(text)

    def _show(self, text: str, *, is_private: bool) -> Any:
        if self._largest is not None and (size := self.size(text)) > self._largest:
            return Omitted(size)
        is_large = len(text) >= LARGE or MARK in text
        if is_large and all(self._may_pass(piece, is_private) for piece in self.pieces(text)):
            return JsonText(self.whole(text).encode())
        return self.load(text)

    def _may_pass(self, piece: str, is_private: bool) -> bool:
        """Whether a piece of the text is the same in an answer."""
        key = piece, is_private
        if key not in self._passed:
            self._passed[key] = is_wire(piece.encode()) and not (is_private and may_hold_secret(piece))
        return self._passed[key]
