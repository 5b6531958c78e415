"""What was expected, in words of JSON and not of Python."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from dustrun.core.text.wording import explain


@pytest.mark.parametrize(
    ("type_", "value", "told"),
    [
        (bool, "yes?", "Must be true or false."),
        (str, 1, "Must be a string."),
        (int, "x", "Must be a whole number."),
        (int, 1.5, "Must be a whole number."),
        (dict[str, Any], [], "Must be a JSON object."),
        (tuple[int, ...], "x", "Must be a list."),
        (Literal["draft", "active"], "live", 'Must be "draft" or "active".'),
        (Annotated[int, Field(ge=1)], 0, "Must be greater than or equal to 1."),
        (Annotated[str, Field(min_length=1)], "", "Must have at least 1 character."),
        (Annotated[dict[str, int], Field(min_length=1)], {}, "Must have at least 1 item."),
        (Annotated[list[int], Field(max_length=2)], [1, 2, 3], "Must have at most 2 items."),
        (Annotated[dict[str, int], Field(max_length=1)], {"a": 1, "b": 2}, "Must have at most 1 item."),
        (Annotated[str, AfterValidator(str), Field(min_length=1)], "", "Must have at least 1 character."),
        (Annotated[str, AfterValidator(str), Field(max_length=2)], "abc", "Must have at most 2 characters."),
    ],
)
def test_a_finding_says_what_was_expected(type_: Any, value: Any, told: str) -> None:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(type_).validate_python(value)
    (found,) = caught.value.errors()
    assert explain(found["type"], found["msg"]) == told


def test_a_sentence_of_ours_is_kept() -> None:
    assert explain("value_error", "Value error, give either `a` or `b`") == "Give either `a` or `b`."
