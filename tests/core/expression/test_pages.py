"""Every example of the documentation is run. Run as a program, this file writes the function table anew."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dustrun.core.expression import compile_value
from dustrun.core.expression.functions.document import BEGIN, END, function_table
from dustrun.core.values.exact_json import dumps_text, loads
from dustrun.core.workflow.condition import parse_condition

DOCS = Path(__file__).parents[3] / "docs"
REFERENCE = DOCS / "reference" / "expressions.md"
COOKBOOK = DOCS / "guides" / "cookbook.md"

Evaluate = Callable[..., Any]


def examples(language: str) -> Iterator[tuple[str, str]]:
    for block in re.findall(rf"```{language}\n(.*?)```", REFERENCE.read_text(), re.DOTALL):
        for line in block.splitlines():
            text, _, result = line.rpartition("→")
            yield text.rstrip(), result.strip()


def recipes() -> Iterator[tuple[str, dict[str, Any]]]:
    """Each recipe's title and its blocks of JSON by their label."""
    for section in re.split(r"^## ", COOKBOOK.read_text(), flags=re.MULTILINE)[1:]:
        blocks = dict(re.findall(r"```json (\w+)\n(.*?)```", section, re.DOTALL))
        yield section.splitlines()[0], {label: loads(text) for label, text in blocks.items()}


def with_table(page: str) -> str:
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}\n{function_table()}\n{END}{rest.partition(END)[2]}"


@pytest.mark.parametrize(("text", "result"), list(examples("expression")))
def test_expression_of_the_page_gives_what_it_says(evaluate: Evaluate, text: str, result: str) -> None:
    assert dumps_text(evaluate(text)) == dumps_text(loads(result))


@pytest.mark.parametrize(("text", "result"), list(examples("template")))
def test_template_of_the_page_gives_what_it_says(render: Evaluate, text: str, result: str) -> None:
    assert dumps_text(render(text)) == dumps_text(loads(result))


def test_function_table_of_the_page_is_that_of_the_code() -> None:
    page = REFERENCE.read_text()
    assert page == with_table(page)


@pytest.mark.parametrize(("title", "blocks"), list(recipes()))
def test_recipe_gives_what_it_says(world: Evaluate, title: str, blocks: dict[str, Any]) -> None:
    given = blocks.get("given", {})
    roots = world()
    roots.roots = {"$run": roots.root("$run"), **given}
    assert blocks, title
    if "payload" in blocks:
        filled = compile_value(blocks["payload"]).evaluate(roots)
        assert dumps_text(filled) == dumps_text(blocks["gives"])
    if "condition" in blocks:
        assert parse_condition(blocks["condition"]).evaluate(roots) is blocks["holds"]


def test_cookbook_has_twenty_recipes() -> None:
    assert len(list(recipes())) >= 20


if __name__ == "__main__":
    REFERENCE.write_text(with_table(REFERENCE.read_text()))
