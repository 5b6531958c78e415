"""Large values in pieces: the same bytes as in one."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from dustrun.core.values.exact_json import dumps_wire, wire_pieces

WIDE: dict[str, Any] = {f'key "{number}" é': [number, str(number), None] for number in range(9_000)}


@pytest.mark.parametrize(
    "value",
    [
        {"code": 200, "data": {"items": [], "none": None}},
        [7] * 50_001,
        (1, [Decimal("1.50"), 2**60] * 30_000, {}),
        WIDE,
        {"data": {"items": [WIDE, [], {}, "x" * 2_000_000, [[["deep"] * 3] * 9_000]], "hasMore": False}, "code": 200},
        [{}, [], [[]] * 21_000, {"": {"a": [0] * 30_000}}],
    ],
    ids=["small", "flat", "tuple", "object", "answer", "empty"],
)
def test_pieces_together_are_the_whole(value: Any) -> None:
    assert b"".join(wire_pieces(value)) == dumps_wire(value)


def test_no_piece_of_a_large_value_is_large() -> None:
    """Strings are not cut, so only the number of values is bounded."""
    pieces = list(wire_pieces({"items": [[7] * 130_000] * 20}))
    assert max(map(len, pieces)) <= 40_000


def test_keys_that_are_no_strings_are_refused_in_pieces_too() -> None:
    with pytest.raises(TypeError):
        b"".join(wire_pieces({"data": dict.fromkeys(range(30_000), "x")}))
