"""Starts a run when a number that a contract's view function returns goes above or below a level.

Use it for the health factor of a loan, a pool's rate, the amount that a vault holds. It fires on the crossing, not
while the value stays there, and again only after it was back on the other side, by at least `hysteresisPercent` of the
level. Changes between two polls are not seen. The first poll starts nothing, unless `fireOnFirst` is true and the value
is already there.
"""

from __future__ import annotations

from decimal import Context, Decimal, InvalidOperation
from typing import Any, Final, Literal

from pydantic import Field, field_validator

from dustrun.clock import to_rfc3339
from dustrun.core.expression import ExpressionError
from dustrun.core.triggers.polling import Level, compile_over
from dustrun.errors import DustrunError, Invalid, Temporary
from dustrun.sdk import Finding, Polled, PolledEvent, TriggerContext
from dustrun.sdk.fields import raw
from dustrun.sdk.trigger import polled
from dustrun.triggers._event_output import EventOutput, example_output
from dustrun.triggers.chain.chain_config import check_chain
from dustrun.triggers.polled.evm_call_changed import CallConfig, read
from dustrun.triggers.polled.poll_interval import too_often
from dustrun.triggers.polled.token_price import Exact

_NAMES: Final = ("result",)
_EXACT: Final = Context(prec=120)


class Config(CallConfig):
    """The call, and the level."""

    value: str = raw(
        "result",
        max_length=4000,
        description="The number, as an expression over `result`: the function's result, or an object by name if it has "
        "several, like `result.healthFactor`.",
    )
    decimals: int = Field(
        0, ge=0, le=78, description="Decimals of the number: with 18, 1500000000000000000 is compared as 1.5."
    )
    operation: Literal["above", "below"] = Field(description="On which side of the level it fires; the level counts.")
    level: Exact = Field(description="The level, exact.")
    hysteresis_percent: Exact = Field(
        Decimal(0),
        le=100,
        description="How far the value must go back before it can fire again, in percent of the level.",
    )

    @field_validator("value")
    @classmethod
    def _check_value(cls, text: str) -> str:
        compile_over(text, _NAMES)
        return text

    @property
    def watched(self) -> Level:
        """The level, ready to be compared with."""
        return Level(self.operation == "above", self.level, self.hysteresis_percent, self.fire_on_first)


class Output(EventOutput):
    """A crossing."""

    chain_id: int = Field(description="The chain.")
    contract: str = Field(description="The contract.")
    function: str = Field(description="The function's signature.")
    operation: str = Field(description="What it did.")
    value: str = Field(description="The number now, with its decimals applied.")
    previous: str | None = Field(description="The number at the previous poll; null at the first.")
    level: str = Field(description="The level.")
    block_number: int = Field(description="The newest block when it was seen.")
    seen_at: str = Field(description="When it was seen, RFC 3339.")


async def _number(ctx: TriggerContext, config: Config, seen: int = 0) -> tuple[Decimal, int]:
    result, block = await read(ctx, config, seen)
    try:
        found = compile_over(config.value, _NAMES).value(result=result)
        if isinstance(found, bool) or not isinstance(found, int | str | Decimal):
            raise InvalidOperation
        return _EXACT.scaleb(Decimal(found), -config.decimals), block
    except ExpressionError as error:
        raise Invalid(f"`value` does not fit the result: {error}") from None
    except InvalidOperation:
        raise Invalid("`value` is no number. Choose a part of the result, like `result.healthFactor`.") from None


async def _check(ctx: TriggerContext, config: Config) -> list[Finding]:
    found = too_often(ctx, config) + await check_chain(ctx, config.chain_id, [("contract", config.contract)])
    if any(one.severity == "error" for one in found):
        return found
    try:
        await _number(ctx, config)
    except Temporary as error:
        found.append(Finding("function", f"could not be called now: {error.message}", "warning"))
    except DustrunError as error:
        found.append(Finding("value" if "`value`" in error.message else "function", error.message))
    return found


def _payload(config: Config, value: Decimal, previous: str | None, block: int, now: int) -> dict[str, Any]:
    return {
        "chainId": config.chain_id,
        "contract": config.contract,
        "function": config.called[0].signature,
        "operation": config.operation,
        "value": f"{value:f}",
        "previous": previous,
        "level": f"{config.level:f}",
        "blockNumber": block,
        "seenAt": to_rfc3339(now),
    }


async def _recent(ctx: TriggerContext, config: Config) -> dict[str, Any] | None:
    value, block = await _number(ctx, config)
    return _payload(config, value, None, block, ctx.now_ms)


_AAVE = "0x87870Bca3F3fD6335C3F4ce8392D69350B4fA4E2"
_EXAMPLE = {
    "chainId": 1,
    "contract": _AAVE,
    "function": "getUserAccountData(address)",
    "operation": "below",
    "value": "1.1873",
    "previous": "1.2204",
    "level": "1.2",
    "blockNumber": 22000000,
    "seenAt": "2026-01-31T12:00:00.000Z",
}


@polled(
    config=Config,
    output=Output,
    check=_check,
    recent=_recent,
    example_config={
        "chainId": 1,
        "contract": _AAVE,
        "function": "getUserAccountData(address user) view returns (uint256 totalCollateralBase, "
        "uint256 totalDebtBase, uint256 availableBorrowsBase, uint256 currentLiquidationThreshold, uint256 ltv, "
        "uint256 healthFactor)",
        "args": ["0x70997970C51812dc3A010C7d01b50e0d17dc79C8"],
        "value": "result.healthFactor",
        "decimals": 18,
        "operation": "below",
        "level": "1.2",
        "hysteresisPercent": "5",
        "pollMs": 60000,
    },
    example_output=example_output(_EXAMPLE, "evm-call-level"),
)
async def poll(ctx: TriggerContext, config: Config, cursor: Any) -> Polled:
    """Calls, and compares with the level."""
    before: Any = {"ready": None, "value": None, "block": 0} if cursor is None else cursor
    (value, block), now = await _number(ctx, config, before["block"]), ctx.now_ms
    ready, fires = config.watched.observe(before["ready"], value)
    is_same = before["value"] == f"{value:f}" and before["ready"] == ready
    after = before if is_same else {"ready": ready, "value": f"{value:f}", "block": block}
    if not fires:
        return Polled((), after)
    return Polled([PolledEvent(str(now), _payload(config, value, before["value"], block, now), now)], after)
