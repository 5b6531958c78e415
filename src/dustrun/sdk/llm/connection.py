"""The data of a connector for models: where they are, their key, and what they cost."""

from __future__ import annotations

import asyncio
import importlib
from dataclasses import replace
from decimal import Decimal
from typing import Annotated, Final

from pydantic import Field, StringConstraints

from dustrun.core.text.masking import hide
from dustrun.core.values.exact_json import dumps_text
from dustrun.core.values.fields import Fields
from dustrun.errors import Code, Permanent, Refused
from dustrun.log import mask_text
from dustrun.sdk.connector import HttpData
from dustrun.sdk.context import Connection, Http
from dustrun.sdk.llm.messages import ModelAnswer, ModelQuestion, ModelText, ModelToolCall, OnText, Part, ToolReturn

Usd = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,9}(\.[0-9]{1,12})?$")]
ModelName = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[\x21-\x7e]+$")]
ANY = "*"
_MILLION = 1_000_000


class ModelPrice(Fields):
    """A model's price, in US dollars per million tokens."""

    input_usd: Usd = Field(description="US dollars per million tokens that it reads.")
    output_usd: Usd = Field(description="US dollars per million tokens that it writes.")

    def cost(self, input_tokens: int, output_tokens: int) -> Decimal:
        """The cost in US dollars, exactly."""
        return (Decimal(self.input_usd) * input_tokens + Decimal(self.output_usd) * output_tokens) / _MILLION

    def most_output(self, usd: Decimal, most: int) -> int:
        """How many tokens may be written for that much, at most `most`."""
        price = Decimal(self.output_usd)
        return most if price == 0 else max(0, min(most, int(usd * _MILLION / price)))


class ModelData(HttpData):
    """Base of connectors for models; each adds `baseUrl` and `apiKey`."""

    base_url: str
    model: ModelName = Field(description="The model that is asked unless a node names another.")
    prices: dict[ModelName, ModelPrice] = Field(
        description="Prices by model; `*` stands for every other model. A model without a price is not asked.",
        max_length=200,
    )

    @property
    def holds_schema(self) -> bool:
        """Whether the server can hold a model's answer to a JSON Schema."""
        return False

    def price_of(self, model: str) -> ModelPrice:
        """The model's price; raises `Refused` if there is none, since then its cost could not be limited."""
        found = self.prices.get(model) or self.prices.get(ANY)
        if found is None:
            raise Refused(
                f'The connector has no price for the model "{model[:100]}", so its cost cannot be limited; add it to '
                "`data.prices`.",
                code=Code.MODEL_UNPRICED,
            )
        return found


# Asks a model once, within a budget.


_LEAST_OUTPUT: Final = 16
_OVERHEAD: Final = 1_000
"""Tokens that a vendor may add to a request, such as its own words about tools."""


async def ask(http: Http, connection: Connection, asked: ModelQuestion, on_text: OnText | None = None) -> ModelAnswer:
    """The model's answer; `on_text` is told its text while it comes. Raises `Refused` if it could cost more than it
    may, `Temporary` if asking again may help, and `Permanent` otherwise. Nothing is asked twice."""
    data: ModelData = connection.data
    price = data.price_of(asked.model)
    hidden = replace(asked, system=_masked(asked.system), parts=tuple(map(_hidden, asked.parts)))
    reserved = most_input(hidden)
    limited = replace(hidden, most_output=_limit(price, hidden, reserved))
    try:  # slow import, and an optional dependency
        protocol = await asyncio.to_thread(importlib.import_module, "dustrun.sdk.llm.protocol")
    except ImportError as error:
        raise Permanent(
            f"This server was installed without the packages for models: pip install 'dustrun[assistant]' "
            f"({error.name} is missing)."
        ) from None
    answer: ModelAnswer = await protocol.request(http, connection, limited, on_text)
    if not answer.input_tokens and not answer.output_tokens:  # not told: it counts as much as it may have been
        answer = replace(answer, input_tokens=reserved, output_tokens=limited.most_output)
    return replace(answer, cost=price.cost(answer.input_tokens, answer.output_tokens))


def most_input(asked: ModelQuestion) -> int:
    """At most how many tokens a request has: no token is shorter than a byte."""
    tools = sum(len(dumps_text([one.name, one.about, one.schema]).encode()) for one in asked.tools)
    schema = 0 if asked.answer_schema is None else len(dumps_text(asked.answer_schema).encode())
    return _OVERHEAD + len(asked.system.encode()) + tools + schema + sum(map(_size, asked.parts))


def _size(part: Part) -> int:
    shown = part.text if isinstance(part, ModelText | ToolReturn) else dumps_text([part.tool, part.args])
    return len(shown.encode()) + 32


def _limit(price: ModelPrice, asked: ModelQuestion, reserved: int) -> int:
    """How many tokens the model may write."""
    left = asked.most_usd - price.cost(reserved, 0)
    most = price.most_output(left, asked.most_output) if left >= 0 else 0
    if most < min(_LEAST_OUTPUT, asked.most_output):
        raise Refused(
            f"Asking the model could cost more than {asked.most_usd} USD: its request alone has up to {reserved} "
            f"tokens, which is {price.cost(reserved, 0)} USD. Allow more, or ask it less.",
            code=Code.MODEL_OVER_BUDGET,
        )
    return most


def _hidden(part: Part) -> Part:
    """The part without API keys, tokens of links, and marks of signatures."""
    if isinstance(part, ModelToolCall):
        return part
    return replace(part, text=_masked(part.text))


def _masked(text: str) -> str:
    return hide(mask_text(text))


def usd(cost: Decimal) -> str:
    """A cost as the API shows it."""
    return f"{cost.normalize():f}"
