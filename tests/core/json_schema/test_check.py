"""What the checker says of payloads: exact, in plain words, and always soon."""

from __future__ import annotations

import contextlib
import time
from decimal import Decimal
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dustrun.core.json_schema.check import PayloadCheck
from dustrun.core.json_schema.schema import check_schema
from dustrun.core.values.exact_json import dumps_text, loads
from dustrun.errors import Invalid


def told(schema: dict[str, Any], payload: Any) -> list[str]:
    check_schema(schema)
    try:
        PayloadCheck(schema).check(payload)
    except Invalid as error:
        return [f"{found['field']}: {found['message']}" for found in error.public_details()]
    return []


def of_x(part: Any, x: str) -> list[str]:
    """What is told of the field `x`, which the text `x` spells, under one schema."""
    schema = loads(dumps_text({"properties": {"x": part}})) if not isinstance(part, str) else loads(part)
    return [text.removeprefix("payload.x: ") for text in told(schema, loads(f'{{"x": {x}}}'))]


@pytest.mark.parametrize(
    ("part", "x"),
    [
        ('{"properties": {"x": {"type": "integer"}}}', "1.0"),
        ('{"properties": {"x": {"type": "number", "maximum": 0.3}}}', "0.3"),
        ('{"properties": {"x": {"multipleOf": 0.1}}}', "0.3"),
        ('{"properties": {"x": {"multipleOf": 0.01}}}', "1000000000000000000000000000000000000.01"),
        ('{"properties": {"x": {"multipleOf": 0.1}}}', "1e900"),
        ('{"properties": {"x": {"const": 0.10}}}', "0.1"),
        ('{"properties": {"x": {"enum": [[1.0, {"a": 1}]]}}}', '[1, {"a": 1.0}]'),
        ('{"properties": {"x": {"uniqueItems": true}}}', '[1, true, "1", [1], {"a": 1}, null, 0, false]'),
        ('{"properties": {"x": {"pattern": "é+"}}}', '"caféé"'),
        ('{"properties": {"x": {"default": {"$ref": "http://x", "pattern": "(?=x)"}}}}', "1"),
        (
            '{"properties": {"x": {"$ref": "#/$defs/a"}}, "$defs": {"a": {"$anchor": "here"}, "b": {"$ref": "#here"}}}',
            "1",
        ),
        ('{"$id": "https://example.com/a", "$schema": "https://json-schema.org/draft/2020-12/schema"}', "1"),
        ('{"$ref": "#/$defs/tree", "$defs": {"tree": {"properties": {"x": {"$ref": "#/$defs/tree"}}}}}', '{"x": {}}'),
        ('{"properties": {"x": true}, "unevaluatedProperties": false}', "1"),
        ('{"patternProperties": {"^x$": {"type": "integer"}}, "additionalProperties": false}', "1"),
    ],
)
def test_it_is_accepted(part: str, x: str) -> None:
    assert of_x(part, x) == []


@pytest.mark.parametrize(
    ("part", "x", "message"),
    [
        ({"type": "number"}, '"1"', "It must be a number, not a string."),
        ({"type": ["string", "null"]}, "true", "It must be a string or null, not true or false."),
        ({"type": "integer"}, "1.50", "It must be a whole number, not a number with a fraction."),
        ({"type": "integer"}, "true", "It must be a whole number, not true or false."),
        ({"enum": ["a", 1]}, "true", 'It must be one of "a",1.'),
        ({"const": 1}, "true", "It must be 1."),
        ({"minimum": 1}, "0.99999999999999999999", "It must be at least 1."),
        ({"exclusiveMaximum": 1}, "1.0", "It must be less than 1."),
        ({"multipleOf": 3}, "10", "It must be a multiple of 3."),
        ({"minLength": 2}, '"é"', "It must have at least 2 characters."),
        ({"maxItems": 0}, "[1]", "It must have at most 0 items."),
        ({"uniqueItems": True}, '[{"a": 1.0}, {"a": 1}]', "Two of its items are equal."),
        ({"pattern": "^a$"}, '"b"', 'It must match the pattern "^a$".'),
        ({"anyOf": [{"type": "null"}]}, "1", "It matches none of the alternatives that the schema allows."),
        ({"oneOf": [True, True]}, "1", "It must match exactly one of the alternatives of the schema."),
        ({"not": {}}, "1", "It matches a schema that is not allowed here."),
        (
            {"contains": {"type": "null"}},
            "[1]",
            'Too few or too many of its items match the "contains" schema.',
        ),
        ({"dependentRequired": {"a": ["b"]}}, '{"a": 1}', "A field that another field requires is missing."),
        (False, "1", "No value is allowed here."),
        ({"unevaluatedItems": False}, "[1]", 'It does not satisfy "unevaluatedItems" of the schema.'),
        ({"propertyNames": {"maxLength": 1}}, '{"ab": 1}', "It must have at most 1 characters."),
    ],
)
def test_it_is_refused_in_plain_words(part: Any, x: str, message: str) -> None:
    assert of_x(part, x) == [message]


