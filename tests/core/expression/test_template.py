"""Templates: types kept, text made, braces escaped, errors placed."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from dustrun.core.expression import EvaluationLimits, ExpressionError, Function, Lazy, parse_expression, parse_template

Evaluate = Callable[..., Any]


class Host(Lazy):
    """A host map that notes what was asked for."""

    def __init__(self, values: dict[str, Any]) -> None:
        self._values = values
        self.asked: list[str] = []

    def get(self, key: str) -> Any:
        self.asked.append(key)
        return self._values[key]

    def keys(self) -> list[str]:
        return list(self._values)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{{$nodes.a.result.price}}", Decimal("1.50")),
        ("  {{ $nodes.a.result.status }}", "  200"),
        ("{{ a.result.tags }}", ["a", "b"]),
        ("{{ a.result.rows[0].city }}", "Lima"),
        ("{{ a.result.note }}", None),
        ("{{ a.result['status'] }}", 200),
        ("{{ true }}", True),
    ],
)
def test_template_of_one_expression_keeps_the_type(render: Evaluate, text: str, value: Any) -> None:
    found = render(text)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{{1e21}} wei", "1000000000000000000000 wei"),
        ("{{0.0000001}}!", "0.0000001!"),
        ("{{100 * 10}} {{2.50}}", "1000 2.50"),
        ("x={{a.result.tags}}", 'x=["a","b"]'),
        ("x={{ {'n': 1.50, 'z': null} }}", 'x={"n":1.50,"z":null}'),
        ("[{{null}}]", "[]"),
        ("{{true}} {{now()}}", "true 2026-05-01T12:00:00Z"),
        ("plain", "plain"),
        ("", ""),
        ("{{'}}'}} and {{ '{{' }}", "}} and {{"),
        ("{{ {'a': {'b': 1}}.a.b }}.", "1."),
        ("{{{{name}}}} is {{'x'}}", "{{name}} is x"),
        ('{"a":{"b":{"c":{"d":{{1}}}}}}', '{"a":{"b":{"c":{"d":1}}}}'),
        ("lone }} and }}}} stay", "lone }} and }}}} stay"),
        ("{{ 1 // }} still a comment\n}}.", "1."),
        ("{{ r'\\}}' }}.", "\\}}."),
    ],
)
def test_template_within_text_becomes_text(render: Evaluate, text: str, value: str) -> None:
    assert render(text) == value


def test_template_without_braces_is_static() -> None:
    template = parse_template("a }} b")
    assert (template.is_static, template.is_whole, template.references) == (True, False, ())
    assert parse_template("{{a}}").is_whole
    assert not parse_template(" {{a}}").is_whole


@pytest.mark.parametrize("text", ["{{", "x {{ 1", "{{ '}}", "{{}}", "{{ 1 2 }}", "{{ a. }}", "{{ $ }}", "{{ a.$b }}"])
def test_template_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        parse_template(text)
    assert caught.value.kind == "syntax"


def test_error_shows_the_place_with_a_caret() -> None:
    with pytest.raises(ExpressionError) as caught:
        parse_template("first line\nprice: {{ 1 + }}")
    assert (caught.value.line, caught.value.column) == (2, 14)
    assert str(caught.value) == (
        "unexpected end of the expression (line 2, column 14)\n  price: {{ 1 + }}\n               ^"
    )


def test_missing_path_is_an_error_with_near_matches(render: Evaluate) -> None:
    with pytest.raises(ExpressionError) as caught:
        render("{{$nodes.a.result.prise}}")
    error = caught.value
    assert (error.kind, error.path, error.line, error.column) == ("missing", "$nodes.a.result.prise", 1, 19)
    assert error.message == ('$nodes.a.result.prise is missing: $nodes.a.result has no such key; did you mean "price"?')


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("{{nowhere.x}}", "nowhere"),
        ("{{$nodes.b.result}}", "$nodes.b"),
        ("{{a.result.rows[7].id}}", "a.result.rows[7]"),
        ("{{a.result.note.x}}", "a.result.note.x"),
        ("{{a.result.status.x}}", "a.result.status.x"),
        ("{{a.result.rows.id}}", "a.result.rows.id"),
        ("{{a.result.rows.map(r, r.nope)}}", "r.nope"),
    ],
)
def test_missing_path_names_what_is_missing(render: Evaluate, text: str, path: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        render(text)
    assert (caught.value.kind, caught.value.path) == ("missing", path)


def test_quick_path_and_compiled_path_agree(render: Evaluate) -> None:
    for path in ("a.result.prise", "a.result.rows[9]", "a.result.note.x", "zzz", "a.result.tags[0]", "a.result.note"):
        outcomes = []
        for text in (f"{{{{{path}}}}}", f"{{{{({path})}}}}"):
            try:
                outcomes.append(render(text))
            except ExpressionError as error:
                outcomes.append((error.kind, error.message, error.path))
        assert outcomes[0] == outcomes[1]


def test_error_never_quotes_values(render: Evaluate) -> None:
    for text in ("{{$secret + 1}}", "{{round($secret)}}", "{{int($secret)}}", "{{$secret.x}}", "{{!$secret}}",
                 "{{parseTime($secret)}}", "{{query($secret, 'abs(@)')}}", "{{$secret ? 1 : 2}}",
                 "{{$secret && true}}", "{{timestamp($secret)}}", "{{fromHex($secret)}}"):  # fmt: skip
        with pytest.raises(ExpressionError) as caught:
            render(text, secret="hunter2")
        assert "hunter2" not in str(caught.value)


def test_host_function_is_called_only_with_its_arguments(render: Evaluate) -> None:
    assert render("{{$run.resumeUrl('ask')}}") == "https://x.test/ask"
    assert render("go {{$run.resumeUrl('ask')}}!") == "go https://x.test/ask!"
    for text in ("{{$run.resumeUrl()}}", "{{$run.resumeUrl}}", "{{$run.other()}}", "{{[$run.resumeUrl]}}"):
        with pytest.raises(ExpressionError):
            render(text)


def test_host_function_that_refuses_is_an_error_without_its_words(render: Evaluate) -> None:
    def refuse(node: str) -> str:
        raise KeyError("hunter2")

    with pytest.raises(ExpressionError) as caught:
        render("{{$nodes.call('x')}}{{$host.call('x')}}", host=Host({"call": Function(refuse, 1)}))
    assert caught.value.message == 'there is no function "call"; did you mean "all"?'
    with pytest.raises(ExpressionError) as caught:
        render("{{$host.call('x')}}", host=Host({"call": Function(refuse, 1)}))
    assert caught.value.message == "call() does not accept these arguments"


def test_looking_for_a_key_asks_the_host_for_that_key_only(evaluate: Evaluate) -> None:
    host = Host({"a": 1, "b": 2})
    assert evaluate("'a' in $host && !('c' in $host)", host=host) is True
    assert host.asked == ["a", "c"]


def test_lazy_root_becomes_a_plain_map(render: Evaluate) -> None:
    assert render("{{$run}}") == {"id": "run_1"}
    assert render("{{keys($nodes)}}") == ["a"]
    assert render("{{'a' in $nodes && !('b' in $nodes)}}") is True
    assert render("{{$nodes.exists(n, n == 'a')}}") is True


def test_text_larger_than_the_limit_is_refused(render: Evaluate) -> None:
    with pytest.raises(ExpressionError) as caught:
        render("{{$item}}{{$item}}", EvaluationLimits(size=150), item="x" * 100)
    assert caught.value.kind == "limit"


def test_bare_expression_needs_no_braces(evaluate: Evaluate) -> None:
    assert evaluate("$trigger.body.amount > 3") is True
    assert parse_expression("1 + 2").is_whole
