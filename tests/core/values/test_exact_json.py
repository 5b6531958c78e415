"""JSON in and out without a float and without a digit lost."""

from __future__ import annotations

import json
import threading
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dustrun.core.values import exact_json
from dustrun.core.values.exact_json import JsonError, dumps, dumps_text, dumps_wire, loads, loads_own, loads_unique
from testkit.examples import examples

SAFE = 2**53 - 1

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
decimals = st.decimals(-(10**60), 10**60, allow_nan=False, allow_infinity=False)
scalars = st.none() | st.booleans() | st.integers() | st.integers(-(10**300), 10**300) | decimals | texts
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4), max_leaves=20
)


def nested(levels: int) -> Any:
    value: Any = 1
    for number in range(levels):
        value = [value] if number % 2 else {"a": value}
    return value


def leaves(value: Any) -> list[Any]:
    if isinstance(value, dict | list):
        items = value.values() if isinstance(value, dict) else value
        return [leaf for item in items for leaf in leaves(item)]
    return [value]


def twin(value: Any) -> Any:
    """A value with its types, in which 1 and 1.0 and true differ."""
    if isinstance(value, dict):
        return {key: twin(item) for key, item in value.items()}
    if isinstance(value, list):
        return [twin(item) for item in value]
    return type(value).__name__, value


@given(values)
def test_what_is_written_is_read_again(value: Any) -> None:
    assert loads(dumps(value)) == value
    assert loads(dumps_text(value)) == value


@given(values)
def test_reading_and_writing_settles_after_one_round(value: Any) -> None:
    once = loads(dumps(value))
    assert twin(loads(dumps(once))) == twin(once)
    assert dumps(loads(dumps(once))) == dumps(once)


@given(values)
def test_no_float_comes_in(value: Any) -> None:
    assert not [leaf for leaf in leaves(loads(dumps(value))) if isinstance(leaf, float)]


@given(values)
def test_a_client_with_doubles_reads_every_integer_exactly(value: Any) -> None:
    read = json.loads(dumps_wire(value), parse_float=Decimal)
    assert not [leaf for leaf in leaves(read) if isinstance(leaf, int) and abs(leaf) > SAFE]
    for before, after in zip(leaves(value), leaves(read), strict=True):
        assert str(after) == str(before) or Decimal(after) == before


@given(st.dictionaries(texts, scalars, max_size=6))
def test_canonical_text_does_not_depend_on_the_order_of_keys(value: dict[str, Any]) -> None:
    backwards = dict(reversed(value.items()))
    assert dumps(value, canonical=True) == dumps(backwards, canonical=True)
    assert loads(dumps(value, canonical=True)) == value


@given(st.binary(max_size=60) | st.text(max_size=60))
def test_any_text_is_read_or_refused(text: bytes | str) -> None:
    try:
        loads(text)
    except JsonError as error:
        assert str(error)  # noqa: PT017