@pytest.mark.parametrize(
    ("schema", "payload"),
    [
        ({"patternProperties": {"^(a+)+$": {}}, "additionalProperties": False}, {"a" * 5000 + "!": 1}),
        ({"propertyNames": {"pattern": "^(a+)+$"}}, {"a" * 5000 + "!": 1}),
        ({"properties": {"x": {"uniqueItems": True}}}, {"x": [{"a": n} for n in range(30_000)]}),
        ({"properties": {"x": {"uniqueItems": True}}}, {"x": [[n] for n in range(70_000)]}),
        ({"properties": {"x": {"items": {"type": "string"}}}}, {"x": list(range(100_000))}),
        ({"properties": {"x": {"items": {"enum": list(range(1000))}}}}, {"x": [-1] * 10_000}),
        (
            {
                "$defs": {
                    **{f"a{n}": {"anyOf": [{"$ref": f"#/$defs/a{n + 1}"}] * 2} for n in range(30)},
                    "a30": {"type": "null"},
                },
                "$ref": "#/$defs/a0",
            },
            {"x": 1},
        ),
        ({"patternProperties": {f"^{n}": {} for n in range(1000)}}, {str(n): n for n in range(1000)}),
    ],
)
def test_hostile_schemas_and_payloads_come_to_an_end(schema: dict[str, Any], payload: dict[str, Any]) -> None:
    start = time.process_time()
    told(schema, payload)
    assert time.process_time() - start < 5


@pytest.mark.parametrize(
    ("part", "x"),
    [
        ({"items": {"type": "integer", "minimum": 0}}, "[" + "1e400," * 2_500 + "1]"),
        ({"items": {"multipleOf": 7}}, "[" + "7e990," * 1_000 + "7]"),
        ({"uniqueItems": True}, "[" + ",".join(str(n * (2**61 - 1)) for n in range(20_000)) + "]"),
        ({"anyOf": [{"type": "string", "title": str(n)} for n in range(300)]}, "[" + "1," * 49_999 + "1]"),
        ({"allOf": [{"items": {}, "title": str(n)} for n in range(300)]}, "[" + "1," * 49_999 + "1]"),
    ],
    ids=["exponents", "multiples", "numbers with one hash", "values in messages", "schemas that allow all"],
)
def test_no_value_makes_a_step_slow(part: Any, x: str) -> None:
    """Before: up to 6 s of processor time for a payload of 1 MiB, or minutes for numbers with one hash."""
    schema, payload = {"properties": {"x": part}}, loads(f'{{"x": {x}}}')
    with contextlib.suppress(Invalid):
        PayloadCheck(schema).check({})  # what is loaded once does not count
    start = time.process_time()
    with contextlib.suppress(Invalid):
        PayloadCheck(schema).check(payload)
    assert time.process_time() - start < 0.6


def test_a_quick_check_is_told_apart_from_a_long_one() -> None:
    few, fan = {"type": "object", "required": ["id"]}, {"$defs": {"a": {}}, "allOf": [{"$ref": "#/$defs/a"}]}
    found = [
        PayloadCheck(schema).is_quick(payload) for schema in (few, fan) for payload in ({"id": 1}, {"id": [1] * 999})
    ]
    assert found == [True, False, False, False]


_BIG = 7 * int("1" * 999)


