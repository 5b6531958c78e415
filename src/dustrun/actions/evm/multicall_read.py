"""Calls many contract functions at once, all at the same block.

Use it for prices of many pools or balances of many holders: it costs one request (through the chain's Multicall3
contract if it has one), and all results are from the same block. A call that reverts fails the node, unless it sets
`allowFailure`. Each call is written as in `read-contract`.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from dustrun.actions.evm.contract_calls import CallFields, check_code, read_calldata, read_function, show_result
from dustrun.actions.evm.fields import ChainId
from dustrun.core.evm.abi import Function
from dustrun.errors import Temporary
from dustrun.sdk import Context, Effect, Fields, Origin, action
from dustrun.sdk.chain import CallResult, Chain, ChainCall


class ContractCall(CallFields):
    """One call."""

    allow_failure: bool = Field(False, description="Whether the node continues if this call reverts.")


class Input(Fields):
    """The calls to make."""

    chain_id: ChainId
    calls: list[ContractCall] = Field(min_length=1, max_length=500, description="The calls, in order.")


class CallOutcome(Fields):
    """The result of one call."""

    success: bool = Field(description="Whether it succeeded.")
    value: Any = Field(description="The single result; an object by name if there are several; null if there is none.")
    values: dict[str, Any] = Field(description="All results by name; unnamed ones by index.")
    data: str = Field(description="Return data, or the revert data, as 0x-hex.")


class Output(Fields):
    """The results."""

    results: list[CallOutcome] = Field(description="The results, in the order of the calls.")
    failed: int = Field(description="Number of calls that reverted.")


async def _answer(
    chain: Chain, call: ContractCall, place: int, asked: tuple[Function, ChainCall], found: CallResult
) -> CallOutcome:
    function, request = asked
    at = f"calls[{place}]."
    if not found.is_success:
        if not call.allow_failure:
            await chain.call(request)
            raise Temporary(f"calls[{place}] reverted in the batch but not alone: the chain has advanced since.")
        return CallOutcome(success=False, value=None, values={}, data=f"0x{found.data.hex()}")
    if not found.data and function.outputs:
        await check_code(chain, call.contract, f"{at}contract")
    value, values = show_result(function, found.data, f"{at}function")
    return CallOutcome(success=True, value=value, values=values, data=f"0x{found.data.hex()}")


@action(
    effect=Effect.READ,
    input=Input,
    output=Output,
    example_input={
        "chainId": 1,
        "calls": [
            {
                "contract": "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48",
                "function": "balanceOf(address) returns (uint256)",
                "args": ["0x70997970C51812dc3A010C7d01b50e0d17dc79C8"],
            }
        ],
    },
    example_output={
        "results": [
            {
                "success": True,
                "value": "25000000",
                "values": {"0": "25000000"},
                "data": "0x00000000000000000000000000000000000000000000000000000000017d7840",
            }
        ],
        "failed": 0,
    },
    origins=[Origin("chain", "chainId"), Origin("contract", "calls")],
    tags=("evm", "contract"),
)
async def multicall_read(input: Input, ctx: Context) -> Output:
    """Encodes, calls and decodes the batch."""
    chain = ctx.chain(input.chain_id)
    asked = []
    for place, call in enumerate(input.calls):
        function = read_function(call.function, call.abi, f"calls[{place}].")
        data = read_calldata(function, call.args, f"calls[{place}].")
        asked.append((function, ChainCall(call.contract, data)))
    found = await chain.call_many([request for _, request in asked])
    results = [await _answer(chain, call, place, asked[place], found[place]) for place, call in enumerate(input.calls)]
    return Output(results=results, failed=sum(not answer.success for answer in results))
