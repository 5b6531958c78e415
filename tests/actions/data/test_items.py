"""Field paths, and keys that compare."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dustrun.actions.data.items import MISSING, comparable, keyed, need, number_of, parse_path, reach
from dustrun.errors import Code, Invalid

ITEM = {"a": {"b": [{"c": 1}, 2]}, "odd.key": 3, "0": 4}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("a.b[0].c", 1),
        ("a.b.0.c", 1),
        ("$item.a.b[1]", 2),
        ('$item["odd.key"]', 3),
        ("$items", MISSING),
        ('["odd.key"]', 3),
        ('a["b"][1]', 2),
        ("0", 4),
        ("$item", ITEM),
        ("a.x", MISSING),
        ("a.b[2]", MISSING),
        ("a.b.c", MISSING),
        ("a.b.-1", MISSING),
        ("a.b[1].c", MISSING),
        ("a.b.²", MISSING),
    ],
)
def test_a_path_leads_to_its_field(path: str, value: Any) -> None:
    assert reach(ITEM, parse_path(path)) == value


@pytest.mark.parametrize(
    "path",
    [
        "",
        ".a",
        "a.",
        "a..b",
        "a[",
        "a[x]",
        "a.[0]",
        "[0",
        "$item.[0]",
        "$item[x]",
        "[0]b",
        "a." * 250 + "a",
        "a[-1]",
        '["x"',
        "$item.",
        "a]",
    ],
)
def test_a_path_that_cannot_be_read_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="not a field path;"):
        parse_path(path)


@given(st.text(max_size=30), st.dictionaries(st.text(max_size=5), st.integers(), max_size=3))
def test_any_text_is_a_path_or_refused(text: str, item: dict[str, int]) -> None:
    try:
        path = parse_path(text)
    except ValueError:
        return
    reach(item, path)


def test_a_missing_field_names_the_item_and_what_is_near() -> None:
    with pytest.raises(Invalid) as caught:
        need({"price": 1, "symbol": "x"}, 3, "prise")
    assert caught.value.message == 'Item 3 has no "prise"; did you mean "price"?'
    assert caught.value.code is Code.ACTION_INPUT_INVALID
    assert caught.value.public_details() == [{"field": "payload.array", "message": caught.value.message}]
    with pytest.raises(Invalid, match=r"Item 0 has no .*; it is not an object"):
        need(7, 0, "prise")


@pytest.mark.parametrize(
    ("value", "number"),
    [("10", 10), ("-0.50", Decimal("-0.50")), (7, 7), (Decimal("1.5"), Decimal("1.5"))]
    + [(text, None) for text in ("007", "1e5", "+1", " 1", "1.", ".5", "0x1", "١", "", "NaN", "1" * 1001)]
    + [(True, None), (None, None), ([1], None)],
)
def test_a_number_is_plain_digits(value: Any, number: Any) -> None:
    assert number_of(value) == number


def test_keys_of_one_kind_are_told_with_their_places() -> None:
    found = keyed([{"n": "2"}, {"n": None}, {}, {"n": "10"}], "n", numeric=True, lenient=True)
    assert [(entry.key, entry.index) for entry in found] == [(2, 0), (None, 1), (None, 2), (10, 3)]


@pytest.mark.parametrize(
    ("array", "numeric", "message"),
    [
        ([1, "a"], False, r'The "\$item" of item 0 is a number and that of item 1 is a string'),
        ([True, 1], False, "which cannot be compared"),
        ([[1]], False, 'The "$item" of item 0 is a list, which cannot be ordered.'.replace("$", r"\$")),
        ([{}], False, "which cannot be ordered"),
        (["x"], True, "is a string, not a number"),
        ([True], True, "not a number"),
    ],
)
def test_keys_that_do_not_compare_are_refused(array: list[Any], numeric: bool, message: str) -> None:
    with pytest.raises(Invalid, match=message):
        keyed(array, "$item", numeric=numeric, lenient=False)


def test_equal_numbers_are_one_key_and_nothing_else_is() -> None:
    values = [1, Decimal("1.0"), "1", True, None, 0, False]
    assert len({comparable(value) for value in values}) == 6
