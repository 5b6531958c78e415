"""What counts as large, and that counting stops early."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import BaseModel

from dustrun.core.values.exact_json import is_large, weigh


@dataclass(slots=True)
class _Record:
    text: str
    parts: list[Any]


class _Model(BaseModel):
    parts: list[Any]


@pytest.mark.parametrize(
    ("value", "large"),
    [
        (None, False),
        (10**1000, False),
        ([0] * 100, False),
        ([0] * 101, True),
        ({str(number): 0 for number in range(101)}, True),
        ("x" * 6400, False),
        ("x" * 6464, True),
        (b"x" * 6464, True),
        ([["x" * 640] * 9], False),
        ([["x" * 640] * 10], True),
        (_Record("", [0] * 98), False),
        (_Record("", [0] * 99), True),
        (_Model(parts=[0] * 99), False),
        (_Model(parts=[0] * 100), True),
    ],
)
def test_value_is_large_beyond_its_units(value: Any, large: bool) -> None:
    assert is_large(value, 100) is large


def test_weights_of_parts_add_up() -> None:
    assert weigh({"a": [1, "x" * 640], "b": {}, "c": "x" * 63}) == 15


def test_endless_value_is_large() -> None:
    value: list[Any] = []
    value.append(value)
    assert is_large(value)
