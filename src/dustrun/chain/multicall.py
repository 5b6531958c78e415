"""Many calls at one block: one Multicall3 call if the chain has it, else a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from dustrun.chain import wire
from dustrun.chain.endpoints import Endpoints
from dustrun.chain.failures import Kind, kind_of, to_error
from dustrun.chain.rpc import Request, RpcError
from dustrun.core.evm.abi import AbiFault
from dustrun.core.evm.abi_signatures import parse_function
from dustrun.core.evm.network import Network
from dustrun.sdk.chain import CallResult, ChainCall

_LEAST: Final = 3  # fewer are as cheap one by one
_MOST: Final = 100
_AGGREGATE: Final = (
    "aggregate3((address target, bool allowFailure, bytes callData)[] calls) "
    "returns ((bool success, bytes returnData)[] results)"
)


async def call_many(endpoints: Endpoints, network: Network, calls: Sequence[ChainCall]) -> list[CallResult]:
    """The results of calls at one block, in order; a revert fails only its own call."""
    if not calls:
        return []
    is_plain = all(call.sender is None and not call.value_units for call in calls)
    if network.multicall3 is not None and is_plain and _LEAST <= len(calls) <= _MOST:
        found = await _aggregate(endpoints, network.multicall3, calls)
        if found is not None:
            return found
    return await _batch(endpoints, calls)


async def _aggregate(endpoints: Endpoints, contract: str, calls: Sequence[ChainCall]) -> list[CallResult] | None:
    """The results by one Multicall3 call; None if there is no contract or the calls exceed its limits."""
    function = parse_function(_AGGREGATE)
    asked = function.encode([[call.to, True, wire.hexed(call.data)] for call in calls])
    try:
        answer = await endpoints.call("eth_call", wire.call_fields(ChainCall(contract, asked)), "latest")
        results = function.decode_result(wire.data(answer))[0]
    except (RpcError, AbiFault):
        return None
    return [CallResult(is_success, wire.data(data)) for is_success, data in results]


async def _batch(endpoints: Endpoints, calls: Sequence[ChainCall]) -> list[CallResult]:
    """All at the current head's number, so that a new block cannot separate them."""
    try:
        at = await endpoints.call("eth_blockNumber")
        answers = await endpoints.batch([Request("eth_call", (wire.call_fields(call), at)) for call in calls])
    except RpcError as error:
        raise to_error(error, "A read") from None
    return [_result(answer) for answer in answers]


def _result(answer: object) -> CallResult:
    if not isinstance(answer, RpcError):
        return CallResult(True, wire.data(answer))
    if kind_of(answer) in (Kind.REVERTED, Kind.GAS):
        return CallResult(False, answer.data or b"")
    raise to_error(answer, "A read")
