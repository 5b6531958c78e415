"""Calls a function of a contract that changes nothing, and gives what it returns.

Use it for everything that has no action of its own: a pool's reserves, a vault's rate, an owner. The function is a
signature with its results (`getReserves() returns (uint112 a, uint112 b, uint32 at)`) or a name in `abi`. Of the
results, integers up to 48 bits are numbers and larger ones texts of digits, by their type, so that none loses a digit;
`int(…)` makes a number of such a text in an expression. For many calls at once use `multicall-read`.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from dustrun.actions.evm.contract_calls import CallFields, check_code, read_calldata, read_function, show_result
from dustrun.actions.evm.fields import Address, ChainId
from dustrun.sdk import Context, Effect, Fields, action
from dustrun.sdk.chain import ChainCall


class Input(CallFields):
    """What is asked."""

    chain_id: ChainId
    sender: Address | None = Field(None, description="Whose call it is, where the contract looks at that.")


class Output(Fields):
    """What came back."""

    value: Any = Field(description="The one result; an object by name when there are several; null without any.")
    values: dict[str, Any] = Field(description="All results by name; those without a name by place: `0`, `1`.")
    data: str = Field(description="What came back as 0x-hex.")


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
    tags=("evm", "contract"),
)
async def read_contract(input: Input, ctx: Context) -> Output:
    """Encodes, calls, decodes."""
    chain = ctx.chain(input.chain_id)
    function = read_function(input.function, input.abi)
    asked = read_calldata(function, input.args)
    data = await chain.call(ChainCall(input.contract, asked, input.sender, is_view=True))
    if not data:
        await check_code(chain, input.contract)
    value, values = show_result(function, data)
    return Output(value=value, values=values, data=f"0x{data.hex()}")
