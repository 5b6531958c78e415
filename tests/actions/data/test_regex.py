from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from dustrun.actions.data.regex import Input, regex
from dustrun.errors import Invalid
from dustrun.sdk.testing import perform

TEXT = "Ann: 5 €, Bob: 12 €"
PATTERN = r"(?P<who>\w+): (\d+)( USD)?"


async def run(**payload: Any) -> dict[str, Any]:
    return await perform(regex, payload)


async def test_all_tells_every_place_in_characters() -> None:
    result = await run(text=TEXT, pattern=PATTERN, operation="all")
    first = {"text": "Ann: 5", "start": 0, "end": 6, "groups": ["Ann", "5", None], "named": {"who": "Ann"}}
    second = {"text": "Bob: 12", "start": 10, "end": 17, "groups": ["Bob", "12", None], "named": {"who": "Bob"}}
    assert result == {"matched": True, "match": first, "matches": [first, second], "count": 2, "text": None}


async def test_nothing_found_is_no_error() -> None:
    empty: dict[str, Any] = {"matched": False, "match": None, "matches": [], "count": 0, "text": None}
    for operation in ("test", "match", "all"):
        assert await run(text="x", pattern="y", operation=operation) == empty
    assert await run(text="x", pattern="y", operation="replace", replacement="z") == {**empty, "text": "x"}


async def test_test_tells_only_whether() -> None:
    assert (await run(text=TEXT, pattern="BOB", operation="test", ignoreCase=True))["matched"] is True


@pytest.mark.parametrize(
    ("payload", "found"),
    [
        ({"text": "a\nb", "pattern": "^b$", "multiline": True}, "b"),
        ({"text": "a\nb", "pattern": "a.b", "dotAll": True}, "a\nb"),
        ({"text": "ÄÖ", "pattern": "äö", "ignoreCase": True}, "ÄÖ"),
        ({"text": "x{y", "pattern": r"\{{1}y"}, "{y"),
    ],
)
async def test_options_change_what_is_found(payload: dict[str, Any], found: str) -> None:
    assert (await run(**payload))["match"]["text"] == found


@pytest.mark.parametrize(
    ("replacement", "text"),
    [
        (r"\2 for \g<who>\3", "5 for Ann €, 12 for Bob €"),
        (r"\g<2>0", "50 €, 120 €"),
        (r"\\é", r"\é €, \é €"),
        (r"\0!", "Ann: 5! €, Bob: 12! €"),
        ("$1 %s", "$1 %s €, $1 %s €"),
    ],
)
async def test_replace_fills_groups_and_nothing_else(replacement: str, text: str) -> None:
    result = await run(text=TEXT, pattern=PATTERN, operation="replace", replacement=replacement)
    assert (result["text"], result["count"]) == (text, 2)


@pytest.mark.parametrize("replacement", [r"\4", r"\g<x>", r"\n", "\\", r"\g<1"])
async def test_a_replacement_that_names_no_group_is_refused(replacement: str) -> None:
    payload = {"text": TEXT, "pattern": PATTERN, "operation": "replace"}
    with pytest.raises(ValidationError, match="is not a group"):
        Input.model_validate({**payload, "replacement": replacement})
    filled = {"$item": {"with": replacement}}
    with pytest.raises((Invalid, ValidationError), match="is not a group"):
        await perform(regex, {**payload, "replacement": "{{$item.with}}"}, None, filled)
    with pytest.raises(Invalid, match="is not a group"):
        await perform(regex, {**payload, "replacement": replacement + "{{'{{'}}"})


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ({"pattern": "(a"}, r"is not a valid RE2 expression: missing \)"),
        ({"pattern": r"(a)\1"}, "is not a valid RE2 expression"),
        ({"pattern": "(?=a)"}, "is not a valid RE2 expression"),
        ({"pattern": "((a{100}){100}){100}"}, "is not a valid RE2 expression"),
        ({"pattern": "a" * 1001}, "at most 1000"),
        ({"pattern": "a", "operation": "replace"}, "requires `replacement`;"),
        ({"pattern": "a", "replacement": "b"}, "`replacement`; other operations"),
        ({"pattern": "a", "maxMatches": 10_001}, "less than or equal"),
    ],
)
def test_an_input_that_makes_no_sense_is_refused(payload: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Input.model_validate({"text": "", **payload})


async def test_a_pattern_is_never_a_template() -> None:
    assert regex.raw_fields == {"pattern"}


async def test_too_many_matches_fail() -> None:
    with pytest.raises(Invalid, match=r"more than 3 matches \(maxMatches\)"):
        await run(text="aaaa", pattern="a", operation="all", maxMatches=3)
    assert (await run(text="aaa", pattern="a", operation="all", maxMatches=3))["count"] == 3


async def test_the_text_that_comes_out_has_a_limit() -> None:
    payload = {"text": "a" * 5000, "pattern": "a", "operation": "replace", "maxMatches": 10_000}
    with pytest.raises(Invalid, match="longer than 1048576"):
        await run(**payload, replacement="x" * 1000)


async def test_searches_that_each_look_at_the_whole_rest_have_a_limit() -> None:
    with pytest.raises(Invalid, match="too many matches for a text of 300000 characters"):
        await run(text="a" * 300_000, pattern="a(?:.*b)?", operation="all", maxMatches=10_000)


async def test_a_pattern_whose_one_search_would_take_minutes_is_refused() -> None:
    with pytest.raises(Invalid, match="too large for a text of 1000000 characters"):
        await run(text="x" * 1_000_000, pattern="((x?){30}){30}y", operation="test")
    assert (await run(text="x" * 2000, pattern="((x?){30}){30}y", operation="test"))["matched"] is False
    for pattern in (r"[\w.+-]+@[\w-]+\.[a-z]{2,}", r"\d{4}-\d{2}-\d{2}", r"(?i)https?://[^\s\"'<>]+", r"\s+"):
        assert not (await run(text="x" * 1_000_000, pattern=pattern, operation="test"))["matched"]


_alphabet = st.text("abé€ ", max_size=12)


@given(_alphabet, st.sampled_from(["a", "b?", "[é€]+", "(a)|(b)", "", "a|ab", "é*"]))
async def test_it_finds_and_replaces_what_python_does(text: str, pattern: str) -> None:
    expected = [(found.group(), found.start(), list(found.groups())) for found in re.finditer(pattern, text)]
    result = await run(text=text, pattern=pattern, operation="all")
    found = [(match["text"], match["start"], match["groups"]) for match in result["matches"]]
    if all(piece for piece, _, _ in expected):  # the two differ in where empty matches may lie
        assert found == expected
        replaced = await run(text=text, pattern=pattern, operation="replace", replacement=r"<\0>")
        assert replaced["text"] == re.sub(pattern, lambda match: f"<{match[0]}>", text)
    assert all(text[match["start"] : match["end"]] == match["text"] for match in result["matches"])
