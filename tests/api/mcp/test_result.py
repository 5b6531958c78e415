"""Results of tools stay small and harmless."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dustrun.api.mcp.inputs import schema_of
from dustrun.api.mcp.result import MOST_BYTES, Result
from dustrun.api.mcp.tools import TOOLS
from dustrun.errors import Invalid


@pytest.mark.parametrize(
    "value",
    [
        "x" * 100_000,
        ["é" * 400] * 1_000,
        {f"k{number}": number for number in range(100_000)},
        [[[[[[[[[[[[[[[["deep"]]]]]]]]]]]]]]]],
        ["\u200b\U000e0041" * 300] * 1_000,
        [10**400] * 5,
        ['"\\\n' * 200] * 1_000,
    ],
)
def test_untrusted_text_is_cut(value: Any) -> None:
    text = Result({"runId": "run_1"}, {"value": value}).text()
    shown = json.loads(text)
    assert len(text.encode()) <= MOST_BYTES
    assert (shown["runId"], shown["truncated"]) == ("run_1", True)


def test_values_are_cut_at_300_characters_and_short_ones_are_not() -> None:
    shown = json.loads(Result({}, {"short": "a" * 300, "long": "a" * 301}).text())
    assert shown["untrusted"] == {"short": "a" * 300, "long": "a" * 300 + "…"}


def test_unseen_characters_are_dropped_from_untrusted_text_and_escaped_in_exact_text() -> None:
    hidden = "a\u200b\u202e\U000e0041b"
    text = Result({"definition": hidden}, {"said": hidden}).text()
    assert (text.isascii(), json.loads(text)) == (True, {"definition": hidden, "untrusted": {"said": "ab"}})


def test_an_exact_part_that_is_too_large_is_refused() -> None:
    with pytest.raises(Invalid, match="larger than"):
        Result({"definition": "x" * MOST_BYTES}).text()


def test_all_tools_take_little_of_a_model_s_memory() -> None:
    listed = [
        {"name": one.name, "description": one.about, "inputSchema": schema_of(one.takes)} for one in TOOLS.values()
    ]
    assert len(json.dumps(listed, separators=(",", ":"))) < 1_500 * 4  # about four characters a token
