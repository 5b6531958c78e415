"""The data of a connector for models: where they are, their key, and what they cost."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from pydantic import Field, StringConstraints

from dustrun.core.values.fields import Fields
from dustrun.errors import Code, Refused
from dustrun.sdk.connector import HttpData

Usd = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,9}(\.[0-9]{1,12})?$")]
ModelName = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[\x21-\x7e]+$")]
ANY = "*"
_MILLION = 1_000_000


class ModelPrice(Fields):
    """What a model costs, in US dollars per million tokens."""

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
