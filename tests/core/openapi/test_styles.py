"""How values are written into requests: the tables of the OpenAPI specification, and what they leave open."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from dustrun.core.openapi.styles import Style, form_pairs, header_text, path_text, query_pairs

LIST = ["blue", "black", "brown"]
COLOURS = {"R": 100, "G": 200, "B": 150}


def query(value: Any, style: str, explode: bool, **more: bool) -> str:
    pairs = query_pairs("color", value, Style(name=style, explode=explode, **more))
    return "&".join(f"{name}={text}" for name, text in pairs)


@pytest.mark.parametrize(
    ("style", "explode", "text", "of_list", "of_object"),
    [
        ("matrix", False, ";color=blue", ";color=blue,black,brown", ";color=R,100,G,200,B,150"),
        ("matrix", True, ";color=blue", ";color=blue;color=black;color=brown", ";R=100;G=200;B=150"),
        ("label", False, ".blue", ".blue,black,brown", ".R,100,G,200,B,150"),
        ("label", True, ".blue", ".blue.black.brown", ".R=100.G=200.B=150"),
        ("simple", False, "blue", "blue,black,brown", "R,100,G,200,B,150"),
        ("simple", True, "blue", "blue,black,brown", "R=100,G=200,B=150"),
    ],
)
def test_paths_are_written_as_the_specification_says(
    style: str, explode: bool, text: str, of_list: str, of_object: str
) -> None:
    one = Style(name=style, explode=explode)

    assert [path_text("color", value, one) for value in ("blue", LIST, COLOURS)] == [text, of_list, of_object]


@pytest.mark.parametrize(
    ("style", "explode", "text", "of_list", "of_object"),
    [
        ("form", False, "color=blue", "color=blue,black,brown", "color=R,100,G,200,B,150"),
        ("form", True, "color=blue", "color=blue&color=black&color=brown", "R=100&G=200&B=150"),
        ("spaceDelimited", False, "color=blue", "color=blue%20black%20brown", "color=R%20100%20G%20200%20B%20150"),
        ("pipeDelimited", False, "color=blue", "color=blue%7Cblack%7Cbrown", "color=R%7C100%7CG%7C200%7CB%7C150"),
        ("tabDelimited", False, "color=blue", "color=blue%09black%09brown", "color=R%09100%09G%09200%09B%09150"),
        (
            "deepObject",
            True,
            "color=blue",
            "color%5B0%5D=blue&color%5B1%5D=black&color%5B2%5D=brown",
            "color%5BR%5D=100&color%5BG%5D=200&color%5BB%5D=150",
        ),
    ],
)
def test_queries_are_written_as_the_specification_says(
    style: str, explode: bool, text: str, of_list: str, of_object: str
) -> None:
    assert [query(value, style, explode) for value in ("blue", LIST, COLOURS)] == [text, of_list, of_object]


@pytest.mark.parametrize("explode", [True, False])
def test_nothing_is_written_of_what_is_empty_or_null(explode: bool) -> None:
    nothing: list[Any] = [None, [], {}]
    assert [query(value, "form", explode) for value in nothing] == ["", "", ""]
    assert query([None, "a"], "form", explode) == "color=a"
    assert query("", "form", explode) == "color="


def test_what_would_end_a_value_is_encoded() -> None:
    assert query("a&b=c #é/,", "form", True) == "color=a%26b%3Dc%20%23%C3%A9%2F%2C"
    assert query(["a,b", "c"], "form", False) == "color=a%2Cb,c"
    assert query("a/b?c&d", "form", True, reserved=True) == "color=a/b?c%26d"
    assert query(["a,b", "c"], "form", False, reserved=True) == "color=a%2Cb,c"
    assert path_text("color", "../x?y#z", Style(name="simple")) == "..%2Fx%3Fy%23z"


def test_numbers_and_booleans_are_written_exactly() -> None:
    values: list[Any] = [True, 10**20, Decimal("0.10"), Decimal("1e3")]

    assert header_text(values, Style(name="simple")) == "true,100000000000000000000,0.10,1000"


def test_content_makes_a_parameter_one_json_text() -> None:
    style = Style(name="form", as_json=True)

    assert list(query_pairs("filter", {"a": [1]}, style)) == [("filter", "%7B%22a%22%3A%5B1%5D%7D")]


def form(name: str, value: Any, style: Style | None = None) -> str:
    return "&".join(f"{key}={text}" for key, text in form_pairs(name, value, style))


def test_nested_forms_are_written_as_stripe_reads_them() -> None:
    items = {"items": [{"price": "p1", "tax": [1, 2]}], "metadata": {"a b": True}, "off": None}
    deep = Style(name="deepObject", explode=True)

    assert (
        form("x", items, deep)
        == "x[items][0][price]=p1&x[items][0][tax][0]=1&x[items][0][tax][1]=2&x[metadata][a b]=true"
    )


def test_forms_without_a_style_repeat_lists_and_write_objects_as_json() -> None:
    assert form("a", ["x", 1]) == "a=x&a=1"
    assert form("a", {"b": [1]}) == 'a={"b":[1]}'
    assert form("a", [{"b": 1}]) == 'a=[{"b":1}]'
    assert form("a", ["x", "y"], Style(name="form", explode=False)) == "a=x,y"
    assert form("a", ["x", "y"], Style(name="pipeDelimited", explode=False)) == "a=x|y"
