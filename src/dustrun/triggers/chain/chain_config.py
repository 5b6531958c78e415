"""Parts that the triggers of a chain share: config, additions to the output, and the check of contracts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from dustrun.core.triggers.chain.watch import FINALIZED
from dustrun.core.values.addresses import read_address
from dustrun.core.values.amounts import read_units
from dustrun.errors import Invalid, Temporary
from dustrun.sdk.fields import ChainId as ChainId
from dustrun.sdk.trigger import Finding, TriggerConfig, TriggerContext, WatchedChain
from dustrun.triggers._event_output import EventOutput

_MOST: Final = 100
_DIGITS: Final = {"type": "string", "pattern": "^[0-9]{1,78}$"}
_ONE: Final = {"type": "string", "format": "evm-address", "x-widget": "address"}


def _read_addresses(value: Any) -> tuple[str, ...]:
    several = [value] if isinstance(value, str) else value
    if not isinstance(several, list | tuple) or not several:
        raise ValueError("must be an address, or a list of addresses")
    if len(several) > _MOST:
        raise ValueError(f"has {len(several)} addresses; at most {_MOST}")
    return tuple(dict.fromkeys(read_address(one) for one in several))


Address = Annotated[str, AfterValidator(read_address), WithJsonSchema(_ONE)]
Addresses = Annotated[
    tuple[str, ...],
    BeforeValidator(_read_addresses),
    WithJsonSchema({"anyOf": [_ONE, {"type": "array", "items": _ONE, "minItems": 1, "maxItems": _MOST}]}),
]
"""One address, or several."""
Units = Annotated[
    int,
    BeforeValidator(read_units),
    WithJsonSchema({"anyOf": [_DIGITS, {"type": "integer", "minimum": 0}]}),
]
"""An exact amount in base units."""


class ChainConfig(TriggerConfig):
    """Settings of every trigger of a chain."""

    chain_id: ChainId
    confirmations: Annotated[int, Field(ge=0, le=200)] | Literal["finalized"] | None = Field(
        None,
        description="How many blocks must be on top of an event's block: a reorg of that many blocks cannot touch it. "
        "`finalized`: what the chain has finalized. Null: the chain's own default. 0 is for what is cheap to undo.",
    )
    on_reorg: Literal["ignore", "retract"] = Field(
        "ignore",
        description="When a deeper reorg removes an event: `ignore` marks it as orphaned; `retract` also starts a run "
        "whose `reorg` is `retracted`, and one with `restored` if it comes back.",
        json_schema_extra={"x-group": "Delivery"},
    )

    @property
    def watched(self) -> dict[str, Any]:
        """The arguments that every `Watch` takes from it."""
        return {"chain_id": self.chain_id, "confirmations": self.confirmations, "on_reorg": self.on_reorg}


class FromBlock(ChainConfig):
    """Triggers that can begin in the past."""

    from_block: int | None = Field(
        None,
        ge=0,
        description="The first block whose events count; null: the first after the trigger was armed.",
        json_schema_extra={"x-group": "Delivery"},
    )

    @property
    def watched(self) -> dict[str, Any]:
        """The arguments that every `Watch` takes from it."""
        return {**super().watched, "from_block": self.from_block}


class ChainOutput(EventOutput):
    """The keys of the payload, and these."""

    chain_id: int = Field(description="The chain.")
    block_number: int = Field(description="The block that it is in.")
    block_hash: str = Field(description="That block's hash.")
    block_time: int = Field(description="That block's time, in seconds since the epoch.")
    reorg: Literal["retracted", "restored"] | None = Field(
        None, description="`retracted`: a reorg removed the event; `restored`: it is back; null: it is new."
    )


BLOCK: Final[dict[str, Any]] = {
    "chainId": 1,
    "blockNumber": 22000000,
    "blockHash": "0x5e22a1ddfd8b1f2b5a5e7a9f2b1c1d0e3f4a5b6c7d8e9f0a1b2c3d4e5f607182",
    "blockTime": 1769860800,
    "reorg": None,
}
TRANSACTION: Final[dict[str, Any]] = {
    "transactionHash": "0x88df016429689c079f3b2f6ad39fa052532c56795b733da78a91ebe6a713944b",
    "transactionIndex": 4,
}
HOLDER: Final = "0xd8dA6BF26964aF9D7eEd9e03E53415D37aA96045"
OTHER: Final = "0x28C6c06298d514Db089934071355E5743bf21d60"
USDC: Final = "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48"


async def check_watched(
    ctx: TriggerContext, config: ChainConfig, contracts: Sequence[tuple[str, str]] = ()
) -> list[Finding]:
    """What keeps a trigger of a chain from watching: what `check_chain` finds, or that nothing is final there."""
    found = await check_chain(ctx, config.chain_id, contracts)
    if config.confirmations == FINALIZED and not any(one.field == "chainId" for one in found):
        found += await _check_finality(ctx.chain(config.chain_id))
    return found


async def _check_finality(chain: WatchedChain) -> list[Finding]:
    name = f"{chain.network.name} (chain {chain.network.chain_id})"
    try:
        if await chain.finalized() is not None:
            return []
    except Temporary as error:
        return [Finding("confirmations", f"could not be checked: {error.message}", "warning")]
    return [Finding("confirmations", f"no endpoint of {name} says which block is finalized; set a number of blocks")]


async def check_chain(ctx: TriggerContext, chain_id: int, contracts: Sequence[tuple[str, str]] = ()) -> list[Finding]:
    """What keeps a trigger from watching: an unknown chain, or an address (with its field) that is no contract. If no
    endpoint answers, contracts are not checked."""
    try:
        chain = ctx.chain(chain_id)
    except Invalid as error:
        return [Finding("chainId", error.message)]
    found: list[Finding] = []
    for field, address in contracts:
        try:
            has_code = bool(await chain.code(address))
        except Temporary as error:
            return [*found, Finding(field, f"could not be checked: {error.message}", "warning")]
        if not has_code:
            where = f"{chain.network.name} (chain {chain_id})"
            found.append(Finding(field, f"there is no contract at {address} on {where}; check address and chainId"))
    return found
