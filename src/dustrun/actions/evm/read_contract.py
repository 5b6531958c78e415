"""Calls a contract function without a transaction and returns its result.

Use it for everything without an action of its own: a pool's reserves, a vault's rate, an owner. The function is a
signature with its return types (`getReserves() returns (uint112 a, uint112 b, uint32 at)`) or a name in `abi`. Integer
types up to 48 bits become numbers and wider ones strings of digits, so that no digit is lost; `int(…)` in an expression
turns such a string into a number. For many calls at once use `multicall-read`.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from dustrun.actions.evm.contract_calls import CallFields, check_code, read_calldata, read_function, show_result
from dustrun.actions.evm.fields import Address, ChainId
from dustrun.sdk import Context, Effect, Fields, Origin, action
from dustrun.sdk.chain import ChainCall


class Input(CallFields):
    """The call to make."""

    chain_id: ChainId
    sender: Address | None = Field(None, description="Sender address of the call, for contracts that check it.")


class Output(Fields):
    """The result."""

    value: Any = Field(description="The single result; an object by name if there are several; null if there is none.")
    values: dict[str, Any] = Field(description="All results by name; unnamed ones by index: `0`, `1`.")
    data: str = Field(description="Return data as 0x-hex.")


@action(
    effect=Effect.READ,
    input=Input,
    output=Output,
    example_input={
        "chainId": 1,
        "contract": "0xB4e16d0168e52d35CaCD2c6185b44281Ec28C9Dc",
        "function": "getReserves() returns (uint112 reserve0, uint112 reserve1, uint32 at)",
    },
    example_output={
        "value": {"reserve0": "27453918234567", "reserve1": "9011223344556677889900", "at": 1769860800},
        "values": {"reserve0": "27453918234567", "reserve1": "9011223344556677889900", "at": 1769860800},
        "data": "0x000000000000000000000000000000000000000000000000000018f80d35b907",
    },
    origins=[Origin("chain", "chainId"), Origin("contract", "contract")],
    tags=("evm", "contract"),
)
async def read_contract(input: Input, ctx: Context) -> Output:
    """Encodes, calls and decodes."""
    chain = ctx.chain(input.chain_id)
    function = read_function(input.function, input.abi)
    asked = read_calldata(function, input.args)
    data = await chain.call(ChainCall(input.contract, asked, input.sender, is_view=True))
    if not data:
        await check_code(chain, input.contract)
    value, values = show_result(function, data)
    return Output(value=value, values=values, data=f"0x{data.hex()}")
