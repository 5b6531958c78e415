from __future__ import annotations

from decimal import Decimal
from typing import Any

from dustrun.actions.data.log import Input, Output, log


class Ears:
    """A context that remembers what was said."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str, Any]] = []

    def log(self, message: str, *, level: str = "info", data: Any = None) -> None:
        self.heard.append((message, level, data))


def test_a_text_is_said_as_it_is() -> None:
    ears = Ears()
    assert log.run(Input(message="hello", level="warning", data=[1]), ears) == Output(message="hello")
    assert ears.heard == [("hello", "warning", [1])]


def test_other_values_are_said_as_exact_json() -> None:
    ears = Ears()
    said = log.run(Input(message={"usd": Decimal("0.10")}), ears)
    assert said == Output(message='{"usd":0.10}')
    assert ears.heard == [('{"usd":0.10}', "info", None)]
