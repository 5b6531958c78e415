"""The recipes of the guide are nodes that validate, and their expressions come to what the actions take."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from dustrun.catalog import load
from dustrun.core.expression import compile_value
from dustrun.core.validate import check
from dustrun.core.workflow.definition import Definition
from dustrun.sdk.testing import FakeRoots

GUIDE = Path(__file__).resolve().parents[3] / "docs/guides/evm-actions.md"
CATALOG = load()
RECIPES: list[dict[str, Any]] = [
    json.loads(text) for text in re.findall(r"^```json\n(.*?)^```$", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
]
ADDRESS = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
WORLD = {
    "$trigger": {
        "body": {
            "address": ADDRESS,
            "usd": Decimal("12.34"),
            "treasury": ADDRESS,
            "hash": "0x" + "12" * 32,
            "vault": ADDRESS,
            "owner": ADDRESS,
        }
    },
    "$nodes": {
        "price": {"result": {"usd": Decimal("3127.418290517364281904")}},
        "swap": {"result": {"tokenOut": ADDRESS, "amountOut": "2467895085"}},
        "csv": {"result": {"rows": [{"invoice": "A-17", "address": ADDRESS, "amount": "12.50"}]}},
        "gas": {"result": {"expectedGwei": Decimal("7.5")}},
        "approve": {"result": {"allowance": "5"}},
    },
}


@pytest.mark.parametrize("node", RECIPES, ids=lambda node: node["type"])
def test_a_recipe_validates(node: dict[str, Any]) -> None:
    names = ["price", "swap", "csv", "gas", "approve"]
    others = {name: {"type": "log", "payload": {"message": ""}, "children": ["it"]} for name in names}
    nodes = {"root": {"type": "manual", "children": names}, **others, "it": node}
    found = check(Definition.model_validate({"nodes": nodes}), CATALOG.specs())
    assert [problem.message for problem in found if "result" not in problem.message] == []


@pytest.mark.parametrize("node", [n for n in RECIPES if n["type"] in CATALOG.actions], ids=lambda node: node["type"])
def test_a_recipe_gives_what_its_action_takes(node: dict[str, Any]) -> None:
    action = CATALOG.actions[node["type"]]
    filled = compile_value(node["payload"], action.raw_fields).evaluate(FakeRoots(WORLD))
    action.input.model_validate(filled)


def test_every_action_of_the_family_is_in_the_table() -> None:
    table = GUIDE.read_text().partition("## Amounts")[0]
    kinds = {kind for kind, action in CATALOG.actions.items() if action.family == "evm"}
    assert {kind for kind in kinds if f"`{kind}`" not in table} == set()
