"""Starts a run when a token's price crosses a level, or changes by a percentage within a period.

Once a price was seen, `cross-up` and `above` mean the same: a run starts when the price rises to the level, not while
it stays there, and again only after it fell below the level by at least `hysteresisPercent`. `above` and `below` can
also fire on the first price (`fireOnFirst`). `change-percent` compares with the lowest and highest price seen within
`windowMs`.

`source` says where the price must come from; without it, the first of the server's sources that has one is used. If the
price is too old, or no source has one, the poll fails and starts nothing; `lastError` of the trigger says why.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from dustrun.clock import to_rfc3339
from dustrun.core.money.tokens import NATIVE, read_asset_text
from dustrun.core.triggers.polling import Operation, Rule, State, observe
from dustrun.core.values.amounts import Asset
from dustrun.errors import DustrunError, Invalid, Temporary
from dustrun.sdk import Finding, Polled, PolledConfig, PolledEvent, TriggerContext
from dustrun.sdk.chain import Price
from dustrun.sdk.trigger import polled
from dustrun.triggers._event_output import EventOutput, example_output
from dustrun.triggers.chain.chain_config import ChainId, check_chain
from dustrun.triggers.polled.poll_interval import too_often

_MOST_POINTS = 1000
_NUMBER = {"anyOf": [{"type": "string", "pattern": r"^[0-9]{1,40}(\.[0-9]{1,40})?$"}, {"type": "number", "minimum": 0}]}


def _exact(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | str | Decimal):
        raise ValueError('must be a number, like 3000 or "0.015"')
    return value


Exact = Annotated[Decimal, BeforeValidator(_exact), Field(ge=0, lt=10**40), WithJsonSchema(_NUMBER)]


class Config(PolledConfig):
    """Which price, and when it counts."""

    chain_id: ChainId
    asset: str = Field(
        "native",
        max_length=100,
        description="`native`, the address of a token, or a symbol from the chain's file.",
        json_schema_extra={"x-widget": "token"},
    )
    source: Literal["static", "feed", "dex", "http"] | None = Field(
        None,
        description="Where the price must come from: the server's settings, a price feed on the chain, pools of an "
        "exchange, or the server's HTTP source; null: the first that has one.",
    )
    operation: Operation = Field(description="What starts a run.")
    price: Exact | None = Field(None, description="For a crossing: the level in US dollars per whole token, exact.")
    hysteresis_percent: Exact = Field(
        Decimal(0),
        le=100,
        description="For a crossing: how far the price must go back before it can fire again, in percent of the level.",
    )
    percent: Exact | None = Field(None, description="For `change-percent`: the change in percent.")
    window_ms: int = Field(
        3_600_000, ge=1000, le=604_800_000, description="For `change-percent`: the period, in milliseconds."
    )
    direction: Literal["up", "down", "any"] = Field(
        "any", description="For `change-percent`: the direction of the change."
    )
    max_triggers: int | None = Field(
        None, ge=1, le=100_000, description="Events after which the trigger ends. Arming it again resets the count."
    )
    max_age_ms: int | None = Field(
        None, ge=1, description="Maximum age of a price in milliseconds. Feeds also have their own limit."
    )

    @model_validator(mode="after")
    def _check_operation(self) -> Config:
        is_change = self.operation == "change-percent"
        if is_change and not self.percent:
            raise ValueError("change-percent needs percent, more than 0")
        if not is_change and not self.price:
            raise ValueError(f"{self.operation} needs price, more than 0")
        if self.fire_on_first and self.operation not in ("above", "below"):
            raise ValueError(f"fireOnFirst fits above and below; {self.operation} needs a price before")
        if is_change and self.window_ms < self.poll_ms:
            raise ValueError("windowMs must be at least pollMs, or no two prices are in one window")
        if is_change and self.window_ms > self.poll_ms * _MOST_POINTS:
            raise ValueError(f"windowMs must be at most {_MOST_POINTS} times pollMs; look less often")
        return self

    @property
    def rule(self) -> Rule:
        """When a price counts."""
        return Rule(
            self.operation,
            level=self.price or Decimal(0),
            hysteresis=self.hysteresis_percent,
            percent=self.percent or Decimal(0),
            window_ms=self.window_ms,
            direction=self.direction,
            takes_first=self.fire_on_first,
        )


class Output(EventOutput):
    """A price that counts."""

    chain_id: int = Field(description="The chain.")
    token: str = Field(description="Address of the token, or `native`.")
    operation: str = Field(description="What it did.")
    usd: Decimal = Field(description="Exact US dollars per whole token.")
    previous: Decimal | None = Field(description="The price at the previous poll; null at the first.")
    against: Decimal = Field(description="The level, or the price of the window that it is compared with.")
    change_percent: Decimal = Field(
        description="Change in percent: for a crossing from `previous`, otherwise from `against`."
    )
    price_source: str = Field(description="The source of the price.")
    price_at: str = Field(description="When the source set it, RFC 3339.")
    price_age_ms: int = Field(description="How old it was, in milliseconds.")


def _asset(ctx: TriggerContext, config: Config) -> Asset:
    try:
        return Asset(config.chain_id, read_asset_text(ctx.chain(config.chain_id).network, config.asset))
    except ValueError as error:
        raise Invalid(f"asset: {error}") from None


async def _price(ctx: TriggerContext, config: Config) -> Price:
    """The price; raises `DustrunError` if there is none, or it is too old."""
    price = await ctx.prices.price(_asset(ctx, config), config.source)
    if config.max_age_ms is not None and price.age_ms > config.max_age_ms:
        raise Temporary(
            f"The price is stale: {price.source} set it {price.age_ms} ms ago, maxAgeMs allows {config.max_age_ms}."
        )
    return price


async def _check(ctx: TriggerContext, config: Config) -> list[Finding]:
    found = too_often(ctx, config) + await check_chain(ctx, config.chain_id)
    if any(one.field == "chainId" for one in found):
        return found
    try:
        await _price(ctx, config)
    except Temporary as error:
        found.append(Finding("asset", f"There is no usable price now: {error.message}", "warning"))
    except DustrunError as error:
        found.append(Finding("asset", error.message))
    return found


def _payload(config: Config, asset: Asset, price: Price, previous: Decimal | None) -> dict[str, Any]:
    return {
        "chainId": config.chain_id,
        "token": asset.token or NATIVE,
        "operation": config.operation,
        "usd": price.usd,
        "previous": previous,
        "priceSource": price.source,
        "priceAt": to_rfc3339(price.at_ms),
        "priceAgeMs": price.age_ms,
    }


async def _recent(ctx: TriggerContext, config: Config) -> dict[str, Any] | None:
    price = await _price(ctx, config)
    compared = {"against": config.price or price.usd, "changePercent": Decimal(0)}
    return {**_payload(config, _asset(ctx, config), price, None), **compared}


_EXAMPLE = {
    "chainId": 1,
    "token": "native",
    "operation": "cross-up",
    "usd": Decimal("4003.1792"),
    "previous": Decimal("3996.25"),
    "against": Decimal("4000"),
    "changePercent": Decimal("0.1734"),
    "priceSource": "feed",
    "priceAt": "2026-01-31T11:59:12.000Z",
    "priceAgeMs": 48000,
}


@polled(
    config=Config,
    output=Output,
    check=_check,
    recent=_recent,
    example_config={
        "chainId": 1,
        "asset": "native",
        "source": "feed",
        "operation": "cross-up",
        "price": "4000",
        "hysteresisPercent": "1",
        "pollMs": 60000,
    },
    example_output=example_output(_EXAMPLE, "token-price"),
)
async def poll(ctx: TriggerContext, config: Config, cursor: Any) -> Polled:
    """Asks for the price, and compares it with what was seen before."""
    price, now = await _price(ctx, config), ctx.now_ms
    before = State() if cursor is None else State.read(cursor)
    seen = observe(config.rule, before, price.usd, now)
    is_over = config.max_triggers is not None and seen.state.fired >= config.max_triggers
    events = []
    if seen.hit is not None:
        compared = {"against": seen.hit.against, "changePercent": seen.hit.change_percent}
        payload = {**_payload(config, _asset(ctx, config), price, before.previous), **compared}
        events.append(PolledEvent(str(now), payload, now))
    return Polled(events, seen.state.stored(), is_over=is_over)
