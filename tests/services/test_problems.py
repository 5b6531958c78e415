"""Very many errors of one document are counted, but only some are described."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from dustrun.core.values.fields import Fields
from dustrun.services.problems import errors_in, problems_of


class _Order(Fields):
    name: str
    amounts: list[int]


def _described(document: Any) -> list[tuple[str, str]]:
    validate = TypeAdapter(_Order).validate_python
    with pytest.raises(ValidationError) as raised:
        validate(document)
    found = errors_in(raised.value, document, validate)
    return [(problem.field, problem.message) for problem in problems_of(found, model=_Order)]


def test_few_errors_are_described_as_they_are() -> None:
    assert _described({"amounts": ["x"]}) == [
        ("name", "This field is required."),
        ("amounts[0]", "Must be a whole number."),
    ]


def test_of_many_errors_the_first_are_described() -> None:
    unknown = {f"k{number}": 1 for number in range(1_000)}
    described = _described({**unknown, "amounts": ["x"] * 1_000, "name": "a"})
    assert described == [(f"k{number}", "Unknown field.") for number in range(100)]


def test_many_errors_beyond_the_first_items_are_counted() -> None:
    document = {"name": "a", "amounts": [1] * 100 + ["x"] * 2_000}
    message = "There are 2000 problems, all of them beyond the first 100 items of a list or object."
    assert _described(document) == [("body", message)]