@given(st.from_regex(r"\A-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,25})?\Z"))
def test_any_number_is_read_exactly_or_refused(text: str) -> None:
    try:
        value = loads(text)
    except JsonError as error:
        assert "out of range" in str(error)  # noqa: PT017
        return
    assert value == (Decimal(text) if {*text} & {*".eE"} else int(text))
    assert len(dumps(value)) <= exact_json.MAX_NUMBER_CHARS
    assert loads(dumps(value)) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.1", Decimal("0.1")),
        ("1.50", Decimal("1.50")),
        ("-0.0", Decimal("-0.0")),
        ("1e3", Decimal("1e3")),
        ("1E-7", Decimal("0.0000001")),
        ("1e999", Decimal("1e999")),
        ("1000000000000000000001", 10**21 + 1),
        ("-" + "9" * 999, -int("9" * 999)),
        (b'"\xc3\xa4"', "ä"),
        (r'"\ud83d\ude00"', "😀"),
        ('{"a":1,"a":2}', {"a": 2}),
    ],
)
def test_value_is_read_exactly(text: str | bytes, value: Any) -> None:
    assert twin(loads(text)) == twin(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Expecting value at line 1, column 1"),
        ('{"a": 1,\n  b}', "at line 2, column 3"),
        ("[1] 2", "Extra data"),
        ("[01]", "Expecting ',' delimiter"),
        ("'a'", "Expecting value"),
        ('"a\nb"', "Invalid control character"),
        ("NaN", "NaN is not JSON"),
        ("[-Infinity]", "-Infinity is not JSON"),
        (b'"\xff"', "not UTF-8 at byte 1"),
        (b"\xef\xbb\xbf\xef\xbb\xbf1", "Expecting value"),
        (r'"\ud800"', "lone surrogate"),
        (r'["a", {"\udc00x": 1}]', "lone surrogate"),
        ("9" * 1001, "a number has 1001 characters; at most 1000"),
        ("0." + "9" * 1000, "a number has 1002 characters; at most 1000"),
        (f"[{','.join(['1e999'] * 1_100)}]", "its numbers with exponents stand for too many digits in all"),
        ("1e1000", "'1e1000' is out of range"),
        ("1e-1000", "out of range"),
        ("0e-9999999", "out of range"),
        ("0e9999999", "out of range"),
        ("1e99999999999999999999", "out of range"),
        ("[-1.5e-99999999999999999999]", "out of range"),
    ],
)
def test_what_is_no_json_of_ours_is_refused(text: str | bytes, message: str) -> None:
    with pytest.raises(JsonError, match=message.replace("[", r"\[")):
        loads(text)


def test_a_key_that_stands_twice_is_refused_of_those_who_ask() -> None:
    text = '{"a": [{"amount": 1, "b": 2, "amount": 1000}]}'
    assert exact_json.loads(text) == {"a": [{"amount": 1000, "b": 2}]}
    with pytest.raises(JsonError, match="an object has the key 'amount' twice"):
        exact_json.loads_unique(text)
    assert exact_json.loads_unique('{"a": {"a": 0.10}, "b": [{"a": 1}, {"a": 1}]}') == {
        "a": {"a": Decimal("0.10")},
        "b": [{"a": 1}, {"a": 1}],
    }


def test_nesting_ends_at_the_limit() -> None:
    assert loads(dumps(nested(exact_json.MAX_DEPTH))) == nested(exact_json.MAX_DEPTH)
    with pytest.raises(JsonError, match="nested deeper than 100 levels"):
        loads(dumps(nested(exact_json.MAX_DEPTH + 1)))


def test_whatever_was_written_is_read_again() -> None:
    value = {"items": [nested(exact_json.MAX_DEPTH)]}
    assert loads_own(dumps(value)) == value
    assert loads_own(dumps(nested(250))) == nested(250)
    with pytest.raises(JsonError):
        loads_own("[" * 500_000)


@pytest.mark.parametrize("levels", [900, 5000, 500_000])
def test_endless_nesting_is_refused_not_a_crash(levels: int) -> None:
    for text in ("[" * levels, "[" * levels + "]" * levels, "[" * levels + r'"\u0041"' + "]" * levels):
        with pytest.raises(JsonError):
            loads(text)
    with pytest.raises(JsonError):
        loads('{"a":' * levels + "1" + "}" * levels)


def test_many_brackets_side_by_side_are_no_depth() -> None:
    assert loads("[" + "[]," * 5000 + "[]]") == [[]] * 5001


MANY = "[" + "[]," * 250_000
"""So many lists that what follows is read in turns with other threads."""
HEAVY = f'["{"[" * 250_001}",'
"""What follows is read in turns too: brackets in a string count like lists, and are read at once."""


def heavy(text: str) -> Any:
    """What is read of a text as the last item of a heavy document."""
    assert exact_json._is_heavy(HEAVY)
    return loads(f"{HEAVY}{text}]")[-1]


