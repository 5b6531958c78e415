"""A small world to evaluate expressions in: roots from a dict, `$nodes` and `$run` filled on demand."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any

import pytest

from dustrun.core.expression import EvaluationLimits, Function, Lazy, parse_expression, parse_template


class Shelf(Lazy):
    """A host map over a dict that counts what was asked for."""

    def __init__(self, values: dict[str, Any]) -> None:
        self._values = values
        self.asked: list[str] = []

    def get(self, key: str) -> Any:
        self.asked.append(key)
        return self._values[key]

    def keys(self) -> Iterable[str]:
        return list(self._values)


class World:
    """Roots from a dict."""

    def __init__(self, roots: dict[str, Any]) -> None:
        self.roots = roots

    def root(self, name: str) -> Any:
        return self.roots[name]


PRICE = {
    "status": 200,
    "price": Decimal("1.50"),
    "units": "1500000000000000000",
    "note": None,
    "tags": ["a", "b"],
    "rows": [
        {"id": 1, "city": "Lima", "amount": Decimal("10.50"), "paid": True},
        {"id": 2, "city": "Oslo", "amount": 4, "paid": False},
        {"id": 3, "city": "Lima", "amount": 2, "paid": True},
    ],
}


def make_world(**roots: Any) -> World:
    """The usual roots and those given, whose names get their `$`."""
    usual = {
        "$nodes": Shelf({"a": Shelf({"result": PRICE, "status": "success"})}),
        "a": Shelf({"result": PRICE, "status": "success"}),
        "$trigger": {"body": {"name": "Ann", "amount": 5}, "headers": {"x-id": "7"}},
        "$run": Shelf({"id": "run_1", "resumeUrl": Function(lambda node: f"https://x.test/{node}", 1, "resumeUrl")}),
        "$now": "2026-05-01T12:00:00Z",
    }
    return World({**usual, **{f"${name}": value for name, value in roots.items()}})


Evaluate = Callable[..., Any]


@pytest.fixture(scope="session")
def evaluate() -> Evaluate:
    """`evaluate("a + b", item=…)`: a bare expression in the usual world."""

    def run(text: str, limits: EvaluationLimits | None = None, **roots: Any) -> Any:
        return parse_expression(text).evaluate(make_world(**roots), limits or EvaluationLimits())

    return run


@pytest.fixture(scope="session")
def render() -> Evaluate:
    """`render("Hi {{$item}}", item=…)`: a template in the usual world."""

    def run(text: str, limits: EvaluationLimits | None = None, **roots: Any) -> Any:
        return parse_template(text).evaluate(make_world(**roots), limits or EvaluationLimits())

    return run


@pytest.fixture(scope="session")
def world() -> Callable[..., World]:
    """The usual world with further roots."""
    return make_world
