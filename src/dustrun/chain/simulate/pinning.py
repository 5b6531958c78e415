"""Pins the block that a simulation starts from: the head, or a block of the past."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from dustrun import clock
from dustrun.chain import fees, wire
from dustrun.chain.evm import LiveChain
from dustrun.chain.failures import to_error
from dustrun.chain.rpc import RpcError, RpcRequest
from dustrun.chain.simulate.fork import Fork
from dustrun.core.run.as_of import AsOf
from dustrun.core.values.addresses import checksum
from dustrun.errors import Invalid
from dustrun.sdk.chain import Block, Fees

_MOST_GAS: Final = 30_000_000  # nodes cap the gas of a simulated call


async def pin(live: LiveChain, as_of: AsOf | None = None) -> Fork:
    """Pins the chain's head and current fees, or the block of `as_of` with the fees after it. If the head is old,
    simulated time starts now, like the next block's. Raises `Temporary` when no endpoint answers, `Invalid` when there
    is no such block.
    """
    if as_of is None:
        fork = await _read(live, "latest")
        fork.waited_s = max(0, clock.now_ms() // 1000 - fork.time - 1)
        return fork
    number = as_of.blocks.get(live.network.chain_id)
    if number is None:
        number = (await block_at(live, as_of.at_ms)).number
    return await _read(live, hex(number))


async def block_at(live: LiveChain, at_ms: int) -> Block:
    """The last block that is not later than a moment, found by halving. Raises `Invalid` if the chain is younger."""
    at_s, high = at_ms // 1000, await _found(live, "latest")
    if high.time <= at_s:
        return high
    low = await _found(live, 0)
    if low.time > at_s:
        first = clock.to_rfc3339(low.time * 1000)
        raise Invalid(f"{live.network.name} has no block at {clock.to_rfc3339(at_ms)}: its first one is of {first}.")
    while high.number - low.number > 1:
        middle = await _found(live, (low.number + high.number) // 2)
        low, high = (middle, high) if middle.time <= at_s else (low, middle)
    return low


async def _found(live: LiveChain, at: int | str) -> Block:
    block = await live.find_block(at)
    if block is None:
        raise Invalid(f"{live.network.name} has no block {at}.")
    return block


async def _read(live: LiveChain, at: str) -> Fork:
    doing = f"Pinning a block of {live.network.name}"
    is_legacy = live.network.fee_model == "legacy"
    priced_by = fees.GAS_PRICE if is_legacy else fees.history(at)
    try:
        block, priced = await live.endpoints.batch([RpcRequest("eth_getBlockByNumber", (at, False)), priced_by])
    except RpcError as error:
        raise to_error(error, doing) from None
    for answer in (block, priced):
        if isinstance(answer, RpcError):
            raise to_error(answer, doing)
    if block is None:
        raise Invalid(f"{live.network.name} has no block {int(at, 16)} yet.")
    return _fork(block, fees.legacy(priced) if is_legacy else fees.from_history(priced))


def _fork(answer: Mapping[str, Any], bid: Fees) -> Fork:
    block = wire.block(answer)
    return Fork(
        number=block.number,
        hash=block.hash,
        time=block.time,
        gas_limit=min(wire.quantity(answer.get("gasLimit")), _MOST_GAS),
        fees=bid,
        producer=checksum(answer["miner"]) if answer.get("miner") else None,
    )