@pytest.mark.parametrize(
    ("schema", "payload"),
    [
        ({"additionalProperties": {"multipleOf": 7}}, {str(n): _BIG for n in range(600)}),
        ({"additionalProperties": {"allOf": [{"multipleOf": 7}] * 30}}, {str(n): _BIG for n in range(28)}),
        ({"additionalProperties": {"allOf": [{"multipleOf": 7}] * 300}}, {"a": _BIG, "b": _BIG}),
        ({"additionalProperties": {"uniqueItems": True}}, {"a": [_BIG + n for n in range(600)]}),
        ({"additionalProperties": {"multipleOf": 7}}, {str(n): Decimal("7e990") for n in range(600)}),
        ({"additionalProperties": {"multipleOf": 7}}, {str(n): Decimal("0." + "7" * 990) for n in range(600)}),
        ({"additionalProperties": {"multipleOf": _BIG}}, {str(n): n for n in range(600)}),
        ({"patternProperties": {f"a{n}": {} for n in range(30)}}, {"b" * 100_000: 1}),
    ],
    ids=["integers", "many schemas", "few numbers", "items", "exponents", "fractions", "divisor", "long name"],
)
def test_digits_and_names_are_work(schema: Any, payload: Any) -> None:
    """Before: numbers of 1,000 digits weighed nothing, and took up to 86 ms on the event loop."""
    assert not PayloadCheck(schema).is_quick(payload)
    amounts = {f"amount{n}": 2**256 - 1 - n for n in range(8)} | {"price": Decimal("3012.50")}
    assert PayloadCheck({"additionalProperties": {"multipleOf": 7}}).is_quick(amounts)


def test_problems_are_told_up_to_fifty() -> None:
    assert len(told({"properties": {"x": {"items": {"type": "string"}}}}, {"x": [1] * 1000})) == 50


def test_values_are_not_repeated() -> None:
    schema = {"properties": {"token": {"type": "integer", "maxLength": 2, "pattern": "a", "enum": [1], "not": {}}}}
    found = told(schema, {"token": "sk-very-secret"})
    assert len(found) == 5
    assert "very-secret" not in "".join(found)


def test_a_check_inside_a_check_has_its_own_budget() -> None:
    """The budget is of the call, not of the schema: the second is as good as the first."""
    check = PayloadCheck({"properties": {"x": {"items": {"type": "integer"}}}})
    for _ in range(3):
        check.check({"x": list(range(60_000))})


_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-3, 3), st.sampled_from(["", "a", "ab", "b"])),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from("abx"), inner, max_size=3)),
    max_leaves=6,
)
_schemas = st.recursive(
    st.one_of(
        st.booleans(),
        st.fixed_dictionaries({"type": st.sampled_from(["null", "boolean", "integer", "number", "string", "array"])}),
        st.fixed_dictionaries({"enum": st.lists(_values, min_size=1, max_size=3)}),
        st.fixed_dictionaries({"const": _values}),
        st.fixed_dictionaries({"uniqueItems": st.just(True), "required": st.lists(st.sampled_from("ab"), unique=True)}),
        st.fixed_dictionaries({"multipleOf": st.integers(1, 3), "pattern": st.sampled_from(["^a", "b$"])}),
    ),
    lambda inner: st.one_of(
        st.fixed_dictionaries(
            {},
            optional={
                "properties": st.dictionaries(st.sampled_from("abx"), inner, max_size=2),
                "patternProperties": st.dictionaries(st.sampled_from(["a", "^x"]), inner, max_size=1),
                "additionalProperties": inner,
                "items": inner,
                "not": inner,
            },
        ),
        st.fixed_dictionaries({"anyOf": st.lists(inner, min_size=1, max_size=2)}),
        st.fixed_dictionaries({"oneOf": st.lists(inner, min_size=1, max_size=2)}),
    ),
    max_leaves=5,
)


@given(_schemas, st.dictionaries(st.sampled_from("abx"), _values, max_size=3))
def test_it_agrees_with_the_library_on_plain_values(schema: Any, payload: dict[str, Any]) -> None:
    whole = {"allOf": [schema]}
    check_schema(whole)
    assert (told(whole, payload) == []) is jsonschema.Draft202012Validator(whole).is_valid(payload)
