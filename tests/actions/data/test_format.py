from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from dustrun.actions.data.format import format_template
from dustrun.errors import Invalid
from dustrun.sdk.testing import perform


async def text(template: str, values: list[Any] | None = None, world: dict[str, Any] | None = None) -> Any:
    return (await perform(format_template, {"template": template, "values": values}, None, world))["text"]


async def test_without_values_the_template_is_the_text() -> None:
    assert await text("100% of {{$item.usd}} USD", None, {"$item": {"usd": Decimal("0.10")}}) == "100% of 0.10 USD"


async def test_clauses_are_filled_in_order() -> None:
    assert await text("%s|%d|%.3f|%x|100%%", ["é", 10**30, Decimal("2.5"), 255]) == f"é|{10**30}|2.500|ff|100%"


@pytest.mark.parametrize(
    ("template", "values", "message"),
    [
        ("%s", [], "There are more clauses than the 0 values."),
        ("%s", [1, 2], "There are 2 values for 1 clauses."),
        ("%d", ["x"], "%d does not take a string."),
        ("%q", [1], "The clauses are %s"),
        ("%.999f", [1], "At most 100 digits after the decimal point."),
    ],
)
async def test_clauses_and_values_must_fit(template: str, values: list[Any], message: str) -> None:
    with pytest.raises(Invalid) as caught:
        await text(template, values)
    assert caught.value.message.startswith(message)
    assert caught.value.public_details()[0]["field"] == "payload.template"


async def test_the_text_has_a_limit() -> None:
    with pytest.raises(Invalid, match="too large"):
        await text("%s" * 20, ["x" * 100_000] * 20)
