"""Shared by wrapping and unwrapping: the WETH-like contract of a chain, and the amount."""

from __future__ import annotations

from dataclasses import dataclass

from dustrun.actions.evm.coins import Coin, native_coin, read_token
from dustrun.core.evm.abi import Event
from dustrun.core.money.intent import Receipt
from dustrun.sdk.chain import Chain
from dustrun.sdk.refusal import refuse


@dataclass(frozen=True, slots=True)
class Pair:
    """The native coin and its wrapped token."""

    native: Coin
    wrapped: Coin


async def read_pair(chain: Chain, field: str = "chainId") -> Pair:
    """The pair of a chain; raises `Invalid` if the chain's file has no wrapped token."""
    address = chain.network.wrapped_native
    if address is None:
        raise refuse(f"{chain.network.name} has no wrapped native token in its file (wrappedNative)", field)
    return Pair(native_coin(chain), await read_token(chain, address, field))


def event_amount(receipt: Receipt, contract: str, event: Event, party: str) -> int:
    """The amount in the contract's events for one address."""
    found = [event.find(log.topics, log.data) for log in receipt.logs if log.address == contract]
    return sum(values["value"] for values in found if values is not None and party in values.values())
