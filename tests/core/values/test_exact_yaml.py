"""YAML as another spelling of JSON."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

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
