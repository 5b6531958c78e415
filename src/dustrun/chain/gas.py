"""Gas estimation through a chain's endpoints."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from dustrun.chain import wire
from dustrun.chain.endpoints import Endpoints
from dustrun.chain.failures import Kind, kind_of, to_error
from dustrun.chain.rpc import RpcError
from dustrun.core.evm.network import Network
from dustrun.sdk.chain import Block


async def estimate(
    endpoints: Endpoints,
    network: Network,
    head: Callable[[], Awaitable[Block]],
    fields: Mapping[str, str],
    errors: Sequence[Mapping[str, Any]] = (),
) -> int:
    """The gas estimate for this block or the next, whichever is higher: what a contract does once per block or second
    is cheap within the block that did it. Raises `Permanent` with the decoded reason if the transaction would revert,
    `Invalid` if the sender lacks the value.
    """
    try:
        if fields["data"] == "0x":
            return wire.quantity(await endpoints.call("eth_estimateGas", fields))
        now, newest = await asyncio.gather(endpoints.call("eth_estimateGas", fields), head())
        return max(wire.quantity(now), await _estimate_after(endpoints, network, newest, fields))
    except RpcError as error:
        raise to_error(error, "The transaction", errors) from None


async def _estimate_after(endpoints: Endpoints, network: Network, head: Block, fields: Mapping[str, str]) -> int:
    """The estimate for the next block; 0 if the endpoint does not support block overrides."""
    later_s = max(1, network.block_time_ms // 1000)
    ahead = {"number": hex(head.number + 1), "time": hex(head.time + later_s)}
    try:
        return wire.quantity(await endpoints.call("eth_estimateGas", fields, "latest", {}, ahead))
    except RpcError as error:
        if kind_of(error) in (Kind.OTHER, Kind.NO_METHOD, Kind.NO_STATE):
            return 0
        raise