def test_exponents_may_double_a_document() -> None:
    """What is read after another document is counted for itself."""
    for _ in range(3):
        assert len(loads(f"[{','.join(['1e999'] * 1_000)}]")) == 1_000
    assert len(loads(f"[{','.join(['1e-7'] * 300_000)}]")) == 300_000


@examples(10)
@given(values)
def test_a_heavy_document_is_read_like_any_other(value: Any) -> None:
    for text in (dumps_text(value), json.dumps(value, default=str)):
        assert twin(heavy(text)) == twin(loads(text))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "Expecting"), ("NaN", "NaN is not JSON"), ("1e9999", "out of range"), ("9" * 1001, "1001 characters"),
        (r'"\ud800"', "lone surrogate"), (r'{"\ud800": 1}', "lone surrogate"), ("01", "Expecting"),
        ("1\u0663", "Expecting|other digits"),
        ("[" * 100 + "]" * 100, "deeper"), ("[" * 5_000, "deeper"), ("1] 2", "Extra data"),
    ],
)  # fmt: skip
def test_a_heavy_document_that_is_no_json_of_ours_is_refused(text: str, message: str) -> None:
    with pytest.raises(JsonError, match=message):
        heavy(text)


def test_other_threads_have_their_turns_while_a_heavy_document_is_read() -> None:
    turns, is_read = 0, threading.Event()

    def read() -> None:
        assert len(loads_own(f"{MANY}[]]")) > 250_000
        is_read.set()

    reader = threading.Thread(target=read)
    reader.start()
    while not is_read.wait(0.001):
        turns += 1
    reader.join()
    assert turns > 10


def test_a_heavy_document_with_a_key_twice_is_refused_of_those_who_ask() -> None:
    with pytest.raises(JsonError, match="the key 'a' twice"):
        loads_unique(f'{HEAVY}{{"a": 1, "a": 2}}]')
    assert heavy(r'"\ud83d\ude00\u0041"') == "\U0001f600A"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (2**63, "9223372036854775808"),
        ([Decimal("1E+3"), Decimal("1.50"), Decimal("1E-10")], "[1000,1.50,0.0000000001]"),
        ({"b": (1, 2), "a": True}, '{"b":[1,2],"a":true}'),
        ({"big": -(2**70), "small": Decimal("0.10")}, '{"big":-1180591620717411303424,"small":0.10}'),
    ],
)
def test_stored_text_is_compact_and_in_plain_digits(value: Any, text: str) -> None:
    assert dumps_text(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (SAFE, "9007199254740991"),
        (-SAFE - 1, '"-9007199254740992"'),
        (10**18, '"1000000000000000000"'),
        (Decimal("1E+18"), '"1000000000000000000"'),
        (Decimal("12.50"), "12.50"),
        ({"rows": [2**64, True, None]}, '{"rows":["18446744073709551616",true,null]}'),
    ],
)
def test_a_client_gets_large_integers_as_text(value: Any, text: str) -> None:
    assert dumps_wire(value).decode() == text


@pytest.mark.parametrize(
    "value",
    [
        Decimal("NaN"),
        [Decimal("Infinity")],
        Decimal("1E+1000"),
        Decimal("0E-9999999"),
        Decimal("1E-1000"),
        10**1000,
        [-(10**5000)],
        {1: 2},
        {"a": {1, 2}},
        b"bytes",
        "\ud800",
        object(),
    ],
)
def test_what_could_not_be_read_again_is_not_written(value: Any) -> None:
    for write in (dumps, dumps_wire):
        with pytest.raises(TypeError):
            write(value)


def test_a_byte_order_mark_is_no_part_of_a_document() -> None:
    """Editors and clients of Windows write one; RFC 8259 lets readers ignore it."""
    marked = b'\xef\xbb\xbf{"a": 1.10}'
    assert loads(marked) == loads_unique(marked) == loads(marked.decode()) == {"a": Decimal("1.10")}
    assert loads('"\ufeffx"') == "\ufeffx"
