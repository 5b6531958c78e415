"""YAML as another spelling of JSON."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from dustrun.core.values import exact_json, exact_yaml
from dustrun.core.values.exact_json import JsonError

_WORDS = "yes null ~ 1e3 0x1F 1:30 2026-01-31 = << - # 1_000 .5 +1 ? &a *a % ' \" a:b \x00 \r\n \u2028 \x85 \ufeff 😀"
_TRICKY = [*_WORDS.split(" "), "", " a", "a ", "- a", "a: b"]
_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from(_TRICKY)
_numbers = st.integers() | st.decimals(-(10**9), 10**9, allow_nan=False, places=12)
_values = st.recursive(
    st.none() | st.booleans() | _numbers | _texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_texts, inner, max_size=4),
    max_leaves=12,
)


@given(value=_values)
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_what_is_written_is_read_again(value: Any) -> None:
    text = exact_json.dumps(value)
    assert exact_json.dumps(exact_yaml.loads(exact_yaml.dumps(value))) == text


_NUMBER_LIKE = st.text("0178ox_.+-eEyn:", min_size=1, max_size=6)
_DISPUTED_TEXTS = (
    "y n Y N yes No on OFF true Null ~ = << . .. _1 .inf -.INF .NaN 0o17 +0o7 -0o7 0o1_7 0b1 0x1F 017 08 -09 1_000 +_1 "
    "._1 1:30 190:20:30.15 1.2.3 +.5 .5 1. 1e3 +1e3 1.e5 12e03 1E+3 2026-01-31 2026-1-1 2001-12-14t21:59:43.10-05:00"
)
_DISPUTED = _DISPUTED_TEXTS.split(" ")


def _readers() -> list[Callable[[str], Any]]:
    """Readers of YAML 1.1 and 1.2."""

    def ruamel(version: tuple[int, int] | None) -> Callable[[str], Any]:
        def load(text: str) -> Any:
            reader = YAML(typ="safe", pure=True)
            reader.version = version
            return reader.load(text)

        return load

    return [yaml.safe_load, ruamel((1, 1)), ruamel((1, 2)), exact_yaml.loads]


@given(text=_NUMBER_LIKE | st.sampled_from(_DISPUTED))
@settings(deadline=None)
def test_a_text_stays_one_for_readers_of_every_version(text: str) -> None:
    written = exact_yaml.dumps({"list": [text], text: text})
    for load in _readers():
        assert load(written) == {"list": [text], text: text}


@given(number=_numbers)
@settings(deadline=None)
def test_a_number_stays_one_for_readers_of_every_version(number: Any) -> None:
    written = exact_yaml.dumps([number, str(number)])
    for load in _readers():
        read, text = load(written)
        assert not isinstance(read, str | bool)
        assert float(read) == float(number)
        assert text == str(number)


@pytest.mark.parametrize("text", _DISPUTED)
def test_a_disputed_text_is_quoted_as_value_and_key(text: str) -> None:
    for load in _readers():
        assert load(exact_yaml.dumps({text: text})) == {text: text}


def test_it_looks_as_people_write_it() -> None:
    value = {"name": "a", "list": [1, Decimal("1.10"), 10**30, True, None], "text": "x\ny\n", "odd": "yes", "1": "2"}
    assert exact_yaml.dumps(value) == (
        "name: a\nlist:\n- 1\n- 1.10\n- 1000000000000000000000000000000\n- true\n- null\n"
        "text: 'x\n\n  y\n\n  '\nodd: 'yes'\n'1': '2'\n"
    )


def test_only_what_json_has_is_understood() -> None:
    text = "a: yes\nb: 2026-01-31\nc: 0x1F\nd: 1_000\ne: ~\nf:\ng: |\n  1\n  2\n1: one\non: .5\n"
    assert exact_yaml.loads(text) == {
        "a": "yes",
        "b": "2026-01-31",
        "c": "0x1F",
        "d": "1_000",
        "e": None,
        "f": None,
        "g": "1\n2\n",
        "1": "one",
        "on": ".5",
    }


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a: &x [1]\nb: *x", "anchors and aliases"),
        ("a: !!python/object:os.system x", "tag"),
        ("!!set {a}", "tag"),
        ("a: 1\na: 2", "occurs twice at line 2"),
        ("[a]: 1", "key must be a string"),
        ("a: 1\n---\nb: 2", "2 documents"),
        ("", "0 documents"),
        ("a: [1", "line"),
        ("[" * 150, "nested deeper than 100 levels"),
        ("[" * 5000, "nest"),
        ("a: 1e9999", "out of range"),
        ("a: \t- b\n\tc", "line"),
    ],
)
def test_what_is_refused(text: str, why: str) -> None:
    with pytest.raises(JsonError, match=why):
        exact_yaml.loads(text)
